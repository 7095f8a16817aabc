"""Read one measurement per board, in order of time: what control charts are drawn from."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select

from inspect_pop.core.columns import AGGREGATES, Aggregate, column
from inspect_pop.core.errors import UsageFault
from inspect_pop.core.limits import Limits
from inspect_pop.store import Store
from inspect_pop.store.schema import boards, interfaces, packages, sites
from inspect_pop.yields.selection import GroupKey, make_selection

__all__ = ["MEASURES", "ProcessMeasure", "Series", "read_series"]

_REDUCTION_WORDS = {"mean": "mean", "min": "smallest", "max": "largest"}
_LOWEST_VOLUME_RATIO = 2 / 3


@dataclass(frozen=True)
class ProcessMeasure:
    """A measurement that can be followed over time.

    Attributes:
        name: The column of `packages` or `interfaces`; `offset_um` is computed from two columns.
        unit: `um`, `deg`, or `1` for a ratio.
        meaning: One line for people.
        per_interface: Whether each interface of a package has one.
        joint_column: The joint column that it aggregates; empty for a measurement of the package.
    """

    name: str
    unit: str
    meaning: str
    per_interface: bool
    joint_column: str = ""


def _aggregate_measure(aggregate: Aggregate) -> ProcessMeasure:
    of = column(aggregate.column)
    words = of.display.words if of.display is not None else of.meaning
    meaning = f"{words}: {_REDUCTION_WORDS[aggregate.how]} of the interface's joints"
    return ProcessMeasure(aggregate.name, of.unit, meaning, per_interface=True, joint_column=aggregate.column)


MEASURES = {
    m.name: m
    for m in (
        ProcessMeasure("warpage_um", "um", "warpage of the package's top, with its sign", per_interface=False),
        ProcessMeasure("offset_um", "um", "length of the package's offset", per_interface=False),
        ProcessMeasure("offset_x_um", "um", "the package's offset to the right", per_interface=False),
        ProcessMeasure("offset_y_um", "um", "the package's offset upwards", per_interface=False),
        ProcessMeasure("rotation_deg", "deg", "the package's rotation, counter-clockwise", per_interface=False),
        ProcessMeasure("stack_height_um", "um", "height of the stack", per_interface=False),
        *(_aggregate_measure(a) for a in AGGREGATES),
    )
}


@dataclass(frozen=True)
class Series:
    """A measurement at first inspections, in order of `inspected_at`.

    Attributes:
        measure: What is measured.
        serial: (n,) serials, text.
        at_us: (n,) int64, microseconds since 1970.
        value: (n,) float64, in the measure's unit, finite.
        left_out: How many boards have no value, and are left out.
        low, high: The limits of the specification, in the same unit; None where there is none.
    """

    measure: ProcessMeasure
    serial: NDArray[Any]
    at_us: NDArray[np.int64]
    value: NDArray[np.float64]
    left_out: int
    low: float | None
    high: float | None


def read_series(
    store: Store,
    measure: str,
    *,
    interface: str | None = None,
    refdes: str | None = None,
    since: str | None = None,
    until: str | None = None,
    only: Mapping[str, GroupKey] | None = None,
    limits: Limits | None = None,
) -> Series:
    """Read one of `MEASURES` over time.

    Limits of the specification: warpage within the package's limit on either side (the narrowest, if packages differ), volume
    from two thirds to `limits.excess_volume` of nominal, voids up to `limits.void_fraction`.

    Parameters
    ----------
    store
        The store to read.
    measure
        A name in `MEASURES`.
    interface
        `lower` or `upper`; required for a measure that each interface has.
    refdes
        Only this package; None for all.
    since, until, only
        Which boards; see `make_selection`.
    limits
        The acceptance limits; None for the defaults.

    Raises
    ------
    UsageFault
        An unknown measure, a missing `interface`, or a selection that `make_selection` refuses.
    StoreFault
        The store cannot be read.
    """
    what = MEASURES.get(measure)
    if what is None:
        raise UsageFault("measure", expected=f"one of {', '.join(MEASURES)}", found=repr(measure))
    if what.per_interface and interface is None:
        raise UsageFault("interface", expected=f"lower or upper, for {measure}", found="none")
    selection = make_selection(since, until, only)
    table = interfaces if what.per_interface else packages
    columns = [table.c[n] for n in (("offset_x_um", "offset_y_um") if measure == "offset_um" else (measure,))]
    query = select(boards.c.serial, boards.c.inspected_us, table.c.site_id, *columns)
    query = query.join_from(table, boards, boards.c.id == table.c.board_id)
    if what.per_interface:
        query = query.where(interfaces.c.interface == interface)
    if refdes is not None:
        query = query.where(table.c.site_id.in_(select(sites.c.id).where(sites.c.refdes == refdes)))
    with store.reading() as connection:
        rows = connection.execute(selection.limit(query)).all()
        limit_of = {row.id: row.warpage_limit_um for row in connection.execute(select(sites.c.id, sites.c.warpage_limit_um))}
    serial, at_us, site, *values = zip(*rows, strict=True) if rows else ((), (), (), *((),) * len(columns))
    components = np.array(values, dtype=np.float64)
    value = components[0] if len(components) == 1 else np.hypot(*components)
    time = np.array(at_us, dtype=np.int64)
    order = np.argsort(time, kind="stable")
    order = order[np.isfinite(value[order])]
    warpage_limits = [v for v in (limit_of[s] for s in set(site)) if v is not None]
    low, high = _find_specification(what, limits or Limits(), min(warpage_limits, default=None))
    return Series(what, np.array(serial, dtype=object)[order], time[order], value[order], len(time) - len(order), low, high)


def _find_specification(
    measure: ProcessMeasure, limits: Limits, warpage_limit_um: float | None
) -> tuple[float | None, float | None]:
    if measure.name == "warpage_um" and warpage_limit_um is not None:
        return -warpage_limit_um, warpage_limit_um
    if measure.joint_column == "volume_ratio":
        return _LOWEST_VOLUME_RATIO, limits.excess_volume
    if measure.joint_column == "void_fraction":
        return None, limits.void_fraction
    return None, None
