"""Plans: entries as they stand in the file, a line each, whatever the file looks like."""

import collections
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_dataset import SmallDataset

from deepmac.data.coco import Entries
from deepmac.data.ids import id_order
from pipelines.build_dataset import main
from pipelines.build_plan import NoWriter, item_lines, plan_build
from pipelines.json_lines import load_line
from pipelines.label_plan import Ranges, plan_boxes
from pipelines.preflight import ProblemsFound

ODD = {"id": 1, "x": float("nan"), "text": "a\ud800ü\r\n", "big": 2**70, "far": 1e-7}
FORMS = {
    "default": {},
    "small": {"separators": (",", ":")},
    "indented": {"indent": 4},
    "UTF-8": {"ensure_ascii": False},
}


@pytest.mark.parametrize("form", FORMS)
def test_a_line_holds_the_entry_whatever_its_form(form):
    text = json.dumps(ODD, **FORMS[form]).encode("utf-8", "replace")
    value = json.loads(text)
    for end in (b"\n", b"\r\n"):
        entries = Entries("annotations", 7, [value], [text.replace(b"\n", end)])
        (line,) = item_lines(entries)
        assert len(line.splitlines()) == 1
        assert line.endswith(b"\n")
        wanted = {"annotation": value, "position": 7}
        found, wanted = (
            json.dumps(v, sort_keys=True) for v in (load_line(line), wanted)
        )
        assert found == wanted  # as text: NaN is not itself


@pytest.mark.parametrize("form", FORMS)
def test_the_form_of_the_file_does_not_matter(tmp_path, form):
    data = SmallDataset(tmp_path / "data").write()
    records = {}
    for name in ("default", form):
        document = json.loads(data.path.read_text())
        data.path.write_text(json.dumps(document, **FORMS[name]))
        out = tmp_path / name
        assert main([*data.flags, f"--out={out}", "--num_shards=3"]) == 0
        records[name] = [p.read_bytes() for p in sorted(out.glob("*.tfrecord"))]
    assert records[form] == records["default"]
    assert len(records[form]) == 3


class Lists:
    """A writer that keeps what it is given."""

    def __init__(self):
        self.units = {}
        self.num_images = collections.Counter()

    def declare(self, unit_name):
        self.units.setdefault(unit_name, [])

    def count_images(self, unit_name, number):
        self.num_images[unit_name] += number

    def add(self, unit_name, item):
        self.units[unit_name].append(item)

    def add_line(self, unit_name, line):
        self.add(unit_name, load_line(line))


def test_a_plan_holds_every_entry_once_and_in_order(tmp_path):
    data = SmallDataset(tmp_path / "data", num_images=6).write()
    data.annotations[0]["segmentation"] = [[1, 2, 3, 4, 5, 6]]
    data.annotations[3] = 7
    data.write()
    (path,), images = data.flags[:1], str(data.folder / "images")
    path = path.partition("=")[2]
    built, labelled = Lists(), Lists()
    plan_build(path, images, "all", ["a", "b", "c"], built)
    plan_boxes(path, images, 4, labelled)
    for writer, drops in ((built, ()), (labelled, ("segmentation",))):
        items = [item for unit in writer.units.values() for item in unit]
        for name, of_unit in writer.units.items():
            assert writer.num_images[name] == sum("image" in item for item in of_unit)
        found = [item["image"] for item in items if "image" in item]
        assert sorted(found, key=data.images.index) == data.images
        places = {
            item["position"]: item["annotation"] for item in items if "position" in item
        }
        for place, annotation in enumerate(data.annotations):
            if isinstance(annotation, dict):
                annotation = {k: v for k, v in annotation.items() if k not in drops}
            assert places.pop(place) == annotation
        assert not places
        for unit in writer.units.values():
            in_unit = [item["position"] for item in unit if "position" in item]
            assert in_unit == sorted(in_unit)
    assert [len([i for i in u if "image" in i]) for u in labelled.units.values()] == [
        4,
        2,
    ]


def planned(tmp_path, image_ids, wanted_ids, ids=None):
    """What planning says of images and annotations with these ids."""
    data = SmallDataset(tmp_path / "data", num_images=1)
    image = data.images[0]
    data.images = [image | {"id": i} for i in image_ids]
    data.annotations = [
        {"id": k, "image_id": i, "category_id": 1}
        for k, i in zip(ids or range(len(wanted_ids)), wanted_ids, strict=True)
    ]
    data.write()
    images = str(data.folder / "images")
    return plan_build(str(data.path), images, "all", ["a", "b"], NoWriter())


@pytest.mark.parametrize("kind", [int, "image-{}".format])
def test_few_annotated_images_among_many_are_found(tmp_path, kind):
    planned(tmp_path, [kind(i) for i in range(30_000)], [kind(29_001)])


@pytest.mark.parametrize(
    ("images", "wanted", "words"),
    [
        ([1, 2], [3, 4], "images have ids such as 1, 2; annotations want 3, 4"),
        (["a"], ["b", "b"], "images have ids such as 'a'; annotations want 'b', 'b'"),
        ([1], ["b"], "images have ids such as 1; annotations want 'b'"),
        ([None], [3], "images have ids such as none; annotations want 3"),
    ],
)
def test_ids_that_do_not_meet_are_told(tmp_path, images, wanted, words):
    with pytest.raises(ProblemsFound) as caught:
        planned(tmp_path, images, wanted)
    assert words in str(caught.value)


@given(ids=st.lists(st.integers(0, 9) | st.sampled_from("abc") | st.none()))
def test_repeated_ids_are_those_after_the_first(tmp_path_factory, ids):
    folder = tmp_path_factory.mktemp("plan")
    found = planned(folder, [1], [1] * len(ids), ids)["repeats"]
    wanted = [k for k, i in enumerate(ids) if i is not None and i in ids[:k]]
    assert found == wanted


@given(
    ids=st.lists(st.integers() | st.text(min_size=1, max_size=2), min_size=1).map(
        lambda ids: [i for i in ids if isinstance(i, str) or abs(i) < 2**63] or [1]
    ),
    length=st.integers(1, 5),
)
def test_ranges_are_equally_long_and_in_order(ids, length):
    ranges = Ranges(ids, length, "f")
    in_order = sorted(set(ids), key=id_order)
    units = [ranges.unit_of(i) for i in in_order]
    assert units == [ranges.units[k // length] for k in range(len(in_order))]
    for other in (-(2**63), 2**63 - 1, "", "\U0010ffff"):
        assert ranges.unit_of(other) in ranges.units
