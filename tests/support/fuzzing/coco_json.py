"""COCO data sets with results in them, through build, label and evaluate without their jobs."""

import collections
import copy
import io
import json
import random
import zlib
from typing import Any

import numpy as np
from hypothesis import strategies as st

from deepmac.data.json_file import read_json
from deepmac.data.records import decode_example
from deepmac.data.splits import Split
from deepmac.data.tfrecord import read_frames
from deepmac.errors import DeepmacError
from deepmac.evaluation.detections import form_of
from deepmac.evaluation.engine import evaluate
from deepmac.evaluation.ground_truth import read_ground_truth, read_scope
from deepmac.evaluation.parameters import Parameters
from deepmac.evaluation.results_file import place_of
from deepmac.label import Settings
from fuzzing.mutation import json_values, mutate_json
from fuzzing.target import Target, require_one_line
from fuzzing.targets import GOLDEN
from pipelines.build_dataset import BuildWork
from pipelines.build_plan import plan_build
from pipelines.json_lines import dump_line, load_line
from pipelines.label_plan import plan_boxes, plan_images
from pipelines.label_work import LabelWork
from pipelines.units import Unit, UnitReport

_IMAGES = GOLDEN / "coco_records" / "images"
_UNITS = ("one", "two")
_KEYS = (
    *(
        "id",
        "image_id",
        "category_id",
        "file_name",
        "height",
        "width",
        "bbox",
        "segmentation",
        "area",
    ),
    *(
        "iscrowd",
        "ignore",
        "score",
        "name",
        "size",
        "counts",
        "annotation_id",
        "results",
        "images",
    ),
    *(
        "annotations",
        "categories",
        "coco_url",
        "neg_category_ids",
        "not_exhaustive_category_ids",
    ),
)


class CocoJson(Target):
    """A data set's JSON with one member more, `results`."""

    name = "coco"

    def seeds(self) -> list[bytes]:
        whole = json.loads((GOLDEN / "coco_records" / "annotations.json").read_bytes())
        whole["results"] = _results(whole)
        few = copy.deepcopy(whole)
        ids = {image["id"] for image in few["images"][:3]}
        few["images"] = few["images"][:3]
        few["annotations"] = [a for a in few["annotations"] if a["image_id"] in ids][:4]
        few["results"] = _results(few)
        boxes = copy.deepcopy(few)
        for result in boxes["results"]:
            result["bbox"] = [1.0, 2.0, 10.0, 12.0]
            del result["segmentation"]
        lvis = copy.deepcopy(few)
        for image in lvis["images"]:
            image["coco_url"] = f"http://images/val2017/{image['file_name']}"
            image |= {"neg_category_ids": [1], "not_exhaustive_category_ids": []}
        for annotation in lvis["annotations"]:
            del annotation["iscrowd"]
        text = copy.deepcopy(few)
        for entry in (*text["images"], *text["annotations"]):
            entry["id"] = f"id {entry['id']}"
        for entry in (*text["annotations"], *text["results"]):
            entry["image_id"] = f"id {entry['image_id']}"
        return [json.dumps(d).encode() for d in (few, boxes, lvis, text, whole)]

    def mutate(self, rng: random.Random, data: bytes, other: bytes) -> bytes:
        return mutate_json(rng, data, other, _KEYS)

    def examples(self) -> st.SearchStrategy[bytes]:
        odd = json_values()
        image = _entry(
            id=st.integers(0, 3),
            file_name=st.just("plain.jpg"),
            height=st.just(48),
            width=st.just(64),
        )
        number = st.integers(-3, 90) | st.floats(-3, 90)
        polygons = st.lists(
            st.lists(number, min_size=6, max_size=8), min_size=1, max_size=3
        )
        rle = _entry(
            size=st.just([48, 64]),
            counts=st.just([10, 20, 48 * 64 - 30]) | st.text(max_size=8),
        )
        shared = {
            "image_id": st.integers(0, 3),
            "category_id": st.integers(1, 2),
            "bbox": st.lists(number, min_size=4, max_size=4),
            "segmentation": polygons | rle,
        }
        annotation = _entry(
            id=st.integers(0, 5), area=number, iscrowd=st.integers(0, 1), **shared
        )
        result = _entry(
            score=st.floats(0, 1), annotation_id=st.integers(0, 3), **shared
        )
        category = _entry(id=st.integers(1, 3), name=st.sampled_from(["cat", "dog"]))
        dataset = _entry(
            images=st.lists(image | odd, max_size=3),
            annotations=st.lists(annotation | odd, max_size=4),
            categories=st.lists(category, min_size=1, max_size=2),
            results=st.lists(result | odd, max_size=3),
        )
        return dataset.map(lambda value: json.dumps(value).encode())

    def check(self, data: bytes) -> str:
        path = self.folder / "annotations.json"
        path.write_bytes(data)
        choice = zlib.crc32(data)
        steps = (self._build, self._label, self._list_images, self._evaluate)
        done = []
        for step in steps:
            try:
                step(str(path), choice)
            except DeepmacError as e:
                require_one_line(e)
                error = e
            else:
                done.append(step.__name__.strip("_"))
        if not done:
            raise error
        return "accepted" if len(done) == len(steps) else f"accepted by {done[0]}"

    def _build(self, path: str, choice: int) -> None:
        units = _Units()
        context = plan_build(path, str(_IMAGES), "all", _UNITS, units)
        supervised = context["supervised_ids"][: None if choice % 3 else 1]
        work = BuildWork(
            images=str(_IMAGES),
            category_names=dict(context["categories"]),
            split=Split("all", frozenset(supervised)),
            repeats=frozenset(context["repeats"]),
            out_of_bounds=("clip", "drop")[choice % 2],
            masks=True,
            verify_images=False,
            max_pixels=1 << 20,
        )
        for name, items in units.items.items():
            report, content = _process(work, name, items)
            _check_counts(report)
            counts = collections.Counter(report.counts)
            assert counts["annotations_in"] == (
                counts["instances_out"]
                + counts["annotations_failed"]
                + counts["annotations_of_failed_images"]
            )
            masks = ("masks_kept", "masks_hidden", "masks_missing", "masks_failed")
            assert counts["instances_out"] == sum(counts[m] for m in masks)
            records = [
                decode_example(d) for _, d in read_frames(io.BytesIO(content), name)
            ]
            assert len(records) == counts["images_out"]
            instances = [i for r in records for i in r.instances]
            assert len(instances) == counts["instances_out"]
            assert (
                sum(i.mask_rle is not None for i in instances) == counts["masks_kept"]
            )

    def _label(self, path: str, choice: int) -> None:
        units = _Units()
        context = plan_boxes(path, str(_IMAGES), 1 + choice % 4, units)
        self._label_units(units, context, choice, detect=False)

    def _list_images(self, path: str, choice: int) -> None:
        plan_images(path, str(_IMAGES), None, _Units())

    def _label_units(
        self, units: "_Units", context: Any, choice: int, *, detect: bool
    ) -> None:
        work = LabelWork(
            model="box",
            model_options=(),
            settings=Settings(detect=detect, max_pixels=1 << 20),
            images=str(_IMAGES),
            from_records=False,
            category_names=dict(context["categories"]),
            repeats=frozenset(context["repeats"]),
            out_of_bounds=("clip", "drop")[choice % 2],
        )
        for name, items in units.items.items():
            report, _ = _process(work, name, items)
            _check_counts(report)
            counts = collections.Counter(report.counts)
            assert counts["annotations_in"] == sum(
                counts[c]
                for c in (
                    "masks_out",
                    "crowds",
                    "annotations_failed",
                    "annotations_of_failed_images",
                )
            )

    def _evaluate(self, path: str, choice: int) -> None:
        document = read_json(path)
        listed = document.pop("results", []) if isinstance(document, dict) else []
        results = listed if isinstance(listed, list) else []
        place = place_of(results, lambda i: f"{path}: result {i}")
        parameters = Parameters(
            iou_type=("segm", "bbox")[choice % 2],
            wrong_size=("error", "reference")[choice // 2 % 2],
            result_area=("reference", "mask")[choice // 4 % 2],
            duplicate_ids=("error", "reference")[choice // 8 % 4 == 0],
            use_categories=choice // 32 % 4 != 0,
            ignore_field=("reference", "honour")[choice // 128 % 2],
        )
        known = read_scope(document, parameters, path)
        truth, counts = read_ground_truth(document, parameters, path, known)
        form = form_of(results[0], place(0)) if results else "mask"
        found = evaluate(truth, known, [(results, place)], form, parameters, counts)
        values = np.array([*found.stats.values()], np.float64)
        assert ((values == -1) | ((values >= 0) & (values <= 1))).all(), found.stats


class _Units:
    """Takes a plan as a `PlanWriter` does, items turned into JSON and back."""

    def __init__(self):
        self.items: dict[str, list[Any]] = {}

    def declare(self, unit_name: str) -> None:
        self.items.setdefault(unit_name, [])

    def count_images(self, unit_name: str, number: int) -> None:
        pass

    def add(self, unit_name: str, item: Any) -> None:
        self.add_line(unit_name, dump_line(item))

    def add_line(self, unit_name: str, line: bytes) -> None:
        assert line.endswith(b"\n")
        assert line.count(b"\n") == 1
        self.items.setdefault(unit_name, []).append(load_line(line))


def _process(
    work: BuildWork | LabelWork, name: str, items: list[Any]
) -> tuple[UnitReport, bytes]:
    out = io.BytesIO()
    work.setup()
    report = work.process(Unit(name, items), out)  # pyright: ignore
    for letter in report.dead_letters:
        dump_line([letter.image_id, letter.annotation_id])
        assert len(letter.message.splitlines()) == 1, letter.message
    return report, out.getvalue()


def _check_counts(report: UnitReport) -> None:
    counts = collections.Counter(report.counts)
    assert counts["images_in"] == counts["images_out"] + counts["images_failed"]
    assert all(value >= 0 for value in counts.values())
    failed = [letter for letter in report.dead_letters if letter.annotation_id is None]
    assert len(failed) >= counts["images_failed"]


def _results(dataset: dict[str, Any]) -> list[Any]:
    """A result for every annotation."""
    return [
        {
            "image_id": a["image_id"],
            "category_id": a["category_id"],
            "annotation_id": a["id"],
            "score": 0.9 - 0.01 * index,
            "segmentation": a["segmentation"],
        }
        for index, a in enumerate(dataset["annotations"])
    ]


@st.composite
def _entry(draw: st.DrawFn, **fields: st.SearchStrategy[Any]) -> dict[str, Any]:
    """An object of these fields, of which now and then one is odd or missing."""
    value = {name: draw(field) for name, field in fields.items()}
    match draw(st.integers(0, 9)):
        case 0:
            value[draw(st.sampled_from(sorted(value)))] = draw(json_values())
        case 1:
            del value[draw(st.sampled_from(sorted(value)))]
    return value
