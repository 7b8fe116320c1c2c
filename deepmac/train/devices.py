"""The devices that share the work of a step, and the types that a network computes in."""

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import keras

from deepmac.errors import OptionError


class Devices:
    """Devices of the backend that Keras runs on.

    Args:
        num: so many; None: all accelerators, or the processor.
        distributed: join the other hosts first (JAX). On TPU pods, SLURM and other clusters that
            JAX knows nothing more is needed; elsewhere the environment of each host says
            JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID.

    Attributes:
        num: of all hosts.
        host, num_hosts: of which this process is one.
        engine_options: what `open_engine` needs to know.

    Raises:
        OptionError: there are fewer, or the other hosts cannot be joined.
    """

    def __init__(self, num: int | None = None, *, distributed: bool = False):
        self.host, self.num_hosts = 0, 1
        self._strategy: Any = None
        if keras.config.backend() == "jax":
            if distributed:
                _join_hosts()
            self._use_jax(num)
        else:
            if distributed:
                raise OptionError(
                    "--distributed: several hosts share a step on JAX alone; set KERAS_BACKEND=jax"
                )
            self._use_tensorflow(num)

    @property
    def scope(self) -> contextlib.AbstractContextManager:
        """Models and optimisers are made, and their variables set, inside."""
        return self._strategy.scope() if self._strategy else contextlib.nullcontext()

    def _use_jax(self, num: int | None) -> None:
        import jax  # pyright: ignore[reportMissingImports]  (an extra)

        devices = jax.devices()
        if num is None and devices[0].platform == "cpu":
            num = 1 if jax.process_count() == 1 else len(devices)
        self.num = _checked(num, len(devices), "JAX")
        self.host, self.num_hosts = jax.process_index(), jax.process_count()
        self.engine_options: dict[str, Any] = {"devices": devices[: self.num]}

    def _use_tensorflow(self, num: int | None) -> None:
        import tensorflow as tf

        devices = tf.config.list_logical_devices("GPU")
        if not devices:
            devices = tf.config.list_logical_devices("CPU")
            num = 1 if num is None else num
        self.num = _checked(num, len(devices), "TensorFlow")
        if self.num > 1:
            names = [device.name for device in devices[: self.num]]
            self._strategy = tf.distribute.MirroredStrategy(names)
        self.engine_options = {"strategy": self._strategy}


def _join_hosts() -> None:
    import jax  # pyright: ignore[reportMissingImports]

    known: dict[str, Any] = {}
    if "JAX_NUM_PROCESSES" in os.environ:
        try:
            known = {
                "num_processes": int(os.environ["JAX_NUM_PROCESSES"]),
                "process_id": int(os.environ["JAX_PROCESS_ID"]),
            }
        except (KeyError, ValueError) as e:
            raise OptionError(
                f"--distributed: JAX_NUM_PROCESSES is set, but JAX_PROCESS_ID or one of them is no "
                f"number ({e})"
            ) from None
    try:
        jax.distributed.initialize(**known)
    except (RuntimeError, ValueError) as e:
        raise OptionError(
            f"--distributed: cannot join the other hosts: {str(e).partition(chr(10))[0]}"
        ) from None


def _checked(num: int | None, available: int, backend: str) -> int:
    if num is None:
        return available
    if not 1 <= num <= available:
        raise OptionError(
            f"--num_devices={num}: {backend} has {available} here; give 1 to {available}"
        )
    return num


@contextlib.contextmanager
def computing_in(use_bfloat16: bool) -> Iterator[None]:
    """Layers made inside compute in bfloat16, on float32 weights, if so asked."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16" if use_bfloat16 else "float32")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
