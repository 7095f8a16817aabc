"""Gross defects: every kind is drawn, where it is said, and nothing of it passes."""

from collections import Counter

import numpy as np
import pytest

from inspect_pop.classify.model import load
from inspect_pop.classify.session import Classifier
from inspect_pop.core.limits import Limits
from inspect_pop.evaluate.collect import make_simulated_export
from inspect_pop.pipeline.board import inspect_board
from inspect_pop.simulate.board import collect_truth, simulate_board
from inspect_pop.simulate.catalog import MACHINES, PRODUCTS
from inspect_pop.simulate.gross import GROSS, add_gross_defects
from inspect_pop.simulate.scene import Population, populate

PACKAGE = PRODUCTS["wide9"].packages[0]
LOWER = PACKAGE.interfaces[0]
N = len(LOWER.ball)


def sound() -> Population:
    plain = np.full(N, "plain", object)
    standoff = np.full(N, LOWER.gap_um)
    return populate(np.random.default_rng(0), LOWER, np.zeros(N), standoff, plain, np.ones(N), np.zeros((N, 2)))


@pytest.fixture(scope="module")
def gross() -> Population:
    return add_gross_defects(np.random.default_rng(1), sound(), 0.2)


def test_every_kind_is_among_them_with_the_class_that_it_has(gross: Population) -> None:
    kinds = Counter(zip(gross.variety.astype(str), gross.label.astype(str), strict=True))
    assert {kind for kind, _ in kinds} >= set(GROSS)
    assert {label for kind, label in kinds if kind in ("bridge_thick", "bridge_wide", "puddle")} == {"bridged"}
    assert {label for kind, label in kinds if kind == "ball_missing"} == {"open"}
    assert {label for kind, label in kinds if kind in ("half", "torn")} <= {"starved", "good"}
    assert {label for kind, label in kinds if kind == "void_huge"} == {"good"}
    assert 0.1 * N < sum(n for (kind, _), n in kinds.items() if kind in GROSS) <= 0.25 * N


def test_sound_joints_lie_between_two_of_them(gross: Population) -> None:
    """A joint beside one of another kind would belong to both."""
    kind = gross.variety.astype(str)
    for joint in np.flatnonzero(np.isin(kind, list(GROSS))):
        distance = np.hypot(LOWER.x_um - LOWER.x_um[joint], LOWER.y_um - LOWER.y_um[joint])
        near = kind[(distance > 0) & (distance < 1.05 * LOWER.pitch_um)]
        assert set(near) <= {"plain", kind[joint]}


def test_what_was_there_stays_but_for_them(gross: Population) -> None:
    before = sound()
    same = gross.variety == before.variety
    np.testing.assert_array_equal(gross.volume_ratio[same], before.volume_ratio[same])
    np.testing.assert_array_equal(gross.dx_um[same], before.dx_um[same])
    assert (gross.label[same] == before.label[same]).all()
    again = add_gross_defects(np.random.default_rng(1), before, 0.2)
    np.testing.assert_array_equal(again.spurs.ends_um, gross.spurs.ends_um)
    assert (before.variety == "plain").any() and not set(before.variety) & set(GROSS)


def test_truth_says_how_much_solder_is_left(gross: Population) -> None:
    truth = collect_truth(PACKAGE, (gross,))
    by_kind = {kind: gross.variety == kind for kind in GROSS}
    cut = by_kind["half"] | by_kind["torn"]
    assert (truth["volume_ratio"][cut] < 0.85).all()
    np.testing.assert_array_equal(truth["label"][cut] == "starved", truth["volume_ratio"][cut] < 2 / 3)
    assert (truth["volume_ratio"][by_kind["ball_missing"]] == 0).all()
    assert (truth["gap_um"][by_kind["ball_missing"]] == LOWER.gap_um).all()
    assert (truth["void_area_fraction"][by_kind["void_huge"]] > 0.3).all()
    assert (truth["void_area_fraction"][by_kind["half"]] == 0).all()
    assert (np.hypot(gross.dx_um, gross.dy_um)[by_kind["displaced"]].max() > 0.25 * LOWER.pitch_um).all()


def test_a_full_board_ends_the_search() -> None:
    crowded = add_gross_defects(np.random.default_rng(2), sound(), 1.0)
    assert 0.1 * N < np.isin(crowded.variety.astype(str), list(GROSS)).sum() < 0.8 * N


def test_none_asked_for_leaves_the_board_bit_for_bit() -> None:
    boards = [
        simulate_board(np.random.default_rng(5), PRODUCTS["tst4"], MACHINES["ct9"], cause="none", **more)
        for more in ({}, {"gross_share": 0.0})
    ]
    for first, second in zip(boards[0].stacks, boards[1].stacks, strict=True):
        np.testing.assert_array_equal(first.values, second.values)


@pytest.mark.parametrize(("machine", "product"), [("line_a", "fine5"), ("transmission", "wide9")])
def test_what_anybody_would_see_does_not_pass(machine: str, product: str) -> None:
    """Balls that stray and pieces that are torn out may be small: docs/lab/evidence.md counts them."""
    board = simulate_board(
        np.random.default_rng(6), PRODUCTS[product], MACHINES[machine], cause="none", defect_rate=0.01, gross_share=0.3
    )
    export = make_simulated_export(board, "S")
    joints = inspect_board(export, Classifier(load(None)), Limits(), started_at="2026-11-30T08:00:00+00:00").joints
    kind = dict(
        zip(zip(board.truth["interface"], board.truth["ball"], strict=True), board.truth["variety"].astype(str), strict=True)
    )
    verdicts = Counter()
    for interface, ball, verdict in zip(joints["interface"], joints["ball"], joints["verdict"], strict=True):
        if kind[interface, ball] in ("bridge_thick", "bridge_wide", "puddle", "ball_missing", "displaced"):
            verdicts[verdict] += 1
    assert verdicts.total() >= 5
    assert verdicts["pass"] == 0
    assert (joints["verdict"] == "pass").mean() > 0.15
