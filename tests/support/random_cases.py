"""Small random data sets in which objects and results often coincide."""

import coco_cases
from coco_reference import Case
from hypothesis import strategies as st

from deepmac.evaluation.parameters import Parameters

FEW = st.integers(0, 3)
BOXES = st.tuples(
    st.sampled_from([0, 1, 10, 40]),
    st.sampled_from([0, 2, 50]),
    st.sampled_from([0, 1, 10, 20, 32, 96]),
    st.sampled_from([1, 10, 19, 20, 32, 96]),
)
AREAS = st.sampled_from([0, 100, 1024, 1024.5, 5000, 9216, 2e4])
SCORES = st.sampled_from([0, 0.25, 0.5, 0.5 + 1e-12, 0.75, 1])


@st.composite
def cases(draw) -> Case:
    """A few images and categories, objects and results that often coincide."""
    image_ids = draw(
        st.one_of(
            st.lists(st.integers(-3, 300), min_size=1, max_size=5, unique=True),
            st.lists(st.text("019a", min_size=1), min_size=1, max_size=5, unique=True),
        )
    )
    category_ids = draw(
        st.lists(st.integers(0, 90), min_size=1, max_size=3, unique=True)
    )
    image, category = st.sampled_from(image_ids), st.sampled_from(category_ids)
    scene = coco_cases.Scene(image_ids, category_ids)
    first_id = draw(st.sampled_from([0, 1, -2]))
    truths = draw(st.lists(st.tuples(BOXES, image, category, AREAS, FEW), max_size=12))
    for n, (box, i, c, area, crowd) in enumerate(truths):
        changes = {"id": first_id + n, "area": area, "iscrowd": int(crowd == 0)}
        scene.object(box, i, c, **changes)
    results = st.tuples(BOXES, SCORES, image, category)
    for box, score, i, c in draw(st.lists(results, min_size=1, max_size=20)):
        scene.found(box, score, i, c)
    parameters = Parameters(
        iou_type=draw(st.sampled_from(["segm", "bbox"])),
        max_dets=draw(st.sampled_from([(1, 10, 100), (1, 2, 3)])),
        use_categories=draw(st.sampled_from([True, True, False])),
    )
    return scene.case(parameters=parameters)
