"""Beam jobs: options, graph, launch."""

import logging

from pipelines.beam_files import register_beam_stores

# While it is being imported, Beam warns of an optional package that no job here needs.
logging.getLogger().addFilter(lambda record: "apitools" not in str(record.msg))

# Here, so that workers have them too: whatever they are sent imports this package.
register_beam_stores()
