"""Outcomes of inspections and decisions, worked out by hand."""

from collections.abc import Mapping, Sequence

import pytest

from inspect_pop.store.types import BoardOutcome, InspectionState, list_standing, resolve_outcome

LOWER, UPPER = ("U1", "lower"), ("U1", "upper")
BOTH = frozenset((LOWER, UPPER))
A1, B1 = ("U1", "lower", "A1"), ("U1", "upper", "B1")


def inspected(verdict: str, bad: Mapping = {}, decided: Mapping = {}) -> InspectionState:
    return InspectionState(verdict, BOTH, bad, decided)


@pytest.mark.parametrize(
    ("verdict", "bad", "decided", "final"),
    [
        ("pass", {}, {}, "pass"),
        ("fail", {A1: "fail"}, {}, "fail"),
        ("review", {A1: "review"}, {}, "pending"),
        ("fail", {A1: "fail", B1: "review"}, {}, "fail"),
        ("fail", {A1: "fail"}, {A1: ["DefectRejected"]}, "pass"),
        ("fail", {A1: "fail"}, {A1: ["DefectConfirmed"]}, "fail"),
        ("fail", {A1: "fail"}, {A1: ["DefectConfirmed", "DefectRepaired"]}, "pass"),
        ("fail", {A1: "fail"}, {A1: ["DefectAccepted"]}, "pass"),
        ("fail", {A1: "fail"}, {A1: ["DefectRepaired", "DefectConfirmed"]}, "fail"),
        ("review", {A1: "review"}, {A1: ["DefectConfirmed"]}, "fail"),
        ("review", {A1: "review", B1: "review"}, {A1: ["DefectRejected"]}, "pending"),
        ("pass", {}, {A1: ["DefectMissed"]}, "fail"),
        ("pass", {}, {A1: ["DefectMissed", "DefectRepaired"]}, "pass"),
        ("pass", {}, {A1: ["DefectMissed", "DefectRejected"]}, "pass"),
        ("pass", {}, {A1: ["PassConfirmed"]}, "pass"),
        ("pass", {}, {A1: ["DefectMissed", "PassConfirmed"]}, "pass"),
        ("review", {}, {}, "pending"),
        ("fail", {}, {}, "fail"),
    ],
)
def test_final_state_of_one_inspection(verdict: str, bad: Mapping, decided: Mapping[tuple, Sequence[str]], final: str) -> None:
    assert resolve_outcome([inspected(verdict, bad, decided)])[0].final == final


def test_final_state_is_that_of_the_last_inspection() -> None:
    board, parts = resolve_outcome([inspected("fail", {A1: "fail"}), inspected("pass")])
    assert board.final == "pass"
    assert parts == {LOWER: BoardOutcome("pass"), UPPER: BoardOutcome("pass", verified_passed=1)}
    assert resolve_outcome([inspected("pass"), inspected("fail", {A1: "fail"})])[0].final == "fail"


@pytest.mark.parametrize(
    ("decided", "standing"),
    [
        ([("DefectConfirmed", "operator"), ("DefectWithdrawn", "operator")], []),
        ([("DefectConfirmed", "operator"), ("DefectRejected", "operator"), ("DefectWithdrawn", "operator")], []),
        ([("DefectWithdrawn", "operator"), ("DefectRejected", "operator")], [("DefectRejected", "operator")]),
        (
            [("DefectConfirmed", "operator"), ("DefectRejected", "repair"), ("DefectWithdrawn", "repair")],
            [("DefectConfirmed", "operator")],
        ),
        (
            [("DefectRejected", "repair"), ("DefectConfirmed", "operator")],
            [("DefectConfirmed", "operator"), ("DefectRejected", "repair")],
        ),
    ],
)
def test_a_withdrawal_takes_back_its_stage_and_the_repair_station_counts_last(decided: list, standing: list) -> None:
    assert list_standing(decided) == standing


def test_a_joint_that_passed_and_is_good_after_all_is_no_escape() -> None:
    decided = {A1: ["DefectMissed", "PassConfirmed"], B1: ["PassConfirmed"]}
    assert resolve_outcome([inspected("pass", {}, decided)])[0] == BoardOutcome("pass", verified_passed=1)


def test_each_interface_has_its_own_state() -> None:
    board, parts = resolve_outcome([inspected("fail", {A1: "fail", B1: "review"}, {A1: ["DefectRejected"]})])
    assert board.final == "pending"
    assert parts[LOWER] == BoardOutcome("pass", n_false_calls=1, verified_passed=1)
    assert parts[UPPER] == BoardOutcome("pending")


def test_an_interface_that_was_not_looked_at_again_keeps_its_state() -> None:
    again = InspectionState("pass", frozenset((UPPER,)), {}, {})
    assert resolve_outcome([inspected("fail", {A1: "fail"}), again])[1][LOWER].final == "fail"


def test_decisions_on_the_first_inspection_tell_how_the_machine_did() -> None:
    joints = [("U1", "lower", f"A{k}") for k in range(1, 7)]
    bad = dict.fromkeys(joints[:3], "fail") | {joints[3]: "review"}
    states = [["DefectConfirmed"], ["DefectRejected"], ["DefectRepaired"], ["DefectRejected"], ["DefectMissed", "DefectRepaired"]]
    decided = dict(zip(joints, states, strict=False))
    board, parts = resolve_outcome([inspected("fail", bad, decided), inspected("fail", {A1: "fail"}, {A1: ["DefectRejected"]})])
    assert board == BoardOutcome("pass", n_confirmed=2, n_false_calls=1, n_cleared=1, n_escapes=1)
    assert parts[LOWER] == board
    assert parts[UPPER] == BoardOutcome("pass", verified_passed=1)


@pytest.mark.parametrize(
    ("verdict", "bad", "decided", "verified"),
    [
        ("pass", {}, {}, 1),
        ("pass", {}, {A1: ["DefectMissed"]}, 0),
        ("pass", {}, {A1: ["DefectMissed", "DefectRepaired"]}, 0),  # repaired since, and no first pass
        ("pass", {}, {A1: ["PassConfirmed"]}, 1),
        ("fail", {A1: "fail"}, {}, 0),
        ("fail", {A1: "fail"}, {A1: ["DefectRejected"]}, 1),
        ("fail", {A1: "fail"}, {A1: ["DefectAccepted"]}, 0),
        ("fail", {A1: "fail"}, {A1: ["DefectConfirmed", "DefectRejected"]}, 1),
        ("fail", {A1: "fail", B1: "review"}, {A1: ["DefectRejected"]}, 0),
        ("review", {}, {}, 0),
    ],
)
def test_a_board_is_a_verified_first_pass_where_people_found_every_call_false(
    verdict: str, bad: Mapping, decided: Mapping[tuple, Sequence[str]], verified: int
) -> None:
    again = inspected("pass")  # the last inspection does not matter
    for inspections in ([inspected(verdict, bad, decided)], [inspected(verdict, bad, decided), again]):
        assert resolve_outcome(inspections)[0].verified_passed == verified
