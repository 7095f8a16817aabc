"""Boards in the export format from a machine's own files: a map says where things are, the balls show what it does not say."""
