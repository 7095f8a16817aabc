"""Compute yield figures, charts and maps from the store. docs/yield.md gives each figure's meaning and source."""

from inspect_pop.yields.control_charts import (
    RULES,
    Capability,
    Chart,
    ControlChart,
    Signal,
    apply_run_rules,
    chart_series,
    compute_capability,
    individuals_chart,
    p_chart,
    u_chart,
    xbar_r_chart,
)
from inspect_pop.yields.groups import YieldGroup, as_csv, as_json, as_table, compute_yield, fill_days, report_yield
from inspect_pop.yields.pareto import REJECTED, ParetoBar, PositionMap, map_positions, rank_causes, rank_defects
from inspect_pop.yields.selection import KEYS
from inspect_pop.yields.series import MEASURES, ProcessMeasure, Series, read_series

__all__ = [
    "KEYS",
    "MEASURES",
    "REJECTED",
    "RULES",
    "Capability",
    "Chart",
    "ControlChart",
    "ParetoBar",
    "PositionMap",
    "ProcessMeasure",
    "Series",
    "Signal",
    "YieldGroup",
    "apply_run_rules",
    "as_csv",
    "as_json",
    "as_table",
    "chart_series",
    "compute_capability",
    "compute_yield",
    "fill_days",
    "individuals_chart",
    "map_positions",
    "p_chart",
    "rank_causes",
    "rank_defects",
    "read_series",
    "report_yield",
    "u_chart",
    "xbar_r_chart",
]
