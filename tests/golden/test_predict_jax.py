"""The recorded masks again, on JAX, in an interpreter that has no TensorFlow."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import deepmac
from deepmac.checkpoint.native import save_weights
from deepmac.predictors.deepmac import load_network

CASE = Path(__file__).parent / "full_hg10_roialign"

PROGRAM = """
import sys
sys.modules["tensorflow"] = None  # importing it fails, finding it too
import importlib.util
find = importlib.util.find_spec
importlib.util.find_spec = lambda n, *rest: None if n == "tensorflow" else find(n, *rest)

import numpy as np
import deepmac
from deepmac.boxes import denormalise

config, weights, arrays, out = sys.argv[1:]
predictor = deepmac.load(config, weights)
import keras
assert keras.config.backend() == "jax"
inputs = np.load(arrays)
images = [inputs["image/0"], inputs["image/1"]]
boxes = [denormalise(b, *i.shape[:2]) for b, i in zip(inputs["user_boxes"], images)]
given = predictor.batch(images, boxes)
found = predictor.batch(images, None)
np.savez(
    out,
    given=np.stack([result.mask_probs for result in given]),
    found=np.stack([result.mask_probs for result in found]),
    fingerprint=predictor.batch.fingerprint,
)
"""


@pytest.mark.slow  # XLA takes its time on a CPU
@pytest.mark.skipif(
    importlib.util.find_spec("jax") is None, reason="JAX is not installed"
)
def test_jax_gives_the_recorded_masks_without_tensorflow(tmp_path):
    config, weights = str(CASE / "pipeline.config"), str(tmp_path / "w.weights.h5")
    on_tensorflow = deepmac.load(config, CASE / "checkpoint").batch
    save_weights(load_network(config, checkpoint=CASE / "checkpoint"), weights)
    arguments = [config, weights, str(CASE / "inputs.npz"), str(tmp_path / "out.npz")]
    subprocess.run([sys.executable, "-c", PROGRAM, *arguments], check=True)
    on_jax = np.load(tmp_path / "out.npz")
    expected = np.load(CASE / "outputs.npz")
    close = {"atol": 3e-3, "rtol": 1e-4}  # as recommended with the recordings
    for name, recorded in [
        ("given", "user_boxes/detection_masks"),
        ("found", "postprocess/detection_masks"),
    ]:
        np.testing.assert_allclose(on_jax[name], expected[recorded], **close)
    assert str(on_jax["fingerprint"]) == on_tensorflow.fingerprint
