"""Images per CPU second of `deepmac build`, the Model Garden's converter and plain copying.

    make venv-garden
    python -m benchmarks.build_speed [--garden_python .venv-garden/bin/python]

All convert the same generated images (`benchmarks.coco_like`). A program's start-up is taken out by
running it on a few of the images too: what counts is the difference. Plain copying reads every
image file and writes its bytes as a record: once with Python and our framing, once with
TensorFlow's reader and `TFRecordWriter`. The least of several rounds counts.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.coco_like import write_set

CONVERTER = "official.vision.data.create_coco_tf_record"
OUT = "out"
TF_COPY = """
import json, sys
import tensorflow as tf
folder, annotations = sys.argv[1:]
names = [image["file_name"] for image in json.load(open(annotations))["images"]]
for _ in range(20):
    with tf.io.TFRecordWriter("out/copy") as out:
        for name in names:
            out.write(tf.io.gfile.GFile(folder + "/" + name, "rb").read())
"""
COPIES = 20  # that both copiers make, one over the other: one takes too little to be measured


def commands(garden_python: str | None) -> dict[str, list[str]]:
    """What is compared: name -> command, to which `IMAGES ANNOTATIONS` are filled in."""
    ours = [sys.executable, "-m", "deepmac", "build", "--num_shards=8", f"--out={OUT}"]
    ours += ["--images={images}", "--annotations={annotations}"]
    copy = [sys.executable, "-m", "benchmarks.build_speed"]
    found = {
        "deepmac build, masks": ours,
        "deepmac build, no masks": [*ours, "--no_masks"],
        "copying, Python": [*copy, "--copy", "{images}", "{annotations}"],
    }
    if garden_python:
        theirs = [garden_python, "-m", CONVERTER, "--num_shards=8", "--num_processes=1"]
        theirs += ["--image_dir={images}", "--object_annotations_file={annotations}"]
        theirs += [f"--output_file_prefix={OUT}/records"]
        found |= {
            "Model Garden, masks": [*theirs, "--include_masks"],
            "Model Garden, no masks": theirs,
            "copying, TensorFlow": [
                garden_python,
                "-c",
                TF_COPY,
                "{images}",
                "{annotations}",
            ],
        }
    return found


def cpu_seconds(command: list[str], folder: Path, annotations: Path) -> float:
    """CPU seconds of a program and all that it starts; its output is thrown away."""
    shutil.rmtree(folder / OUT, ignore_errors=True)
    (folder / OUT).mkdir()
    places = {"images": folder / "images", "annotations": annotations}
    filled = [c.format(**places) if c.startswith(("{", "--")) else c for c in command]
    path = os.pathsep.join([os.getcwd(), os.environ.get("PYTHONPATH", "")])
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(
        filled, cwd=folder, env={**os.environ, "PYTHONPATH": path}, **quiet
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"status {process.returncode}: {' '.join(filled)}")
    return usage.ru_utime + usage.ru_stime


def write_part(folder: Path, num_images: int) -> Path:
    """An annotation file of the first images of the set."""
    lists = json.loads((folder / "annotations.json").read_text())
    lists["images"] = lists["images"][:num_images]
    ids = {image["id"] for image in lists["images"]}
    of_these = [a for a in lists["annotations"] if a["image_id"] in ids]
    path = folder / f"first-{num_images}.json"
    path.write_text(json.dumps(lists | {"annotations": of_these}))
    return path


def copy(images: str, annotations: str) -> None:
    """Plain copying of image files into a file of records."""
    from deepmac.data.tfrecord import frame

    entries = json.loads(Path(annotations).read_text())["images"]
    for _ in range(COPIES):
        with open(f"{OUT}/copy", "wb", buffering=1 << 20) as out:
            for entry in entries:
                with open(f"{images}/{entry['file_name']}", "rb") as file:
                    out.write(frame(file.read()))


def measure(folder: Path, options: argparse.Namespace) -> dict[str, float]:
    """Images per CPU second beyond start-up."""
    write_set(folder, options.num_images)
    some, whole = options.num_images // 10, options.num_images
    few, every = write_part(folder, some), write_part(folder, whole)
    rates = {}
    for name, command in commands(options.garden_python).items():
        rounds = range(options.rounds)
        start = min(cpu_seconds(command, folder, few) for _ in rounds)
        total = min(cpu_seconds(command, folder, every) for _ in rounds)
        passes = COPIES if name.startswith("copying") else 1
        rates[name] = passes * (whole - some) / (total - start)
        print(f"{name:26}{rates[name]:10.0f} images per CPU second", flush=True)
    return rates


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--num_images", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", help="where to make the images; default: temporary")
    parser.add_argument("--garden_python", help="of `make venv-garden`; else left out")
    parser.add_argument("--copy", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.copy:
        copy(*options.copy)
        return 0
    if options.garden_python:
        options.garden_python = str(Path(options.garden_python).absolute())
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        rates = measure(Path(folder), options)
    for kind, peers in (
        ("masks", ("Model Garden, masks",)),
        (
            "no masks",
            ("Model Garden, no masks", "copying, Python", "copying, TensorFlow"),
        ),
    ):
        for peer in filter(rates.get, peers):
            ratio = rates[f"deepmac build, {kind}"] / rates[peer]
            print(f"deepmac build, {kind} / {peer}: {ratio:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
