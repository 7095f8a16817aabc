"""Classical segmentation: windows of joints, outlines, webs between neighbours, voids, surfaces, balls without a recipe."""
