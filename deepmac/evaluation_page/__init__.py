"""The report of an evaluation: one HTML file, read from disk, with all that it shows inside."""
