"""Learn what a machine's pictures are like: the range of each figure that counts as known, per machine.

The ranges go into the model's card (`classify.model.LearntPicture`); its networks stay as they are.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from inspect_pop.classify.model import Card, LearntPicture
from inspect_pop.classify.model import load as load_model
from inspect_pop.core import atomic
from inspect_pop.core.errors import UsageFault
from inspect_pop.core.limits import Limits
from inspect_pop.ingest import find_exports, open_export
from inspect_pop.pipeline.board import measure_board

__all__ = ["MARGINS", "learn_pictures", "measure_pictures", "widen_ranges", "write_pictures"]

# What a range is widened by on either side, as (share of the value, least): what one machine's boards of two makers differ by.
MARGINS: Mapping[str, tuple[float, float]] = {
    "sharpness": (0.12, 0.0),
    "noise": (0.5, 0.0005),
    "grain": (0.25, 0.03),
    "ball_profile": (0.03, 0.01),
    "fringe": (0.0, 0.1),
    "core_spread": (0.3, 0.02),
    "background_spread": (0.3, 0.03),
    "contrast": (0.12, 0.01),
    "levels": (0.3, 0.0),
}
_SPREAD = 0.3  # of the range itself, on either side: few boards do not show all of it
Figures = dict[tuple[str, str], list[dict[str, float]]]


def measure_pictures(batches: Sequence[Path], limits: Limits) -> Figures:
    """Return the figures of all interfaces of the boards, by machine and method. Raises `InputFault` for a faulty board."""
    found: Figures = {}
    for board in find_exports(list(batches)):
        export = open_export(*board)
        parts = [part for package in measure_board(export, limits).packages for part in package.interfaces if part.picture]
        for part in parts:
            found.setdefault((export.machine, part.method), []).append(dict(part.picture))
    return found


def widen_ranges(figures: Sequence[Mapping[str, float]]) -> tuple[dict[str, float], dict[str, float]]:
    """Return the lowest and the highest value of each figure that counts as known, by `MARGINS`."""
    low, high = {}, {}
    for name, (share, least) in MARGINS.items():
        values = np.array([f[name] for f in figures if np.isfinite(f[name])])
        if not len(values):
            continue
        first, last = float(values.min()), float(values.max())
        spread = _SPREAD * (last - first)
        low[name] = float(f"{first - spread - max(share * abs(first), least):.4g}")
        high[name] = float(f"{last + spread + max(share * abs(last), least):.4g}")
    return low, high


def learn_pictures(batches: Sequence[Path], source: str, limits: Limits | None = None) -> list[LearntPicture]:
    """Return what each machine's pictures in these boards are like. `source` names the boards in the card."""
    ranges = {key: widen_ranges(figures) for key, figures in measure_pictures(batches, limits or Limits()).items()}
    return [
        LearntPicture(machine=machine, method=method, source=source, low=low, high=high)
        for (machine, method), (low, high) in ranges.items()
    ]


def write_pictures(folder: Path, learnt: Sequence[LearntPicture]) -> Card:
    """Write what was learnt into the card of a model folder, in place of what it said before; return the new card.

    The model gets another digest, as every change of what decides does. Raises `UsageFault` without pictures.
    """
    if not learnt:
        raise UsageFault("batches", expected="boards with X-ray slices", found="none", remedy="Name batches with such boards.")
    card = load_model(folder).card.model_copy(update={"pictures": tuple(learnt)})
    text = json.dumps(card.model_dump(by_alias=True, mode="json"), indent=1, ensure_ascii=False)
    atomic.write_text(folder / "card.json", text)
    return card
