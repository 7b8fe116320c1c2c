"""Exact COCO evaluation with mergeable state."""
