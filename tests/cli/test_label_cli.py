"""`deepmac label` as a user meets it: real processes, both spellings, one-line errors."""

import json
import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    (folder / "images").mkdir()
    images, annotations = [], []
    for image_id in range(1, 5):
        pixels = np.full((20, 24, 3), 40 * image_id, np.uint8)
        pixels[5:15, 6:16] //= 2
        name = f"{image_id}.png"
        Image.fromarray(pixels).save(folder / "images" / name)
        images.append({"id": image_id, "file_name": name, "height": 20, "width": 24})
        annotation = {"id": image_id, "image_id": image_id, "category_id": 1}
        annotations.append(annotation | {"bbox": [5, 4, 12, 12]})
    categories = [{"id": 1, "name": "square"}]
    (folder / "boxes.json").write_text(
        json.dumps(
            {"images": images, "annotations": annotations, "categories": categories}
        )
    )
    return folder


def start(command, dataset, out, *more, model="ellipse", **environment):
    return subprocess.run(
        [
            sys.executable,
            *command,
            f"--annotations={dataset / 'boxes.json'}",
            f"--images={dataset / 'images'}",
            f"--out={out}",
            f"--model={model}",
            *more,
        ],
        capture_output=True,
        text=True,
        env=os.environ | environment,
    )


def label(dataset, out, *more, **kwargs):
    return start(["-m", "deepmac", "label"], dataset, out, *more, **kwargs)


def test_both_spellings_do_the_same(dataset, tmp_path):
    first = label(dataset, tmp_path / "a", "--", "--direct_num_workers=1")
    module = ["-m", "pipelines.infer"]
    second = start(module, dataset, tmp_path / "b", "--direct_num_workers=1")
    for done in (first, second):
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        assert "4 images in, 4 out, 0 failed" in done.stdout
    name = "predictions-00000-of-00001.jsonl.gz"
    assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_classical_predictor_runs_without_tensorflow(dataset, tmp_path):
    program = textwrap.dedent("""
        import sys
        from deepmac.cli import main
        status = main(["label", *sys.argv[1:]])
        print(status, sorted({"tensorflow", "keras", "jax"} & set(sys.modules)))
    """)
    done = start(["-c", program], dataset, tmp_path / "out", model="grabcut")
    assert done.stdout.splitlines()[-1] == "0 []", done.stderr


def test_a_users_own_predictor_is_found_by_every_worker(dataset, tmp_path):
    (tmp_path / "mine.py").write_text(
        textwrap.dedent("""
        from deepmac.predictors import open_predictor

        def make(checkpoint):
            assert checkpoint == "weights.bin"
            return open_predictor("box")
        """)
    )
    more = ["--checkpoint=weights.bin", "--unit_images=1", "--"]
    done = label(
        dataset,
        tmp_path / "out",
        *more,
        "--direct_num_workers=2",
        model="mine:make",
        PYTHONPATH=str(tmp_path),
    )
    assert done.returncode == 0, done.stderr
    assert "4 units" in done.stdout


MISTAKES = [
    (["--model=grabcutt"], "did you mean 'grabcut'?"),
    (["--model=center_net_deepmac_512x512_voc_onl"], "center_net_deepmac_512x512_voc_"),
    (["--model=path/to/no.config"], "no.config"),
    (["--model=center_net_deepmac_small"], "no checkpoint is given"),
    (["--model=nowhere:make"], "cannot import nowhere"),
    (["--checkpoint=ckpt-1"], "'ellipse' takes no checkpoint"),
    (["--set=model=1"], "'ellipse' takes no overrides"),
    (["--boxes=guess"], "'guess' is not one of 'given', 'detect'"),
    (["--boxes=detect"], "'ellipse' has no detector"),
    (["--unit_imgaes=3"], "did you mean '--unit_images'?"),
    (["--images=nowhere"], "nowhere: no such directory of images"),
    (["--annotations=nowhere.json"], "nowhere.json: cannot be read"),
    (
        ["--records=nowhere"],
        "name one input: either --annotations and --images, or --records",
    ),
    (["--micro_batch=0"], "--micro_batch must be positive, got 0"),
    (["--mask_threshold=1.5"], "--mask_threshold must be in 0..1, got 1.5"),
    (["--", "--direct_num_worker=2"], "did you mean '--direct_num_workers'?"),
    (["--", "--runner=DaskRunner"], "--runner=DaskRunner is refused"),
]


@pytest.fixture(scope="module")
def answers(dataset, tmp_path_factory):
    """What `deepmac label` says to each of the mistakes, all from one process."""
    program = textwrap.dedent("""
        import contextlib, io, json, sys
        from deepmac.cli import main
        arguments, answers = sys.argv[1:-1], []
        for more in json.loads(sys.argv[-1]):
            with contextlib.redirect_stderr(io.StringIO()) as errors:
                status = main(["label", *arguments, *more])
            answers.append([status, errors.getvalue()])
        print(json.dumps(answers))
    """)
    out = tmp_path_factory.mktemp("mistakes") / "out"
    mistakes = json.dumps([more for more, _ in MISTAKES])
    done = start(["-c", program], dataset, out, mistakes)
    assert done.returncode == 0, done.stderr
    assert not out.exists()
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    "number", range(len(MISTAKES)), ids=lambda i: MISTAKES[i][0][-1]
)
def test_a_mistake_is_one_line_with_status_2(answers, number):
    status, text = answers[number]
    assert MISTAKES[number][1] in text
    assert status == 2
    assert text.startswith("error: ")
    assert text.count("\n") == 1 or text.startswith("error: 2 problems:")
