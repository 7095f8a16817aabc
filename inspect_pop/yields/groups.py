"""Yield by group: first-pass, final and rolled yield, defects per unit and per million opportunities, with intervals.

Every figure is about boards at their first inspection (a later one never changes it), but for final yield, which is about
the same boards at their last. Formulas and sources: docs/yield.md.

Yield groups as JSON, CSV, or a table on the terminal.
"""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from rich.table import Table

from inspect_pop.core.joint_table import CLASSES
from inspect_pop.core.statistics import Interval, clopper_pearson, poisson_interval, product_interval
from inspect_pop.store import Store, open_store
from inspect_pop.store.schema import COUNTS
from inspect_pop.yields.selection import Key, check_keys, selection, sums

__all__ = ["YieldGroup", "as_csv", "as_json", "as_table", "fill_days", "groups", "yield_report"]


# ---- yields/groups
@dataclass(frozen=True)
class YieldGroup:
    """Counts of one group; every figure follows from them. A share without a base is None, its interval (0, 1).

    `keys` are the group's, in the order asked for. `counts` are joints by label, with `n_undecided` and `n_review`.
    `interface_passed` gives, for each interface, the boards that passed there and those that have it; empty where the
    group is one interface already.
    """

    keys: dict[str, Key]
    boards: int
    passed: int
    joints: int
    opportunities: int
    counts: dict[str, int]
    reinspected: int = 0
    final_passed: int = 0
    pending: int = 0
    confirmed: int = 0
    false_calls: int = 0
    cleared: int = 0
    escapes: int = 0
    interface_passed: tuple[tuple[str, int, int], ...] = ()

    @property
    def fpy(self) -> float | None:
        """First-pass yield: boards that passed at their first inspection over boards."""
        return _over(self.passed, self.boards)

    @property
    def fpy_interval(self) -> Interval:
        """Clopper-Pearson, 95 %."""
        return clopper_pearson(self.passed, self.boards)

    @property
    def final(self) -> float | None:
        """Final yield: boards that stand as good after re-inspection and people's decisions, over boards."""
        return _over(self.final_passed, self.boards)

    @property
    def final_interval(self) -> Interval:
        """Clopper-Pearson, 95 %."""
        return clopper_pearson(self.final_passed, self.boards)

    @property
    def defects(self) -> int:
        """Joints that the machine labelled bridged, open, starved or head-in-pillow, whatever the verdict."""
        return sum(self.counts[f"n_{c}"] for c in CLASSES[1:])

    @property
    def dpmo(self) -> float | None:
        """10^6 x defects over opportunities (joints, placements and components; IPC-7912)."""
        found = _over(self.defects, self.opportunities)
        return None if found is None else 1e6 * found

    @property
    def dpmo_interval(self) -> Interval:
        """Clopper-Pearson, 95 %, as if joints failed one by one: it is too narrow where defects come in clusters."""
        low, high = clopper_pearson(self.defects, self.opportunities)
        return 1e6 * low, 1e6 * high

    @property
    def dpu(self) -> float | None:
        """Defects per unit: defects over boards."""
        return _over(self.defects, self.boards)

    @property
    def dpu_interval(self) -> Interval | None:
        """Garwood, 95 %, with the same reservation."""
        return poisson_interval(self.defects, self.boards)

    @property
    def rolled(self) -> float | None:
        """Rolled yield: the product of the interfaces' own first-pass yields."""
        parts = [_over(k, n) for _, k, n in self.interface_passed]
        known = [p for p in parts if p is not None]
        if not known:
            return None
        result = 1.0
        for value in known:
            result *= value
        return result

    @property
    def rolled_interval(self) -> Interval | None:
        """Product of Clopper-Pearson intervals at 97.5 % each (Bonferroni)."""
        parts = [(k, n) for _, k, n in self.interface_passed if n]
        return product_interval(parts) if parts else None

    @property
    def false_call_ppm(self) -> float | None:
        """10^6 x failed joints that a person found good, over joints; a lower bound until all failed joints are reviewed."""
        found = _over(self.false_calls, self.joints)
        return None if found is None else 1e6 * found

    @property
    def escape_rate(self) -> float | None:
        """Defects that a person found at joints which had passed, over all defects that a person confirmed or found."""
        return _over(self.escapes, self.escapes + self.confirmed)

    @property
    def escape_interval(self) -> Interval:
        """Clopper-Pearson, 95 %."""
        return clopper_pearson(self.escapes, self.escapes + self.confirmed)

    def to_dict(self) -> dict[str, Any]:
        """Flat and plain, as RECORDS has it and more: keys, counts, figures with `_low` and `_high`."""
        figures: dict[str, Any] = {"boards": self.boards, "passed": self.passed}
        figures |= _with("fpy", self.fpy, self.fpy_interval)
        figures |= {"joints": self.joints, "defects": self.defects, "opportunities": self.opportunities}
        figures |= _with("dpmo", self.dpmo, self.dpmo_interval) | self.counts | _with("dpu", self.dpu, self.dpu_interval)
        figures |= _with("rolled_yield", self.rolled, self.rolled_interval)
        figures |= {"reinspected": self.reinspected, "final_passed": self.final_passed, "pending": self.pending}
        figures |= _with("final_yield", self.final, self.final_interval)
        figures |= {n: getattr(self, n) for n in ("confirmed", "false_calls", "cleared", "escapes", "false_call_ppm")}
        figures |= _with("escape_rate", self.escape_rate, self.escape_interval)
        return {**self.keys, **figures}


def groups(
    store: Store,
    by: Sequence[str] = (),
    *,
    since: str | None = None,
    until: str | None = None,
    only: Mapping[str, Key] | None = None,
) -> list[YieldGroup]:
    """Yield of each group that has boards, in order of its keys; without keys, the one group of all boards, even of none.

    Parameters
    ----------
    store
        Where to look.
    by
        Any of `query.KEYS`: day, lot, line, station, product, recipe, recipe_revision, work_order, interface, package,
        part, construction. `day` is the date in the offset of `inspected_at`.
    since, until
        A day (included) or an instant; see `selection.selection`.
    only
        The one lot, line, … that is asked about.

    Raises
    ------
    UsageFault
        An unknown key, or a bound that is neither a day nor a time with its offset.
    StoreFault
        The store cannot be read.
    """
    keys, chosen = check_keys(by), selection(since, until, only)
    with store.reading() as connection:
        found = sums(connection, keys, chosen)
        single = "interface" in keys
        parts = [] if single else sums(connection, [*keys, "interface"], chosen)
    passed: dict[tuple[Key, ...], list[tuple[str, int, int]]] = {}
    for part in parts:
        passed.setdefault(tuple(part[k] for k in keys), []).append((part["interface"], part["passed"], part["boards"]))
    return [_group(row, keys, passed) for row in found]


def yield_report(
    store_url: str,
    by: Sequence[str] = (),
    since: str | None = None,
    until: str | None = None,
    only: Mapping[str, Key] | None = None,
) -> list[dict[str, Any]]:
    """What `inspect-pop yield --json` prints: the groups of a store that exists, as plain values."""
    with open_store(store_url, must_exist=True) as store:
        return [group.to_dict() for group in groups(store, by, since=since, until=until, only=only)]


def fill_days(found: Sequence[YieldGroup]) -> list[YieldGroup]:
    """Groups by day alone, with an empty one for each day between that had no board: a trend shows its gaps."""
    if not found:
        return []
    by_day = {str(group.keys["day"]): group for group in found}
    first, last = date.fromisoformat(min(by_day)), date.fromisoformat(max(by_day))
    days = [(first + timedelta(days=d)).isoformat() for d in range((last - first).days + 1)]
    return [by_day.get(day) or YieldGroup({"day": day}, 0, 0, 0, 0, dict.fromkeys(COUNTS, 0)) for day in days]


def _group(row: dict[str, Any], keys: Sequence[str], passed: dict[tuple[Key, ...], list[tuple[str, int, int]]]) -> YieldGroup:
    names = ("boards", "passed", "joints", "opportunities", "reinspected", "final_passed", "pending")
    decided = {n: row[f"n_{n}"] for n in ("confirmed", "false_calls", "cleared", "escapes")}
    place = {k: row[k] for k in keys}
    interfaces = tuple(passed.get(tuple(place.values()), ()))
    return YieldGroup(
        place, counts={n: row[n] for n in COUNTS}, interface_passed=interfaces, **{n: row[n] for n in names}, **decided
    )


def _over(k: int, n: int) -> float | None:
    return k / n if n else None


def _with(name: str, value: float | None, interval: Interval | None) -> dict[str, float | None]:
    low, high = interval if interval is not None else (None, None)
    return {name: value, f"{name}_low": low, f"{name}_high": high}


# ---- yields/show
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
