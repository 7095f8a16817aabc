"""Texts as commands and pages write them: counts with their nouns, and names from outside on a terminal."""

__all__ = ["escape_controls", "pluralize"]


def pluralize(n: int, noun: str) -> str:
    """Return a count with its noun, such as `1 board`, `5 boards` or `0 classes`."""
    ending = "es" if noun.endswith(("s", "x", "ch", "sh")) else "s"
    return f"{n} {noun}" if n == 1 else f"{n} {noun}{ending}"


def escape_controls(text: str) -> str:
    """Return text as one line for a terminal: signs that move its cursor, colour it or hide what follows become `\\x1b`.

    Line breaks count among them, and signs without a width, such as those that turn the direction of writing.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
