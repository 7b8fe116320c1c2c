"""The devices that share the work of a step, and the types that a network computes in."""

import contextlib
from collections.abc import Iterator
from typing import Any

import keras

from deepmac.errors import OptionError


class Devices:
    """Devices of the backend that Keras runs on.

    Args:
        num: so many; None: all accelerators, or the processor.

    Attributes:
        num: of all hosts.
        host, num_hosts: of which this process is one.
        engine_options: what `open_engine` needs to know.

    Raises:
        OptionError: there are fewer.
    """

    def __init__(self, num: int | None = None):
        self.host, self.num_hosts = 0, 1
        self._strategy: Any = None
        if keras.config.backend() == "jax":
            self._use_jax(num)
        else:
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
