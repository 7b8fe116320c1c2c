"""Sample data made in code: textured, lit, occluding objects with exact masks."""

from deepmac.samples.write import ShapesPaths, write_shapes

__all__ = ["ShapesPaths", "write_shapes"]
