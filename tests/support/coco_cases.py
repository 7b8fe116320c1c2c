"""Small data sets, one for each way in which COCO evaluators go wrong."""

import dataclasses
from typing import Any

import numpy as np
import pycocotools.mask
from coco_reference import Case

from deepmac.evaluation.parameters import AreaRange, Parameters

SIZE = 120  # of every image, unless a case says otherwise


class Scene:
    """Builds a data set, object by object. Objects are rectangles (x, y, width, height)."""

    def __init__(self, images=(1,), categories=(1,), size=SIZE):
        self.size = size
        self.truth: dict[str, Any] = {
            "images": [{"id": i, "height": size, "width": size} for i in images],
            "categories": [{"id": c, "name": f"category {c}"} for c in categories],
            "annotations": [],
        }
        self.results: list[dict[str, Any]] = []

    def object(self, box, image=1, category=1, **changes):
        """A ground truth; its mask fills the box."""
        annotation = {
            "id": len(self.truth["annotations"]) + 1,
            "image_id": image,
            "category_id": category,
            "iscrowd": 0,
            "area": float(box[2] * box[3]),
            "bbox": list(box),
            "segmentation": rle(box, self.size),
        }
        self.truth["annotations"].append(annotation | changes)
        return self

    def found(self, box, score, image=1, category=1, **changes):
        """A result with a mask; evaluating boxes makes its box from it."""
        result = {
            "image_id": image,
            "category_id": category,
            "score": score,
            "segmentation": rle(box, self.size),
        }
        self.results.append(result | changes)
        return self

    def case(self, **kwargs) -> Case:
        return Case(truth=self.truth, results=self.results, **kwargs)


def rle(box, size=SIZE):
    """Compressed run lengths, `counts` as text, of a rectangle of whole pixels."""
    x, y, width, height = map(int, box)
    mask = np.zeros((size, size), np.uint8, order="F")
    mask[y : y + height, x : x + width] = 1
    encoded = pycocotools.mask.encode(mask)
    return {"size": encoded["size"], "counts": encoded["counts"].decode()}


def ties_inside_a_cell():
    scene = Scene().object((0, 0, 20, 20)).object((40, 0, 20, 20))
    for box in (
        (0, 0, 10, 10),
        (0, 0, 20, 18),
        (0, 0, 18, 20),
        (40, 0, 20, 19),
        (0, 0, 20, 20),
    ):
        scene.found(box, 0.5)
    return scene.case()


def ties_across_images():
    scene = Scene(images=(1, 2, 3))
    for image in (3, 1, 2):
        scene.object((0, 0, 20, 20), image)
        scene.found((0, 0, 20, 20 - 3 * image), 0.5, image)
        scene.found((60, 0, 20, 20), 0.5, image)
    return scene.case()


def image_ids_unsorted_in_the_file():
    scene = Scene(images=(30, 7, 19, 2))
    for image in (7, 30, 2, 19):
        scene.object((0, 0, 20, 20), image)
        scene.found((0, 0, 20, 20 - image // 3), 0.5, image)
    return scene.case()


def text_ids():
    scene = Scene(images=("9", "10", "a"), categories=("b", "a"))
    for n, image in enumerate(("9", "10", "a")):
        scene.object((0, 0, 20, 20), image, "b")
        scene.found((0, 0, 20, 18 - 4 * n), 0.5, image, "b")
        scene.found((50, 0, 20, 20), 0.5, image, "a")
    return scene.case()


def a_ground_truth_of_id_zero():
    scene = Scene().object((0, 0, 20, 20), id=0).object((40, 0, 20, 20))
    scene.object((80, 0, 20, 20), id=-7).found((0, 0, 20, 20), 0.9)
    return scene.found((0, 0, 20, 20), 0.8).found((40, 0, 20, 19), 0.7).case()


def an_ignored_ground_truth_of_id_zero():
    scene = Scene().object((0, 0, 40, 40), id=0, iscrowd=1).object((60, 0, 20, 20))
    return scene.found((5, 5, 10, 10), 0.9).found((60, 0, 20, 20), 0.8).case()


def a_negative_id():
    scene = Scene().object((0, 0, 20, 20), id=-5).object((40, 0, 20, 20), id=-6)
    return scene.found((0, 0, 20, 20), 0.9).found((40, 0, 20, 12), 0.7).case()


def a_category_without_ground_truth():
    scene = (
        Scene(categories=(1, 2, 3)).object((0, 0, 20, 20)).found((0, 0, 20, 20), 0.9)
    )
    return scene.found((40, 0, 20, 20), 0.8, category=2).case()


def a_category_of_crowds_only():
    scene = Scene(categories=(1, 2)).object((0, 0, 60, 60), category=2, iscrowd=1)
    scene.object((0, 0, 20, 20)).found((0, 0, 20, 20), 0.9)
    return (
        scene.found((5, 5, 20, 20), 0.8, category=2)
        .found((80, 0, 9, 9), 0.7, category=2)
        .case()
    )


def a_category_without_detections():
    scene = Scene(categories=(1, 2)).object((0, 0, 20, 20), category=2)
    return scene.object((0, 0, 20, 20)).found((0, 0, 20, 20), 0.9).case()


def images_without_something():
    """1: both; 2: no ground truth; 3: no results; 4: neither."""
    scene = Scene(images=(1, 2, 3, 4)).object((0, 0, 20, 20)).object((0, 0, 20, 20), 3)
    return scene.found((0, 0, 20, 20), 0.9).found((0, 0, 20, 20), 0.95, image=2).case()


def identical_ground_truths():
    scene = Scene().object((0, 0, 20, 20)).object((0, 0, 20, 20)).object((0, 0, 20, 20))
    return scene.found((0, 0, 20, 20), 0.9).found((0, 0, 20, 19), 0.8).case()


def identical_detections():
    scene = Scene().object((0, 0, 20, 20)).object((0, 0, 20, 16))
    for score in (0.9, 0.9, 0.8, 0.9):
        scene.found((0, 0, 20, 20), score)
    return scene.case()


def iou_on_each_threshold():
    scene = Scene(images=tuple(range(1, 13)))
    for n in range(1, 13):
        scene.object((0, 0, 20, 1), n).found((0, 0, 8 + n, 1), 1 - n / 20, n)
    return scene.case()


def equal_iou_with_two_ground_truths():
    scene = (
        Scene()
        .object((0, 0, 20, 20))
        .object((0, 4, 20, 20))
        .object((0, 2, 20, 20), iscrowd=1)
    )
    return (
        scene.found((0, 2, 20, 20), 0.9)
        .found((0, 4, 20, 20), 0.8)
        .found((0, 0, 20, 20), 0.7)
        .case()
    )


def areas_on_the_edges_of_the_ranges():
    scene = (
        Scene().object((0, 0, 32, 32)).object((0, 0, 96, 96)).object((40, 40, 31, 33))
    )
    scene.found((0, 0, 32, 32), 0.9).found((0, 0, 96, 96), 0.8).found(
        (60, 60, 32, 32), 0.85
    )
    return scene.found((10, 10, 96, 96), 0.7).found((40, 40, 31, 33), 0.6).case()


def area_field_unlike_the_mask():
    scene = Scene().object((0, 0, 20, 20), area=5000.5).object((0, 50, 40, 40), area=3)
    return (
        scene.found((0, 0, 20, 20), 0.9)
        .found((0, 50, 40, 40), 0.8)
        .found((60, 60, 50, 50), 0.85)
        .case()
    )


def many_detections_in_a_crowd():
    scene = Scene().object((0, 0, 80, 80), iscrowd=1).object((90, 90, 20, 20))
    for n in range(12):
        scene.found((6 * n, 6 * n, 10, 10), 0.9 - n / 50)
    return scene.found((90, 90, 20, 18), 0.5).found((75, 75, 10, 10), 0.4).case()


def crowd_and_object_above_the_threshold():
    scene = (
        Scene()
        .object((0, 0, 30, 30), iscrowd=1)
        .object((0, 0, 20, 20))
        .object((0, 0, 24, 20), iscrowd=True)
    )
    return (
        scene.found((0, 0, 20, 16), 0.9)
        .found((0, 0, 20, 20), 0.8)
        .found((0, 0, 20, 19), 0.7)
        .case()
    )


def more_than_100_detections_tied_at_the_limit():
    scene = Scene().object((0, 0, 20, 20)).object((40, 0, 20, 20))
    for n in range(110):
        box = (0, 0, 20, 20) if n in (99, 100, 103) else (60, 60, 5 + n % 7, 5)
        scene.found(box, 0.9 if n < 95 else 0.5)
    return scene.found((40, 0, 20, 20), 0.5).case()


def extreme_masks():
    scene = (
        Scene()
        .object((0, 0, 1, 1))
        .object((0, 0, SIZE, SIZE))
        .object((5, 5, 0, 0), area=0)
    )
    scene.object((SIZE - 1, SIZE - 1, 1, 1)).found((0, 0, 1, 1), 0.9).found(
        (0, 0, SIZE, SIZE), 0.8
    )
    return (
        scene.found((0, 0, 0, 0), 0.85)
        .found((SIZE - 1, SIZE - 1, 1, 1), 0.7)
        .found((0, 0, SIZE, 115), 0.6)
        .case()
    )


def masks_of_another_size():
    parameters = Parameters(wrong_size="reference")
    scene = (
        Scene()
        .object((0, 0, 20, 20))
        .object((30, 0, 20, 20), segmentation=rle((30, 0, 20, 20), 90))
    )
    scene.found((0, 0, 20, 20), 0.9, segmentation=rle((0, 0, 20, 20), 90)).found(
        (0, 0, 20, 18), 0.8
    )
    return (
        scene.found((30, 0, 20, 20), 0.7)
        .found((0, 0, 20, 20), 0.6, segmentation=rle((30, 0, 20, 19), 90))
        .case(parameters=parameters)
    )


def polygons():
    """Overlapping parts, parts outside the image, fractions, a later part of four numbers."""
    parts = [[10, 10, 50, 10, 50, 40, 10, 40], [30.5, 20, 70, 20.25, 70, 60, 30, 60.75]]
    scene = Scene().object((10, 10, 60, 50), segmentation=parts)
    scene.object((80, 80, 60, 60), segmentation=[[80, 80, 140, 80, 140, 140, 80, 140]])
    scene.object(
        (0, 80, 20, 20), segmentation=[[0, 80, 20, 80, 10, 100], [0, 80, 20, 80]]
    )
    scene.found((10, 10, 60, 50), 0.9).found((80, 80, 40, 40), 0.8)
    return scene.found((0, 80, 20, 20), 0.7).found((0, 80, 20, 12), 0.6).case()


def uncompressed_run_lengths():
    size = [SIZE, SIZE]
    counts = [0, 20 * SIZE, SIZE * SIZE - 20 * SIZE]
    scene = Scene().object(
        (0, 0, 20, SIZE), segmentation={"size": size, "counts": counts}
    )
    scene.object(
        (60, 0, 20, SIZE),
        iscrowd=1,
        segmentation={"size": size, "counts": [60 * SIZE, 20 * SIZE, 40 * SIZE]},
    )
    return (
        scene.found((0, 0, 20, 100), 0.9)
        .found((60, 0, 20, 30), 0.8)
        .found((0, 0, 90, 90), 0.7)
        .case()
    )


def counts_as_bytes():
    case = polygons()
    for result in case.results:
        segmentation = result["segmentation"]
        result["segmentation"] = segmentation | {
            "counts": segmentation["counts"].encode()
        }
    return case


def results_with_box_and_mask():
    """The boxes are larger than the masks: they change small to medium."""
    scene = Scene().object((0, 0, 20, 20)).object((50, 50, 30, 30))
    scene.found((0, 0, 20, 20), 0.9, bbox=[0, 0, 40, 40]).found(
        (50, 50, 30, 30), 0.8, bbox=[50, 50, 31, 31.5]
    )
    return (
        scene.found((90, 0, 10, 10), 0.85, bbox=[0, 0, 100, 100])
        .found((100, 0, 10, 10), 0.7, bbox=[1.5, 2.5, 3, 4])
        .case()
    )


def results_with_boxes_only():
    scene = (
        Scene().object((0, 0, 20, 20)).object((50, 50, 30, 30)).object((0, 60, 9, 9))
    )
    for box, score in (
        ([0, 0, 20, 18], 0.9),
        ([49.5, 50.25, 30.5, 31], 0.8),
        ([0, 60, 9, 9], 0.7),
        ([110, 110, 30, 30], 0.6),
    ):
        scene.results.append(
            {"image_id": 1, "category_id": 1, "score": score, "bbox": box}
        )
    return scene.case()


def the_first_result_alone_has_no_box():
    """Mask form; evaluating boxes uses those that are there."""
    scene = Scene().object((0, 0, 20, 20)).object((50, 50, 30, 30))
    return (
        scene.found((0, 0, 20, 20), 0.9)
        .found((50, 50, 30, 30), 0.8, bbox=[0, 0, 100, 100])
        .case()
    )


def results_of_an_unknown_category():
    scene = Scene().object((0, 0, 20, 20)).found((0, 0, 20, 20), 0.5)
    return scene.found((0, 0, 20, 20), 0.9, category=77).case()


def annotations_of_unknown_images_and_categories():
    scene = (
        Scene()
        .object((0, 0, 20, 20))
        .object((0, 0, 20, 20), image=5)
        .object((0, 0, 20, 20), category=9)
    )
    return scene.found((0, 0, 20, 20), 0.5).case()


def mixed(**kwargs):
    """Four images and three categories with crowds, misses, duplicates and ties."""
    rng = np.random.default_rng(3)
    scene = Scene(images=(4, 2, 3, 1), categories=(5, 2, 9))
    for n in range(30):
        image, category = int(rng.integers(1, 5)), int(rng.choice([5, 2, 9]))
        box = [int(v) for v in rng.integers((0, 0, 8, 8), (60, 60, 60, 60))]
        scene.object(box, image, category, iscrowd=int(n % 7 == 0))
        for _ in range(int(rng.integers(0, 5))):
            shift = rng.integers(-3, 4, 4)
            shifted = [int(v) for v in np.maximum(np.array(box) + shift, 1)]
            scene.found(
                shifted,
                float(rng.integers(1, 6)) / 5,
                image,
                int(rng.choice([category, category, 2])),
            )
    return scene.case(**kwargs)


def some_categories():
    return mixed(category_ids=[9, 2])


def some_images():
    return mixed(image_ids=[4, 2])


def without_categories():
    return mixed(parameters=Parameters(use_categories=False))


def some_categories_without_categories():
    return mixed(parameters=Parameters(use_categories=False), category_ids=[5, 2])


def large_limits():
    return mixed(parameters=Parameters(max_dets=(10, 300, 1000)))


def small_limits_in_disorder():
    return mixed(parameters=Parameters(max_dets=(3, 1, 2)))


def four_limits():
    return mixed(parameters=Parameters(max_dets=(1, 2, 100, 5)))


def one_iou_threshold():
    return mixed(parameters=Parameters(iou_thresholds=(0.5,)))


def thresholds_up_to_one():
    return mixed(parameters=Parameters(iou_thresholds=(0.05, 0.3, 0.75, 1.0)))


def a_threshold_of_one_and_rounding():
    """An IoU of 1 - 5e-12 reaches a threshold of 1."""
    scene = Scene().object((0, 0, 20, 20)).object((40, 0, 20, 20))
    scene.found((0, 0, 20, 20), 0.9, bbox=[0, 0, 20, 20 - 1e-10])
    scene.found((40, 0, 20, 20), 0.8, bbox=[40, 0, 20, 20 - 1e-8])
    return scene.case(parameters=Parameters(iou_thresholds=(0.5, 1.0)))


def own_area_ranges():
    ranges = (
        AreaRange("all", 0, 1e10),
        AreaRange("tiny", 0, 400),
        AreaRange("medium", 400, 2000.5),
    )
    return mixed(parameters=Parameters(area_ranges=ranges))


def nine_area_ranges():
    ranges = [AreaRange(f"r{n}", 200.0 * n, 200.0 * n + 300) for n in range(8)]
    return mixed(
        parameters=Parameters(area_ranges=(AreaRange("all", 0, 1e10), *ranges))
    )


def own_recall_thresholds():
    return mixed(parameters=Parameters(recall_thresholds=(0.0, 0.3, 0.5)))


def shared_annotation_ids():
    """Within a cell, across categories, and across images: the last of the file stands in."""
    scene = Scene(images=(2, 1), categories=(1, 2))
    scene.object((0, 0, 20, 20), id=5).object((40, 0, 20, 20), id=5).object(
        (0, 50, 20, 20), image=2, id=6
    )
    scene.object((0, 0, 20, 20), category=2, id=6).object((80, 0, 20, 20), id=7)
    scene.found((40, 0, 20, 20), 0.9).found((40, 0, 20, 20), 0.8).found(
        (0, 0, 20, 20), 0.7, category=2
    )
    return scene.found((0, 50, 20, 20), 0.6, image=2).case(
        parameters=Parameters(duplicate_ids="reference")
    )


def whole_numbers_as_scores():
    scene = Scene().object((0, 0, 20, 20)).object((40, 0, 20, 20))
    return (
        scene.found((0, 0, 20, 20), 1)
        .found((40, 0, 20, 20), 0)
        .found((60, 60, 5, 5), -1)
        .case()
    )


def scores_that_float32_would_tie():
    scene = Scene(images=(1, 2)).object((0, 0, 20, 20)).object((0, 0, 20, 20), 2)
    scene.found((60, 0, 20, 20), 0.9, 1).found((0, 0, 20, 20), 0.9 + 1e-12, 2)
    return scene.found((0, 0, 20, 20), 0.9 + 2e-12, 1).case()


CASES = {
    f.__name__: f
    for f in list(globals().values())
    if callable(f)
    and getattr(f, "__module__", "") == __name__
    and f not in (Scene, rle, mixed)
}


def of_both_types() -> dict[str, Case]:
    """Every case for masks and for boxes, under a name for each."""
    return {
        f"{iou_type} {name.replace('_', ' ')}": dataclasses.replace(make()).of_type(
            iou_type
        )
        for name, make in CASES.items()
        for iou_type in ("segm", "bbox")
    }
