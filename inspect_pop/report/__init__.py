"""Pages: one self-contained HTML file for a board, a run, a lot, or the yield of a period."""
