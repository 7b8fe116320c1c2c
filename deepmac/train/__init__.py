"""Training: what the network is to say, how far it is from that, and the loop that mends it."""

from deepmac.backend import select_backend

select_backend()
