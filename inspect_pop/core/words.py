"""Counts and their nouns, as commands and pages write them."""

__all__ = ["pluralize"]


def pluralize(n: int, noun: str) -> str:
    """Return a count with its noun, such as `1 board`, `5 boards` or `0 classes`."""
    ending = "es" if noun.endswith(("s", "x", "ch", "sh")) else "s"
    return f"{n} {noun}" if n == 1 else f"{n} {noun}{ending}"
