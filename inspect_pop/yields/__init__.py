"""Yield figures, charts and maps from the store. What each figure means, and its source: docs/yield.md."""

from inspect_pop.yields.charts import (
    Capability,
    Chart,
    ControlChart,
    capability,
    control_chart,
    individuals,
    p_chart,
    u_chart,
    xbar_r,
)
from inspect_pop.yields.groups import YieldGroup, fill_days, groups, yield_report
from inspect_pop.yields.pareto import Bar, PositionMap, causes, pareto, position_map
from inspect_pop.yields.query import KEYS
from inspect_pop.yields.rules import RULES, Signal, run_rules
from inspect_pop.yields.series import MEASURES, Measure, Series, series
from inspect_pop.yields.show import as_csv, as_json, as_table

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
