"""Inspections become rows and come back, without a database."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from inspect_pop.core.classes import CLASSES
from inspect_pop.core.columns import AGGREGATES, list_stored_columns
from inspect_pop.core.errors import StoreFault
from inspect_pop.store.rows import (
    count_key,
    extract_defects,
    make_key,
    make_position_rows,
    make_record_rows,
    record_from_rows,
)
from inspect_pop.store.types import parse_local_day
from tests.factories import make_inspection

ONE = make_inspection("S", defects={"U1.lower.A1": "open"}, undecided=["U1.upper.A1"], missing=("U1/pre_stack",))


def test_records_come_back_from_their_rows() -> None:
    one = replace(ONE, packages=(replace(ONE.packages[0], warpage_um=math.nan),))
    found = make_record_rows(one)
    assert found.packages[0]["warpage_um"] is None
    board = found.board | found.context | {n: getattr(one.board, n) for n in ("model_digest", "limits_digest", "software")}
    board |= {"recipe_digest": one.board.recipe_digest}
    packages = [{"site_id": 1, **site, **package} for site, package in zip(found.sites, found.packages, strict=True)]
    interfaces = [{"site_id": 1, **row} for row in found.interfaces[0]]
    record, (package,) = record_from_rows(board, packages, interfaces)
    assert record == one.board
    assert math.isnan(package.warpage_um)
    assert replace(package, warpage_um=0.0) == replace(one.packages[0], warpage_um=0.0)


def test_fields_without_a_column_are_kept_as_json() -> None:
    one = replace(ONE, board=replace(ONE.board, operating_point="follows the machine"))
    extra = json.loads(make_record_rows(one).board["extra"])
    expected = {"operating_point": "follows the machine", "profile": "", "stray_solder": "", "note": "", "assumed": ""}
    expected |= {"unlike": "", "pictures": ""}
    assert extra == expected


def test_interfaces_have_all_counts_and_all_aggregates() -> None:
    lower = make_record_rows(ONE).interfaces[0][0]
    assert {f"n_{c}" for c in CLASSES} | {a.name for a in AGGREGATES} <= set(lower)
    values = ONE.joints["void_fraction"][ONE.joints["interface"] == "lower"].astype(np.float64)
    assert lower["void_fraction"] == np.nanmean(values)
    assert lower["void_fraction_max"] == np.nanmax(values)
    assert (lower["n_open"], lower["passed"], lower["final"]) == (1, 0, "fail")


def test_a_defect_has_all_stored_columns() -> None:
    opened, undecided = extract_defects(ONE.joints)
    assert (opened.interface, opened.ball, opened.label) == ("lower", "A1", "open")
    assert set(opened.measured) == set(list_stored_columns())
    assert (undecided.label, undecided.measured["p_good"]) == (None, None)


def test_a_position_is_where_the_joint_was_found_minus_its_deviation() -> None:
    row = make_position_rows(ONE.joints)[3]
    x = ONE.joints["x_um"][3] - ONE.joints["dx_um"][3]
    assert (row["ball"], row["x_um"]) == (ONE.joints["ball"][3], float(x))


def test_keys_differ_where_values_differ() -> None:
    assert make_key("a", None) != make_key("a", "null") != make_key('a",null', "")
    assert count_key("n_undecided") == "none"
    assert count_key("n_open") == "open"


def test_the_day_is_that_of_the_wall_clock() -> None:
    assert parse_local_day("2026-03-02T23:30:00-05:00") == "2026-03-02"
    for moment in ("2026-10-24T23:30:00Z", "2026-10-25T01:30:00+02:00", "2026-10-25T00:30:00+01:00"):
        assert parse_local_day(moment, "Europe/Berlin") == "2026-10-25"
    with pytest.raises(StoreFault, match="offset"):
        parse_local_day("2026-03-02T23:30:00")
