"""The network, in `keras.ops` only."""
