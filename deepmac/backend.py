"""Which backend Keras runs on, and what is particular to it, such as compiling functions.

The only module that knows one backend from another. The network itself is `keras.ops`.
"""

import contextlib
import functools
import importlib.util
import os
import random
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from deepmac.errors import DeepmacError, did_you_mean
from deepmac.matrix_units import matrix_units

_BACKENDS = ("tensorflow", "jax", "torch")  # the last at the user's own risk


def select_backend() -> None:
    """Has Keras run on JAX where TensorFlow, its default, is not installed.

    Packages that import Keras call this first. A `KERAS_BACKEND` that is set is obeyed, and so is
    a Keras that is already there.

    Raises:
        DeepmacError: there is no backend at all, or not the one that is asked for.
    """
    if "keras" in sys.modules:
        return
    asked = os.environ.get("KERAS_BACKEND")
    if asked and asked not in _BACKENDS:
        raise DeepmacError(
            f"KERAS_BACKEND is {asked}, which Keras does not know{did_you_mean(asked, _BACKENDS)}; "
            f"set it to tensorflow or jax, or leave it unset"
        )
    if asked and not _has(asked):
        raise DeepmacError(
            f"KERAS_BACKEND is {asked}, which is not installed: pip install {asked}, or leave "
            f"KERAS_BACKEND unset"
        )
    if asked or _has("tensorflow"):
        return
    if not _has("jax"):
        raise DeepmacError(
            "the network needs TensorFlow or JAX: pip install tensorflow (or jax)"
        )
    os.environ["KERAS_BACKEND"] = "jax"


def require_tensorflow(what: str) -> None:
    """Raises DeepmacError, which begins with `what`, unless Keras runs on TensorFlow."""
    if not _has("tensorflow"):
        raise DeepmacError(f"{what} needs TensorFlow (pip install tensorflow)")
    import_tensorflow_quietly()
    import keras

    if (backend := keras.config.backend()) != "tensorflow":
        raise DeepmacError(
            f"{what} needs Keras on TensorFlow, here it runs on {backend}; set "
            f"KERAS_BACKEND=tensorflow"
        )


def import_tensorflow_quietly() -> None:
    """Imports TensorFlow, if Keras will, without its greetings, where `TF_CPP_MIN_LOG_LEVEL` is
    2 or more.

    TensorFlow obeys that variable only after it has written half a dozen lines about the machine.
    The command line sets it, and one of its errors is one line.
    """
    backend = os.environ.get("KERAS_BACKEND", "tensorflow")
    is_quiet = os.environ.get("TF_CPP_MIN_LOG_LEVEL", "0") >= "2"
    if backend == "tensorflow" and is_quiet and "tensorflow" not in sys.modules:
        with _without_stderr():
            import tensorflow as tf

            tf.config.list_physical_devices()  # has its say about missing drivers now


@contextlib.contextmanager
def _without_stderr() -> Iterator[None]:
    """Nothing reaches the standard error of the process, from whatever language it is written."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


@contextlib.contextmanager
def repeatable_weights(seed: int = 0) -> Iterator[None]:
    """Layers made inside get the same fresh weights in every process.

    Keras draws the seeds of initialisers that are given none from Python's own generator, whose
    state is put back.
    """
    state = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)


def compiled(function: Callable[..., Any], model: Any) -> Callable[..., Any]:
    """A function that the backend compiles once for each combination of argument shapes.

    Args:
        function: of arrays to arrays (or tuples of them), in `keras.ops`, which uses the variables
            of `model` without changing them.
        model: a Keras model.

    Returns:
        The function of the same arguments, NumPy arrays or tensors.
    """
    import keras

    backend = keras.config.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        return tf.function(function, autograph=False)
    if backend == "jax":
        return _compiled_by_jax(function, model)
    return function


def _compiled_by_jax(function: Callable[..., Any], model: Any) -> Callable[..., Any]:
    import jax  # pyright: ignore[reportMissingImports]  (an extra)
    import keras

    variables = model.variables

    # The weights are arguments: as constants of the program they would be there twice.
    @jax.jit
    def pure(values, *arguments):
        with keras.StatelessScope(zip(variables, values, strict=True)):
            return function(*arguments)

    return lambda *arguments: pure([v.value for v in variables], *arguments)


def rematerialised(call: Callable[[Any], Any], x: Any, moved: Sequence[Any]) -> Any:
    """What `call(x)` returns, computed a second time when its gradient is wanted.

    Nothing but `x` is kept for the gradient then, where a plain call keeps what every operation
    inside has put out. On JAX only: elsewhere it is the plain call.

    Args:
        call: of an array, in `keras.ops`. Uses variables of Keras.
        x: the array.
        moved: all variables that `call` assigns to.
    """
    import keras

    if keras.config.backend() != "jax":
        return call(x)
    import jax  # pyright: ignore[reportMissingImports]

    @jax.checkpoint
    def pure(x):
        y = call(x)
        return y, [variable.value for variable in moved]

    y, values = pure(x)
    # What was assigned inside has no meaning outside.
    for variable, value in zip(moved, values, strict=True):
        variable.assign(value)
    return y


def bfloat16_units(environment: Mapping[str, str]) -> str | None:
    """What multiplies matrices of bfloat16 for the backend several times faster than of float32.

    Args:
        environment: of the process.

    Returns:
        A word for it; None where there is nothing.
    """
    select_backend()
    import keras

    if keras.config.backend() == "jax":
        import jax  # pyright: ignore[reportMissingImports]

        device = jax.devices()[0]
        # On a processor, XLA computes bfloat16 in float32.
        is_old = float(getattr(device, "compute_capability", None) or 8) < 8
        has_units = device.platform != "cpu" and not is_old
        return str(device.device_kind) if has_units else None
    if keras.config.backend() != "tensorflow":
        return None
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return matrix_units(environment)
    details = tf.config.experimental.get_device_details(gpus[0])
    is_new = details.get("compute_capability", (0, 0)) >= (8, 0)
    return details.get("device_name", "GPU") if is_new else None


def convolve(x: Any, kernel: Any, bias: Any, stride: int, padding: Any) -> Any:
    """A convolution and its bias, as fast as the backend has them.

    Args:
        x: [B, h, w, C], of the type of the kernel.
        kernel: [k, k, C, channels].
        bias: [channels].
        stride: in both directions.
        padding: "same" or "valid".
    """
    import keras

    if keras.config.backend() == "tensorflow":
        import tensorflow as tf

        # oneDNN takes `bias_add` into the convolution, and the ReLU or the sum that follows, but
        # not a plain addition, which Keras has here.
        y = tf.nn.conv2d(x, kernel, strides=stride, padding=padding.upper())
        return tf.nn.bias_add(y, bias)
    y = keras.ops.conv(x, kernel, stride, padding, data_format="channels_last")
    return keras.ops.add(y, bias)


def rows_of_each(values: Any, indices: Any) -> Any:
    """Rows of each image by its own indices.

    With image and row as one axis it would be one plain lookup; but XLA, which cuts a batch over
    devices, would then bring the images of all devices together on each of them.

    Args:
        values: [B, N, C].
        indices: int32 [B, M], from 0 to N - 1.

    Returns:
        [B, M, C].
    """
    import keras

    if keras.config.backend() == "tensorflow":
        import tensorflow as tf

        return tf.gather(values, indices, batch_dims=1)
    return keras.ops.take_along_axis(values, indices[..., None], axis=1)


def largest_of_each(values: Any, segments: Any, num_segments: int) -> Any:
    """The largest values of each segment of each image; see `rows_of_each` for why by image.

    Args:
        values: float [B, N, L].
        segments: int32 [B, N], from 0 to num_segments - 1.
        num_segments: K.

    Returns:
        [B, K, L]; of a segment without values the lowest number there is, or minus infinity.
    """
    import keras

    if keras.config.backend() == "jax":
        import jax  # pyright: ignore[reportMissingImports]

        by_image = functools.partial(jax.ops.segment_max, num_segments=num_segments)
        return jax.vmap(by_image)(values, segments)
    ops: Any = keras.ops
    num_images, _, length = ops.shape(values)
    image = ops.arange(num_images, dtype="int32")[:, None]
    largest = ops.segment_max(
        ops.reshape(values, (-1, length)),
        ops.reshape(image * num_segments + segments, (-1,)),
        num_images * num_segments,
    )
    return ops.reshape(largest, (-1, num_segments, length))


def at_least_float32(dtype: Any) -> str:
    """What to compute in where values of a type must lose nothing more: float32, or float64 for float64.

    Keras's own promotion of the two says float32 on JAX, whatever `jax_enable_x64` says.
    """
    import keras

    name = keras.backend.standardize_dtype(dtype)
    return name if name == "float64" else "float32"


def normalise_batch(
    x: Any, scale: Any, offset: Any, epsilon: float, *, of_squares: bool = False
) -> tuple[Any, Any, Any]:
    """Batch norm in training, over the batch of all replicas.

    Args:
        x: [B, h, w, C], of the type that the result is to have; computed in float32 at least.
        scale, offset: float32 [C].
        epsilon: added to the variance.
        of_squares: take the variance as the mean of the squares less the square of the mean, as
            the reference does, which loses digits where the mean is large. TensorFlow does so in
            any case where there are several replicas.

    Returns:
        The normalised batch, and mean and (biased) variance of each channel, [C].
    """
    import keras

    ops: Any = keras.ops
    num_replicas = 1
    if keras.config.backend() == "tensorflow":
        import tensorflow as tf

        context: Any = tf.distribute.get_replica_context()
        num_replicas = context.num_replicas_in_sync if context else 1
        if num_replicas == 1 and not of_squares and x.dtype != tf.float64:
            # One pass forwards and one backwards, where the plain operations make a dozen.
            y, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
                x=x, scale=scale, offset=offset, mean=[], variance=[], epsilon=epsilon
            )
            count = tf.cast(tf.size(x) // x.shape[-1], variance.dtype)
            return y, mean, variance * (count - 1) / tf.maximum(count, 1)
    dtype = x.dtype
    x = ops.cast(x, at_least_float32(dtype))
    axes = [0, 1, 2]
    if num_replicas > 1:
        count = ops.cast(ops.size(x) // x.shape[-1], x.dtype)
        sums = ops.sum(x, axes), ops.sum(ops.square(x), axes), count
        total, squares, count = context.all_reduce(tf.distribute.ReduceOp.SUM, sums)
        mean = total / count
        variance = ops.maximum(squares / count - ops.square(mean), 0.0)
    elif of_squares:
        mean = ops.mean(x, axes)
        squares = ops.mean(ops.square(x), axes)
        variance = ops.maximum(squares - ops.square(mean), 0.0)
    else:
        mean, variance = ops.moments(x, axes)
    y = ops.batch_normalization(
        x, mean, variance, axis=-1, offset=offset, scale=scale, epsilon=epsilon
    )
    return ops.cast(y, dtype), mean, variance


def _has(module: str) -> bool:
    return importlib.util.find_spec(module) is not None
