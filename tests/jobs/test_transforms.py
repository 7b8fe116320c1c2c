"""The transforms for other people's graphs, each against the job or function that does the same."""

import collections
import json
import pickle
from pathlib import Path

import apache_beam as beam
import coco_cases
import fussy_predictor
import numpy as np
import pytest
from apache_beam.ml.inference.base import KeyedModelHandler, RunInference
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.testing import test_pipeline
from apache_beam.testing.util import assert_that, equal_to
from apache_beam.typehints.decorators import TypeCheckError
from small_dataset import SmallDataset

import deepmac
from deepmac.data.decode import decode_rgb
from deepmac.data.failures import Failure
from deepmac.data.predictions import read_unit
from deepmac.errors import OptionError
from pipelines import infer, transforms
from pipelines.model_handler import DeepmacModelHandler, SplitLabelled
from pipelines.transforms import (
    BoxedImage,
    EvaluateMasks,
    EvaluationResult,
    LabelImages,
    LabelledImage,
    Parameters,
    Settings,
)

FUSSY = "fussy_predictor:FussyPredictor"
TWO_PROCESSES = ["--direct_num_workers=2", "--direct_running_mode=multi_processing"]


def pixels(first):
    image = np.zeros((20, 30, 3), np.uint8)
    image[0, 0, 0] = first
    return image


def boxed(number, image=None, **more):
    return BoxedImage(
        image_id=number,
        image=pixels(number) if image is None else image,
        boxes=[[1.0, 2.0, 11.0, 22.0]],
        category_ids=[7],
        annotation_ids=[100 + number],
        **more,
    )


def pipeline(flags=()):
    return test_pipeline.TestPipeline("FnApiRunner", PipelineOptions(list(flags)))


@pytest.fixture(autouse=True)
def path_of_workers(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(fussy_predictor.__file__).parent))


def of(labelled: LabelledImage):
    (row,) = labelled.results
    return labelled.image_id, row["annotation_id"], row["category_id"], row["score"]


def why(failure):
    return (
        failure.image_id,
        failure.annotation_id,
        failure.stage,
        failure.reason,
        failure.message,
    )


EXPECTED = [(i, 100 + i, 7, 0.5) for i in range(16) if i != 13]
REFUSED = [(13, None, "predict", "predictor_failed", "this image is not for me")]


@pytest.mark.parametrize(
    "flags", [[], pytest.param(TWO_PROCESSES, marks=pytest.mark.slow)]
)
def test_one_bad_image_of_sixteen_costs_itself_alone(flags):
    with pipeline(flags) as p:
        done = (
            p
            | beam.Create([boxed(i) for i in range(16)])
            | LabelImages(FUSSY, settings=Settings(micro_batch=4), max_batch_size=4)
        )
        assert_that(done.labelled | beam.Map(of), equal_to(EXPECTED), "labelled")
        assert_that(
            done.dead_letters | beam.Map(why), equal_to(REFUSED), "dead letters"
        )


def test_the_same_with_keys_in_a_graph_with_run_inference():
    handler = DeepmacModelHandler(
        FUSSY, settings=Settings(micro_batch=4), max_batch_size=4
    )
    with pipeline() as p:
        results = (
            p
            | beam.Create([(f"key {i}", boxed(i)) for i in range(16)])
            | RunInference(KeyedModelHandler(handler))
        )
        done = results | SplitLabelled(keyed=True)
        labelled = done.labelled | beam.MapTuple(lambda key, some: (key, of(some)))
        expected = [(f"key {row[0]}", row) for row in EXPECTED]
        assert_that(labelled, equal_to(expected), "labelled")
        dead = done.dead_letters | beam.MapTuple(lambda key, some: (key, why(some)))
        assert_that(dead, equal_to([("key 13", REFUSED[0])]), "dead letters")


def test_counters_say_what_came_in_and_what_became_of_it():
    p = pipeline()
    images = [boxed(12), boxed(13), boxed(14, b"junk")]
    _ = p | beam.Create(images) | LabelImages(FUSSY)
    result = p.run()
    result.wait_until_finish()
    counters = {
        found.key.metric.name: found.committed
        for found in result.metrics().query()["counters"]
        if found.key.metric.namespace == "deepmac"
    }
    expected = {
        "images_in": 3,
        "images_out": 1,
        "images_failed": 2,
        "masks_out": 1,
        "masks_empty": 0,
        "dead_letters.predict.predictor_failed": 1,
        "dead_letters.image.image_unsupported": 1,
        "num_inferences": 3,
    }
    assert {name: counters[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (boxed(1, b""), "image_empty"),
        (boxed(1, b"\xff\xd8 junk"), "image_malformed"),
        (boxed(1, np.zeros((4, 5), np.uint8)), "image_malformed"),
        (boxed(1, np.zeros((4, 5, 3), np.float32)), "image_malformed"),
        (boxed(1, np.zeros((40, 50, 3), np.uint8)), "image_too_large"),
        (BoxedImage(image_id=1, image=pixels(1), boxes=[1, 2, 3]), "boxes_malformed"),
        (BoxedImage(image_id=1, image=pixels(1), boxes=["ab"]), "boxes_malformed"),
        (
            BoxedImage(
                image_id=1, image=pixels(1), boxes=[[1, 2, 3, 4]], category_ids=[]
            ),
            "boxes_malformed",
        ),
        (
            BoxedImage(
                image_id=1, image=pixels(1), boxes=[[1, 2, 3, 4]], category_ids=["cat"]
            ),
            "boxes_malformed",
        ),
    ],
)
def test_images_that_cannot_be_used_are_dead_letters(image, reason):
    handler = DeepmacModelHandler("box", settings=Settings(max_pixels=1000))
    (result,) = handler.run_inference([image], handler.load_model())
    assert result.inference.has_failed
    assert [failure.reason for failure in result.inference.failures] == [reason]


def test_a_bad_box_costs_itself_alone():
    image = BoxedImage(
        image_id=1,
        image=pixels(1),
        boxes=[[1, 2, 11, 22], [5, 5, 5, 9], [100, 100, 110, 110], [10, 10, 99, 99]],
        annotation_ids=["a", "b", "c", "d"],
    )
    handler = DeepmacModelHandler("box")
    (result,) = handler.run_inference([image], handler.load_model())
    done = result.inference
    assert not done.has_failed
    assert [row["annotation_id"] for row in done.results] == ["a", "d"]
    assert done.results[1]["box_xywh"] == [10, 10, 20, 10]  # cut at the border
    assert [failure.annotation_id for failure in done.failures] == ["b", "c"]


def test_an_image_without_boxes_has_no_results_and_has_not_failed():
    handler = DeepmacModelHandler("box")
    image = BoxedImage(image_id=1, image=pixels(1))
    (result,) = handler.run_inference([image], handler.load_model())
    assert result.inference == LabelledImage(1, [])


@pytest.mark.parametrize("as_pixels", [False, True])
def test_results_are_those_of_the_job(tmp_path, as_pixels):
    dataset = SmallDataset(tmp_path / "data").write()
    out = tmp_path / "out"
    assert infer.main([*dataset.flags, f"--out={out}", "--model=ellipse"]) == 0
    of_job = [
        row
        for path in sorted(out.glob("*.jsonl.gz"))
        for row in read_unit(str(path), for_boxes=False)
    ]

    def image(entry):
        mine = [a for a in dataset.annotations if a["image_id"] == entry["id"]]
        mine = [a for a in mine if not a["iscrowd"]]
        encoded = dataset.files[entry["file_name"]]
        x, y, width, height = np.array([a["bbox"] for a in mine]).T
        return BoxedImage(
            image_id=entry["id"],
            image=decode_rgb(encoded) if as_pixels else encoded,
            boxes=np.stack([y, x, y + height, x + width], axis=1),
            category_ids=[a["category_id"] for a in mine],
            annotation_ids=[a["id"] for a in mine],
        )

    def text(row):
        return json.dumps(row, sort_keys=True)

    with pipeline() as p:
        done = (
            p | beam.Create(list(map(image, dataset.images))) | LabelImages("ellipse")
        )
        rows = done.labelled | beam.FlatMap(lambda some: some.results) | beam.Map(text)
        assert_that(rows, equal_to(list(map(text, of_job))))
        assert_that(done.dead_letters, equal_to([]), "no dead letters")


def test_elements_of_another_type_are_refused_while_the_graph_is_made():
    p = pipeline()
    with pytest.raises(TypeCheckError, match=r"expected .*BoxedImage.*, got .*str"):
        _ = p | beam.Create(["image.jpg"]) | LabelImages("box")
    done = p | "Images" >> beam.Create([boxed(1)]) | "Boxes" >> LabelImages("box")
    assert done.labelled.element_type is LabelledImage
    assert done.dead_letters.element_type is Failure


def test_handlers_travel_and_open_nothing_before_they_have_arrived():
    before = fussy_predictor.FussyPredictor.opened
    options = {"checkpoint": "that nobody else has opened"}
    handler = pickle.loads(pickle.dumps(DeepmacModelHandler(FUSSY, options)))
    assert fussy_predictor.FussyPredictor.opened == before
    predictor = handler.load_model()
    # Whoever wants the same in this process gets the same.
    assert DeepmacModelHandler(FUSSY, options).load_model() is predictor
    assert fussy_predictor.FussyPredictor.opened == before + 1


def test_a_handler_says_how_it_wants_its_batches_and_its_machines():
    hints = {"accelerator": "type:nvidia-l4;count:1", "min_ram": "16GB"}
    handler = DeepmacModelHandler("box", max_batch_size=3, resource_hints=hints)
    assert handler.batch_elements_kwargs() == {"min_batch_size": 3, "max_batch_size": 3}
    assert handler.get_resource_hints() == hints
    assert handler.get_metrics_namespace() == "deepmac"
    images = [boxed(1), boxed(2, b"12345")]
    assert handler.get_num_bytes(images) == 20 * 30 * 3 + 5


def test_a_refreshed_model_is_another_checkpoint():
    handler = DeepmacModelHandler(FUSSY, {"checkpoint": "ckpt-1"})
    assert handler.load_model().fingerprint == "ckpt-1"
    handler.update_model_path("ckpt-2")
    model = handler.load_model()
    (result,) = handler.run_inference([boxed(1)], model)
    assert result.model_id == "ckpt-2"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: DeepmacModelHandler("box", max_batch_size=0),
            "must be positive, got 0",
        ),
        (lambda: DeepmacModelHandler("box", out_of_bounds="no"), "one of clip, drop"),
        (
            lambda: DeepmacModelHandler("box", resource_hints={"min_ram": "much"}),
            "resource_hints: ",
        ),
        (
            lambda: DeepmacModelHandler("bxo").load_model(),
            "did you mean 'box'",
        ),
        (
            lambda: DeepmacModelHandler(
                FUSSY, settings=Settings(detect=True)
            ).load_model(),
            "has no detector of its own",
        ),
        (
            lambda: DeepmacModelHandler("box").validate_inference_args(
                {"threshold": 1}
            ),
            "inference_args: there are none, got threshold",
        ),
    ],
)
def test_mistakes_are_one_sentence(make, message):
    with pytest.raises(OptionError) as caught:
        make()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def scene_of(num_images):
    """Objects, and predictions that partly hit them; several of the same score."""
    rng = np.random.default_rng(3)
    scene = coco_cases.Scene(range(10, 10 + num_images), [1, 5, 7])
    for image in range(10, 10 + num_images):
        for _ in range(rng.integers(0, 4)):
            box = (*rng.integers(0, 40, 2).tolist(), *rng.integers(5, 40, 2).tolist())
            category = int(rng.choice([1, 5, 7]))
            scene.object(box, image, category)
            moved = (box[0] + int(rng.integers(0, 9)), *box[1:])
            scene.found(moved, float(rng.choice([0.25, 0.5, 0.75])), image, category)
    return scene


def collections_of(p, scene, *, as_rows):
    by_image = collections.defaultdict(list)
    for row in scene.results:
        by_image[row["image_id"]].append(row)
    predictions = scene.results if as_rows else list(by_image.values())
    elements = {
        "images": scene.truth["images"],
        "annotations": scene.truth["annotations"],
        "predictions": predictions,
    }
    return {
        name: p | name >> beam.Create(some[::-1]) for name, some in elements.items()
    }


@pytest.mark.parametrize(
    ("iou_type", "flags"),
    [
        ("segm", []),
        ("bbox", []),
        pytest.param("segm", TWO_PROCESSES, marks=pytest.mark.slow),
    ],
)
def test_figures_are_those_of_evaluate(iou_type, flags, monkeypatch):
    monkeypatch.setattr(transforms, "_BATCH", 7)
    scene = scene_of(40)
    groups = {"ours": [1, 7]}
    expected = deepmac.evaluate(
        scene.truth, scene.results, iou_type=iou_type, groups=groups, draws=20
    )
    with pipeline(flags) as p:
        evaluation = EvaluateMasks(
            scene.truth["categories"],
            Parameters(iou_type=iou_type),
            form="mask",
            groups=groups,
            draws=20,
        )
        found = collections_of(p, scene, as_rows=False) | evaluation
        assert found.element_type is EvaluationResult
        documents = found | beam.Map(lambda result: json.dumps(result.to_dict()))
        assert_that(documents, equal_to([json.dumps(expected.to_dict())]))


def test_single_rows_do_as_well_where_no_scores_are_equal():
    scene = scene_of(12)
    for number, row in enumerate(scene.results):
        row["score"] = 1 / (number + 2)
    expected = deepmac.evaluate(scene.truth, scene.results, draws=0)
    with pipeline() as p:
        evaluation = EvaluateMasks(scene.truth["categories"], draws=0)
        found = collections_of(p, scene, as_rows=True) | evaluation
        documents = found | beam.Map(lambda result: json.dumps(result.to_dict()))
        assert_that(documents, equal_to([json.dumps(expected.to_dict())]))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: EvaluateMasks([], form="masks"),
            "form is 'box' or 'mask', got 'masks'",
        ),
        (
            lambda: EvaluateMasks([{"id": 1}], groups={"a": [2]}),
            "groups['a']: there is no category 2",
        ),
        (lambda: EvaluateMasks([], draws=-1), "draws"),
        (
            lambda: {"images": pipeline() | beam.Create([1])} | EvaluateMasks([]),
            "takes images, annotations and predictions, got images",
        ),
    ],
)
def test_what_an_evaluation_cannot_be_is_said_while_the_graph_is_made(make, message):
    with pytest.raises(OptionError) as caught:
        make()
    assert message in str(caught.value)
