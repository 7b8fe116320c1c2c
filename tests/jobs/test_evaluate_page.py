"""The commands of docs/evaluate.md, as written, on a small set of the names that they use."""

import json
import shlex
from pathlib import Path

import coco_cases
from pages import ROOT, blocks

from deepmac.cli import main

PAGE = ROOT / "docs" / "evaluate.md"


def write_files(folder: Path) -> None:
    names = {1: "cat", 2: "dog", 3: "hamster", 7: "tree"}
    scene = coco_cases.Scene(images=range(1, 13), categories=names)
    others = []
    for image in range(1, 13):
        for n, category in enumerate(names):
            box = (30 * n, 0, 25, 20 + image)
            scene.object(box, image, category)
            scene.found((30 * n, 0, 25, 12 + image), (image + n) / 20, image, category)
            others.append(scene.results[-1] | {"segmentation": coco_cases.rle(box)})
    for category in scene.truth["categories"]:
        category["name"] = names[category["id"]]
        category["supercategory"] = "plant" if category["id"] == 7 else "animal"
    for name, content in {
        "annotations.json": scene.truth,
        "results.json": scene.results,
        "results_b.json": others,
        "groups.json": {"with legs": ["cat", 2], "green": ["tree"]},
    }.items():
        (folder / name).write_text(json.dumps(content))


def test_every_command_of_the_page_runs_as_written(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_files(tmp_path)
    text = "".join(block.text for block in blocks(PAGE, "sh"))
    commands = text.replace("\\\n", " ").splitlines()
    assert len(commands) == 5
    for command in commands:
        program, *argv = shlex.split(command)
        assert program == "deepmac"
        assert main(argv) == 0, command
    groups = json.loads((tmp_path / "metrics" / "metrics.json").read_bytes())["segm"][
        "groups"
    ]
    names = ["seen", "unseen", "animal", "plant", "pets", "with legs", "green"]
    assert list(groups) == names
    compared = json.loads((tmp_path / "comparison" / "comparison.json").read_bytes())
    assert "B is better on unseen by" in "\n".join(compared["conclusions"])
    page = PAGE.read_text()
    for path in (*(tmp_path / "run_a").iterdir(), *(tmp_path / "comparison").iterdir()):
        assert f"`{path.name}`" in page  # every file written is explained
