"""Annotations, images and records: the formats that the stages exchange."""
