"""Beam jobs: options, graph, launch."""

import logging

# While it is being imported, Beam warns of an optional package that no job here needs.
logging.getLogger().addFilter(lambda record: "apitools" not in str(record.msg))
