"""Reading reference checkpoints and our own weights."""

from deepmac.backend import select_backend

select_backend()
