"""Yield figures, charts and maps from the store. What each figure means, and its source: docs/yield.md."""

from inspect_pop.yields.control_charts import (
    RULES,
    Capability,
    Chart,
    ControlChart,
    Signal,
    capability,
    control_chart,
    individuals,
    p_chart,
    run_rules,
    u_chart,
    xbar_r,
)
from inspect_pop.yields.groups import YieldGroup, as_csv, as_json, as_table, fill_days, groups, yield_report
from inspect_pop.yields.pareto import Bar, PositionMap, causes, pareto, position_map
from inspect_pop.yields.selection import KEYS
from inspect_pop.yields.series import MEASURES, Measure, Series, series

__all__ = [
    "KEYS",
    "MEASURES",
    "RULES",
    "Bar",
    "Capability",
    "Chart",
    "ControlChart",
    "Measure",
    "PositionMap",
    "Series",
    "Signal",
    "YieldGroup",
    "as_csv",
    "as_json",
    "as_table",
    "capability",
    "causes",
    "control_chart",
    "fill_days",
    "groups",
    "individuals",
    "p_chart",
    "pareto",
    "position_map",
    "run_rules",
    "series",
    "u_chart",
    "xbar_r",
    "yield_report",
]
