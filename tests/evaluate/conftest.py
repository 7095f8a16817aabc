"""The labelled batch and the model of `tests/learn`."""

from tests.learn.conftest import batch, stand_in

__all__ = ["batch", "stand_in"]
