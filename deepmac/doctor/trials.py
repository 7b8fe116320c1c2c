"""What is tried out, each in a process of its own: `python -m deepmac.doctor.trials NAME`.

A trial reports JSON objects on what was its standard output when it began; everything that the
libraries print goes to its standard error.
"""

import json
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any

Report = Callable[..., None]
"""Takes facts as keyword arguments."""


def try_tensorflow(report: Report, with_keras: str = "") -> None:
    """Imports TensorFlow, lists its devices and multiplies two matrices."""
    import tensorflow as tf

    devices = []
    for device in tf.config.list_physical_devices():
        details = tf.config.experimental.get_device_details(device)
        capability = details.get("compute_capability")
        devices.append(
            {
                "kind": device.device_type.lower(),
                "name": details.get("device_name", device.name),
                "capability": list(capability) if capability else None,
            }
        )
    report(
        version=tf.__version__, devices=devices, has_cuda=tf.test.is_built_with_cuda()
    )
    ones = tf.ones((8, 8))
    report(product=float(tf.reduce_sum(ones @ ones)))
    if with_keras:
        try_keras(report)


def try_jax(report: Report, with_keras: str = "") -> None:
    """Imports JAX, lists its devices and multiplies two matrices."""
    import jax  # pyright: ignore[reportMissingImports]  (an extra)
    import jax.numpy as jnp  # pyright: ignore[reportMissingImports]

    report(version=jax.__version__)
    devices = []
    for device in jax.devices():
        capability = str(getattr(device, "compute_capability", "") or "").split(".")
        is_known = all(part.isdecimal() for part in capability)
        devices.append(
            {
                "kind": device.platform.lower(),
                "name": device.device_kind,
                "capability": [int(part) for part in capability] if is_known else None,
            }
        )
    report(devices=devices)
    ones = jnp.ones((8, 8))
    report(product=float((ones @ ones).sum()))
    if with_keras:
        try_keras(report)


def try_keras(report: Report) -> None:
    """Imports Keras as the network does, and applies a convolution."""
    from deepmac.backend import select_backend

    select_backend()
    import keras
    import numpy as np

    report(keras=keras.__version__, backend=keras.config.backend())
    images = np.ones((1, 8, 8, 3), np.float32)
    kernel = np.ones((3, 3, 3, 4), np.float32)
    features: Any = keras.ops.conv(images, kernel, padding="same")
    report(convolution=float(keras.ops.max(features)))  # pyright: ignore[reportArgumentType]


def try_beam(report: Report) -> None:
    """Imports Beam and runs a pipeline on its runner for one machine."""
    import apache_beam as beam
    from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner

    report(version=beam.__version__)
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        _ = pipeline | beam.Create([1, 2]) | beam.Map(lambda x: x + 1)
    report(ran=True)


def try_codecs(report: Report) -> None:
    """Every check of `deepmac.doctor.codecs`, each reported before the next begins."""
    from deepmac.doctor.codecs import CHECKS

    for name, check in CHECKS.items():
        about = {"name": name, "package": check.package, "needed": check.is_needed}
        report(**about)
        try:
            report(**about, text=check.run())
        except Exception as e:  # libraries that are broken raise almost anything
            report(**about, problem=_in_a_line(e))


def try_cloud(report: Report, url: str) -> None:
    """Lists a bucket of Google Cloud Storage, and writes and removes a small object there."""
    import secrets

    from google.cloud import storage  # pyright: ignore  (an extra)

    bucket_name, _, prefix = url.removeprefix("gs://").partition("/")
    bucket = storage.Client().bucket(bucket_name)
    folder = prefix.rstrip("/") + "/" if prefix.strip("/") else ""
    next(iter(bucket.list_blobs(prefix=folder, max_results=1)), None)
    report(listed=True)
    blob = bucket.blob(f"{folder}deepmac-doctor-{secrets.token_hex(8)}")
    blob.upload_from_string(b"", if_generation_match=0)
    report(written=True)
    blob.delete()
    report(removed=True)


TRIALS: dict[str, Callable[..., None]] = {
    "tensorflow": try_tensorflow,
    "jax": try_jax,
    "keras": try_keras,
    "beam": try_beam,
    "codecs": try_codecs,
    "cloud": try_cloud,
}


def main(name: str, *arguments: str) -> int:
    """Runs a trial; returns the exit status."""
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def report(**facts: Any) -> None:
        channel.write(json.dumps(facts) + "\n")
        channel.flush()

    try:
        TRIALS[name](report, *arguments)
    except BaseException as e:
        traceback.print_exc()
        report(error=_in_a_line(e))
        return 1
    return 0


def _in_a_line(error: BaseException) -> str:
    text = next((line for line in str(error).splitlines() if line.strip()), "").strip()
    name = type(error).__name__
    return f"{name}: {text}" if text else name


if __name__ == "__main__":
    # Libraries that wait for threads at exit would have to be waited for.
    status = main(*sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
