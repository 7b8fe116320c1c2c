"""Tensors and the operations on them, of whichever backend Keras runs on."""

from typing import Any

import keras

Tensor = Any

# `keras.ops`, untyped: the return types that checkers infer for it are wrong.
ops: Any = keras.ops
