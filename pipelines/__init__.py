"""Beam jobs: options, graph, launch."""
