"""Classical segmentation: windows of joints, background, balls, webs between them, voids."""
