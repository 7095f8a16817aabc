"""One measurement a board, in order of time: what the charts of a process are drawn from."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select

from inspect_pop.core.errors import UsageFault
from inspect_pop.core.limits import Limits
from inspect_pop.store import Store
from inspect_pop.store.schema import boards, interfaces, packages, sites
from inspect_pop.yields.selection import Key, selection

__all__ = ["MEASURES", "Measure", "Series", "series"]


@dataclass(frozen=True)
class Measure:
    """What is followed: its unit, its meaning, and whether each interface has its own."""

    name: str
    unit: str
    meaning: str
    of_interface: bool


MEASURES = {
    m.name: m
    for m in (
        Measure("warpage_um", "um", "warpage of the package's top, with its sign", False),
        Measure("offset_um", "um", "length of the package's offset", False),
        Measure("offset_x_um", "um", "the package's offset to the right", False),
        Measure("offset_y_um", "um", "the package's offset upwards", False),
        Measure("rotation_deg", "deg", "the package's rotation, counter-clockwise", False),
        Measure("stack_height_um", "um", "height of the stack", False),
        Measure("diameter_um", "um", "mean diameter of the interface's joints at mid height", True),
        Measure("volume_ratio", "1", "mean solder volume over nominal of the interface's joints", True),
        Measure("volume_ratio_min", "1", "smallest solder volume over nominal of the interface's joints", True),
        Measure("void_fraction", "1", "mean void area over ball area of the interface's joints", True),
        Measure("void_fraction_max", "1", "largest void area over ball area of the interface's joints", True),
        Measure("standoff_um", "um", "mean distance between the pads", True),
        Measure("clearance_um_min", "um", "narrowest solder-free space of the interface", True),
    )
}


@dataclass(frozen=True)
class Series:
    """First inspections in order of `inspected_at`: `serial` (n,) text, `at_us` (n,) int64 us since 1970, `value` (n,) float64.

    Boards without the value are left out; `left_out` says how many. `low` and `high` are the specification's limits,
    where there are any.
    """

    measure: Measure
    serial: NDArray[Any]
    at_us: NDArray[np.int64]
    value: NDArray[np.float64]
    left_out: int
    low: float | None
    high: float | None


def series(
    store: Store,
    measure: str,
    *,
    interface: str | None = None,
    refdes: str | None = None,
    since: str | None = None,
    until: str | None = None,
    only: Mapping[str, Key] | None = None,
    limits: Limits | None = None,
) -> Series:
    """One of `MEASURES` over time; one that each interface has its own of needs `interface`. Raises `UsageFault`.

    Limits of the specification: warpage within the package's limit on either side (the narrowest, where packages
    differ), volume from two thirds to `limits.excess_volume` of nominal, voids up to `limits.void_fraction`.
    """
    what = MEASURES.get(measure)
    if what is None:
        raise UsageFault("measure", expected=f"one of {', '.join(MEASURES)}", found=repr(measure))
    if what.of_interface and interface is None:
        raise UsageFault("interface", expected=f"lower or upper, for {measure}", found="none")
    chosen = selection(since, until, only)
    table = interfaces if what.of_interface else packages
    columns = [table.c[n] for n in (("offset_x_um", "offset_y_um") if measure == "offset_um" else (measure,))]
    query = select(boards.c.serial, boards.c.inspected_us, table.c.site_id, *columns)
    query = query.join_from(table, boards, boards.c.id == table.c.board_id)
    if what.of_interface:
        query = query.where(interfaces.c.interface == interface)
    if refdes is not None:
        query = query.where(table.c.site_id.in_(select(sites.c.id).where(sites.c.refdes == refdes)))
    with store.reading() as connection:
        rows = connection.execute(chosen.limit(query)).all()
        limit_of = {row.id: row.warpage_limit_um for row in connection.execute(select(sites.c.id, sites.c.warpage_limit_um))}
    return _series(what, rows, limits or Limits(), limit_of)


def _series(what: Measure, rows: Any, limits: Limits, warpage_limit_of: Mapping[int, float | None]) -> Series:
    serial, at_us, site, *columns = zip(*rows, strict=True) if rows else ((), (), (), ())
    values = np.array(columns, dtype=np.float64)
    value = values[0] if len(values) == 1 else np.hypot(*values)
    time = np.array(at_us, dtype=np.int64)
    order = np.argsort(time, kind="stable")
    order = order[np.isfinite(value[order])]
    known = [v for v in (warpage_limit_of[s] for s in set(site)) if v is not None]
    low, high = _specification(what.name, limits, min(known) if known else None)
    return Series(what, np.array(serial, dtype=object)[order], time[order], value[order], len(time) - len(order), low, high)


def _specification(name: str, limits: Limits, warpage_limit_um: float | None) -> tuple[float | None, float | None]:
    if name == "warpage_um" and warpage_limit_um is not None:
        return -warpage_limit_um, warpage_limit_um
    if name in ("volume_ratio", "volume_ratio_min"):
        return 2 / 3, limits.excess_volume
    if name in ("void_fraction", "void_fraction_max"):
        return None, limits.void_fraction
    return None, None
