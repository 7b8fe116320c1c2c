"""The configuration files: text protos read into frozen dataclasses."""
