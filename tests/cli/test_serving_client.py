"""`docs/serving_client.py` against a SavedModel, and against a server that speaks REST."""

import base64
import http.server
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from recorded_networks import COMMITTED

tf = pytest.importorskip("tensorflow")

CLIENT = Path(__file__).parents[2] / "docs" / "serving_client.py"
BOXES = [(2, 5, 40, 50), (20, 20, 45, 64)]


class StandIn(http.server.BaseHTTPRequestHandler):
    """The part of TensorFlow Serving's REST interface that the client needs, for one SavedModel."""

    signature: Any

    def do_GET(self):
        inputs = {
            name: {"dtype": f"DT_{spec.dtype.name.upper()}"}
            for name, spec in self.signature.structured_input_signature[1].items()
        }
        signature = {"serving_default": {"inputs": inputs}}
        definition = {"signature_def": {"signature_def": signature}}
        self.answer(200, {"metadata": definition})

    def do_POST(self):
        assert self.path == "/v1/models/deepmac:predict"
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        specs = self.signature.structured_input_signature[1]
        tensors = {
            name: tf.constant(without_base64(values), specs[name].dtype)
            for name, values in body["inputs"].items()
        }
        try:
            outputs = self.signature(**tensors)
        except tf.errors.InvalidArgumentError as e:
            self.answer(400, {"error": str(e)})
            return
        as_lists = {name: values.numpy().tolist() for name, values in outputs.items()}
        self.answer(200, {"outputs": as_lists})

    def answer(self, status: int, body: dict) -> None:
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, *args):
        pass


def without_base64(value: Any) -> Any:
    if isinstance(value, dict):
        return base64.b64decode(value["b64"], validate=True)
    return [without_base64(v) for v in value] if isinstance(value, list) else value


@pytest.fixture(params=["image_and_boxes_tensor", "encoded_image_and_boxes"])
def saved_model(request, exported) -> Path:
    return exported(request.param) / "saved_model"


@pytest.fixture
def url(saved_model) -> Iterator[str]:
    signature = tf.saved_model.load(str(saved_model)).signatures["serving_default"]
    handler = type("Handler", (StandIn,), {"signature": signature})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/v1/models/deepmac"
        server.shutdown()


@pytest.fixture
def photo(tmp_path) -> Path:
    image = np.load(COMMITTED / "inputs.npz")["image/0"]
    Image.fromarray(image).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def client(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(CLIENT), *map(str, arguments)]
    # JAX, imported by other tests, leaves a level there that is not the user's wish.
    env = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=env)


def test_server_and_saved_model_give_the_masks_of_the_network(saved_model, url, photo):
    import deepmac

    boxes = [word for box in BOXES for word in ("--box", *box)]
    network = deepmac.load(COMMITTED / "pipeline.config", COMMITTED / "checkpoint")
    masks = network(np.asarray(Image.open(photo)), BOXES).masks
    expected = [
        f"box {' '.join(map(str, box))}: {mask.sum()} pixels"
        for box, mask in zip(BOXES, masks, strict=True)
    ]
    for where in (["--url", url], ["--saved_model", saved_model]):
        done = client(photo, *boxes, *where)
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines() == expected
        assert done.stderr == ""
    assert masks.any()


def test_mistakes_are_one_line(photo):
    box = ("--box", *BOXES[0])
    nowhere = "http://127.0.0.1:9/v1/models/deepmac"
    for arguments, message in [
        ((photo, *box, "--url", nowhere), "Connection refused"),
        (("no.jpg", *box, "--url", nowhere), "No such file"),
        ((photo, "--box", 9, 9, 9, 20, "--url", nowhere), "ymax must be above ymin"),
    ]:
        done = client(*arguments)
        assert done.returncode == 2
        assert message in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_the_page_has_the_types_that_there_are_and_a_client_that_exists():
    from deepmac.export import INPUT_TYPES

    page = CLIENT.with_name("serving.md").read_text(encoding="utf-8")
    table = re.findall(r"^\| `(\w+)`", page, re.MULTILINE)
    assert set(INPUT_TYPES) <= set(table)
    assert "docs/serving_client.py" in page
