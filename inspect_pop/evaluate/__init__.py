"""How good a model is: outcomes, gates, gage R&R, registry. No torch."""
