"""Reading reference checkpoints and our own weights."""
