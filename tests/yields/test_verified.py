"""Yield before and after verification, by a hand count of six boards of 8 joints and 12 opportunities each."""

from pathlib import Path

import pytest

from inspect_pop.store import Decision, open_store
from inspect_pop.yields import compute_yield
from tests.factories import make_inspection

BOARDS = {
    "V1": {"defects": {"U1.lower.A1": "open"}},
    "V2": {"defects": {"U1.lower.A1": "open"}},
    "V3": {},
    "V4": {},
    "V5": {"reviews": {"U1.upper.A1": "near the threshold"}},
    "V6": {"defects": {"U1.lower.A1": "bridged", "U1.lower.A2": "bridged"}},
}
DECIDED = [
    ("V1", "lower", "A1", "DefectConfirmed", "operator"),
    ("V1", "lower", "A1", "DefectRejected", "repair"),  # overruled: a false call
    ("V2", "lower", "A1", "DefectConfirmed", "operator"),
    ("V2", "lower", "A1", "DefectRepaired", "repair"),
    ("V3", "upper", "B2", "PassConfirmed", "operator"),
    ("V4", "upper", "B1", "DefectMissed", "operator"),  # an escape, not repaired yet
    ("V5", "upper", "A1", "DefectRejected", "operator"),
    ("V5", "upper", "A1", "DefectWithdrawn", "operator"),  # undecided again
    ("V6", "lower", "A1", "DefectRejected", "operator"),
    ("V6", "lower", "A2", "DefectRejected", "operator"),
]


def test_first_pass_and_final_yield_and_dpmo_before_and_after_verification(tmp_path: Path) -> None:
    with open_store(tmp_path / "r.db") as store:
        for serial, found in BOARDS.items():
            store.write(make_inspection(serial, record=serial, side={"lower": 2, "upper": 2}, **found))  # type: ignore[arg-type]
        for minute, (serial, interface, ball, state, stage) in enumerate(DECIDED):
            at = f"2026-03-05T08:{minute:02d}:00+01:00"
            store.add_decision(Decision(serial, "U1", interface, ball, state, "kim", at, stage=stage))
        (all_boards,) = compute_yield(store)
        parts = {str(part.keys["interface"]): part for part in compute_yield(store, ["interface"])}
        finals = {serial: store.board(serial)[0].final for serial in BOARDS}
    assert finals == {"V1": "pass", "V2": "pass", "V3": "pass", "V4": "fail", "V5": "pending", "V6": "pass"}
    assert (all_boards.confirmed, all_boards.false_calls, all_boards.cleared, all_boards.escapes) == (1, 3, 0, 1)
    assert all_boards.fpy == pytest.approx(2 / 6)
    assert all_boards.final == pytest.approx(4 / 6)
    # V1 and V6 had false calls only, V3 passed. V2 was a defect, V4 an escape, V5 is undecided again.
    assert (all_boards.verified_passed, all_boards.verified_fpy) == (3, pytest.approx(3 / 6))
    assert {k: (part.passed, part.verified_passed) for k, part in parts.items()} == {"lower": (3, 5), "upper": (5, 4)}
    assert all_boards.pending == 1
    assert all_boards.dpmo == pytest.approx(1e6 * 4 / 72)
    assert all_boards.verified_dpmo == pytest.approx(1e6 * 2 / 72)
    assert all_boards.false_call_ppm == pytest.approx(1e6 * 3 / 48)
    assert all_boards.escape_rate == pytest.approx(1 / 2)
