"""Pages and pictures: one self-contained HTML file for a board, a run, a lot, or the yield of a time."""
