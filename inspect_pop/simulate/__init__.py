"""Whole boards with known truth: joint shapes, X-ray, surfaces, machines, and the export format they are written in."""
