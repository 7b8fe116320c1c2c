"""The network, in `keras.ops` only."""

from deepmac.backend import import_tensorflow_quietly, select_backend

select_backend()
import_tensorflow_quietly()
