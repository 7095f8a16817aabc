"""Simulate boards with known truth: solder shapes, X-ray slices, height maps, machines, and batches in the export format."""
