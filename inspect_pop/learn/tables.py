"""Figures of several machines as one table, each rate with its interval: for a model's card, for documentation, for people."""

from collections.abc import Mapping
from typing import Any

__all__ = ["HEAD", "row", "table"]

HEAD = (
    "| boards of | number | joints | defects | defects passed | head-in-pillow passed | good failed (ppm) | review | exact label "
    "| calibration error |"
)


def table(figures: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Lines of a Markdown table: one row for each name, from what `outcomes.judge` says of its boards."""
    return [HEAD, "|---" * HEAD.count(" | ") + "|---|", *(row(name, found) for name, found in figures.items())]


def row(name: str, figures: Mapping[str, Any]) -> str:
    """One row; a group within a judgement knows fewer figures than a whole one, and what it does not know is a dash."""
    cells = [name, *(str(figures[count]) for count in ("boards", "joints", "defects"))]
    cells += [_rate(figures["escape"]), _rate(figures.get("escapes_of", {}).get("head_in_pillow"))]
    cells += [_rate(figures["false_call"], 1e6, 0, ""), _rate(figures["review"]), _rate(figures.get("exact_label_of_defects"))]
    error = figures.get("calibration", {}).get("expected_error")
    cells.append("-" if error is None else f"{error:.4f}")
    return f"| {' | '.join(cells)} |"


def _rate(found: Mapping[str, Any] | None, times: float = 100, digits: int = 2, unit: str = " %") -> str:
    """The rate and its exact 95 % interval."""
    if not found or not found["of"]:
        return "-"
    return f"{times * found['rate']:.{digits}f}{unit} ({times * found['low']:.{digits}f} to {times * found['high']:.{digits}f})"
