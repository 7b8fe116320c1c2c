"""The network, in `keras.ops` only."""

from deepmac.backend import select_backend

select_backend()
