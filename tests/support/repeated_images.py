"""A data set in which images stand several times: what a draw of the bootstrap stands for."""

import copy

import numpy as np
from coco_reference import Case


def repeated(case: Case, times: np.ndarray) -> Case:
    """The case with each image, in order of the ids, so many times, under ids of their own."""
    truth, results = copy.deepcopy(case.truth), []
    ids = sorted(image["id"] for image in truth["images"])
    images, annotations = [], []
    for position, image_id in enumerate(ids):
        for n in range(times[position]):
            new = position * 100 + n
            for image in truth["images"]:
                if image["id"] == image_id:
                    images.append(image | {"id": new})
            for old in truth["annotations"]:
                if old["image_id"] == image_id:
                    number = len(annotations) + 1
                    annotations.append(old | {"id": number, "image_id": new})
            for old in case.results:
                if old["image_id"] == image_id:
                    results.append(old | {"image_id": new})
    truth |= {"images": images, "annotations": annotations}
    return Case(truth=truth, results=results, parameters=case.parameters)
