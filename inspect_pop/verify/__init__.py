"""The verify station's material: what a person sees of a joint, the golden board, the page and its words."""
