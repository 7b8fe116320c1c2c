"""Sends an image with boxes to an exported network and prints the area of each mask.

    python docs/serving_client.py photo.jpg --box 10 20 200 180 --url http://localhost:8501/v1/models/deepmac
    python docs/serving_client.py photo.jpg --box 10 20 200 180 --saved_model export/saved_model

The first asks TensorFlow Serving (or anything with its REST interface), the second runs the
SavedModel here. Boxes are ymin xmin ymax xmax in pixels, and are cut at the border of the image.
"""

import argparse
import base64
import json
import os
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np

from deepmac.backend import import_tensorflow_quietly
from deepmac.boxes import normalise
from deepmac.data.decode import decode_rgb
from deepmac.errors import DeepmacError
from deepmac.paste import paste_masks
from deepmac.predictors.inputs import check_boxes


def ask_server(url: str, encoded: bytes, boxes: np.ndarray) -> np.ndarray:
    """float32 [N, S, S], the masks of boxes [N, 4], from a server.

    Its signature says whether it takes a file or pixels.
    """
    metadata = _json(f"{url}/metadata")["metadata"]["signature_def"]["signature_def"]
    inputs = metadata["serving_default"]["inputs"]
    if inputs["input_tensor"]["dtype"] == "DT_STRING":
        image: Any = {"b64": base64.b64encode(encoded).decode()}
    else:
        image = decode_rgb(encoded).tolist()
    body = {"inputs": {"input_tensor": [image], "boxes": [boxes.tolist()]}}
    outputs = _json(f"{url}:predict", json.dumps(body).encode())["outputs"]
    return np.array(outputs["detection_masks"][0], np.float32)


def run_here(saved_model: str, encoded: bytes, boxes: np.ndarray) -> np.ndarray:
    """The same from a SavedModel."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import_tensorflow_quietly()
    import tensorflow as tf

    network = tf.saved_model.load(saved_model).signatures["serving_default"]
    inputs = network.structured_input_signature[1]
    if set(inputs) != {"input_tensor", "boxes"}:
        raise DeepmacError(
            f"{saved_model}: takes {', '.join(sorted(inputs))}; this client asks for the masks of "
            f"boxes, which an export of --input_type image_and_boxes_tensor has"
        )
    takes_files = inputs["input_tensor"].dtype == tf.string
    image = tf.constant(encoded if takes_files else decode_rgb(encoded))
    outputs = network(
        input_tensor=image[None], boxes=tf.constant(boxes[None], tf.float32)
    )
    return outputs["detection_masks"][0].numpy()


def _json(url: str, body: bytes | None = None) -> Any:
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as e:
        raise DeepmacError(f"{url}: {e.code}: {e.read().decode()[:500]}") from None
    except OSError as e:
        raise DeepmacError(f"{url}: {e}") from None


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("image", type=Path)
    parser.add_argument(
        "--box",
        nargs=4,
        type=float,
        action="append",
        required=True,
        metavar=("YMIN", "XMIN", "YMAX", "XMAX"),
        help="in pixels; may be given several times",
    )
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--url", help="of the model on a server")
    where.add_argument("--saved_model", help="directory of a SavedModel")
    options = parser.parse_args()
    try:
        encoded = options.image.read_bytes()
        height, width = decode_rgb(encoded).shape[:2]
        boxes = normalise(check_boxes(options.box, height, width), height, width)
        boxes = boxes.clip(0, 1)
        if options.url:
            masks = ask_server(options.url.rstrip("/"), encoded, boxes)
        else:
            masks = run_here(options.saved_model, encoded, boxes)
    except (OSError, DeepmacError) as e:
        print(f"error: {e}", file=sys.stderr)
        return 2
    pasted = paste_masks(masks, boxes, height, width)
    for box, area in zip(options.box, pasted.sum(axis=(1, 2)), strict=True):
        print(f"box {' '.join(f'{side:g}' for side in box)}: {area} pixels")
    return 0


if __name__ == "__main__":
    sys.exit(main())
