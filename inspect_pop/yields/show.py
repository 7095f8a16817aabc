"""Yield groups as JSON, CSV, or a table on the terminal."""

import csv
import io
import json
from collections.abc import Sequence

from rich.table import Table

from inspect_pop.yields.groups import YieldGroup

__all__ = ["as_csv", "as_json", "as_table"]


def as_json(groups: Sequence[YieldGroup]) -> str:
    """A list of flat objects; a figure without a base is null."""
    return json.dumps([g.to_dict() for g in groups], ensure_ascii=False, indent=2, allow_nan=False)


def as_csv(groups: Sequence[YieldGroup]) -> str:
    """A header and one line a group, the same fields as the JSON; null is empty. Empty text for no groups."""
    rows = [g.to_dict() for g in groups]
    if not rows:
        return ""
    sink = io.StringIO()
    writer = csv.DictWriter(sink, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return sink.getvalue()


def as_table(groups: Sequence[YieldGroup]) -> Table:
    """For people: first-pass yield with its interval, final yield, DPMO, defects by label."""
    keys = list(groups[0].keys) if groups else []
    table = Table(title="Yield", caption="Intervals: 95 %, Clopper-Pearson. FPY and DPMO at the first inspection.")
    for key in keys:
        table.add_column(key, no_wrap=True)
    for name in ("boards", "FPY %", "95 %", "rolled %", "final %", "DPMO", "bridged", "open", "starved", "HiP", "review"):
        table.add_column(name, justify="right")
    for group in groups:
        table.add_row(*("-" if v is None else str(v) for v in group.keys.values()), *_cells(group))
    return table


def _cells(group: YieldGroup) -> list[str]:
    low, high = group.fpy_interval
    labels = ("n_bridged", "n_open", "n_starved", "n_head_in_pillow", "n_review")
    return [
        f"{group.boards:,}",
        _percent(group.fpy),
        f"{100 * low:.2f}–{100 * high:.2f}",
        _percent(group.rolled),
        _percent(group.final),
        "-" if group.dpmo is None else f"{group.dpmo:,.0f}",
        *(f"{group.counts[n]:,}" for n in labels),
    ]


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f}"
