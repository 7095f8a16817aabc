from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from inspect_pop.core.columns import CLASSES
from inspect_pop.simulate.board import simulate_board
from inspect_pop.simulate.catalog import MACHINES, PRODUCTS


def test_a_board_has_a_row_for_every_joint_and_a_picture_of_everything(board):
    assert len(board.truth["ball"]) == board.recipe.n_joints
    assert {s.interface for s in board.stacks} == {"lower", "upper"}
    assert {h.stage for h in board.heights} == {"pre_stack", "post_reflow"}
    assert set(board.placements) == {"U1/lower", "U1/upper", "U1/pre_stack", "U1/post_reflow"}
    assert set(board.truth["label"]) <= set(CLASSES)


def test_slices_are_as_the_machine_says(board, quick):
    for stack in board.stacks:
        assert stack.values.dtype == np.uint16
        assert stack.values.shape == (quick.slices, *stack.grid.shape)
        assert len(stack.z_um) == quick.slices
        assert list(stack.z_um) == sorted(stack.z_um)
    assert board.stacks[0].z_um == (5.0, 85.0, 165.0)


def test_placements_stay_within_what_the_format_allows(quick):
    wild = replace(quick, lateral_jitter_um=400.0, rotation_jitter_deg=3.0, z_belief_um=40.0)
    board = simulate_board(np.random.default_rng(2), PRODUCTS["tst4"], wild)
    for placement in board.placements.values():
        assert abs(placement.offset_x_um) <= 150
        assert abs(placement.offset_y_um) <= 150
        assert abs(placement.rotation_deg) <= 1
    assert all(abs(error) <= 10 for error in board.z_error_um.values())


def test_good_joints_are_bright_where_the_placement_says_and_missing_ones_are_not(board):
    good, missing = _brightness(board, board.truth["label"] == "good"), _brightness(board, board.truth["variety"] == "missing")
    assert np.median(good) > 0.8
    assert len(missing) == 0 or np.max(missing) < 0.6


def _brightness(board, chosen):
    values = []
    for stack in board.stacks:
        interface = board.recipe.packages[0].interface(stack.interface)
        page = stack.values[stack.values.shape[0] // 2].astype(float)
        low, high = np.percentile(page, [5, 98])
        here = chosen[board.truth["interface"] == stack.interface]
        row, col = stack.grid.to_pixel(*board.placements[f"U1/{stack.interface}"].apply(interface.x_um, interface.y_um))
        values += list((ndimage.map_coordinates(page, [row[here], col[here]], order=1) - low) / (high - low))
    return values


def test_truth_agrees_with_the_labels(board):
    truth = board.truth
    label = truth["label"]
    assert (truth["gap_um"][label == "open"] >= 5).all()
    assert (truth["gap_um"][label == "head_in_pillow"] < 5).all()
    assert (truth["volume_ratio"][label == "good"] >= 2 / 3).all()
    assert (truth["volume_ratio"][label == "starved"] < 2 / 3).all()
    assert np.isfinite(truth["web_um"][label == "bridged"]).all()
    assert ((truth["void_area_fraction"] >= 0) & (truth["void_area_fraction"] <= 1)).all()
    assert truth["standoff_um"][truth["interface"] == "lower"].mean() == pytest.approx(169, abs=8)


def test_the_same_seed_is_the_same_board(quick):
    a, b = (simulate_board(np.random.default_rng(9), PRODUCTS["tst4"], quick) for _ in range(2))
    assert all((x.values == y.values).all() for x, y in zip(a.stacks, b.stacks, strict=True))
    assert all(np.array_equal(x.height_um, y.height_um, equal_nan=True) for x, y in zip(a.heights, b.heights, strict=True))
    assert a.cause == b.cause


def test_a_transmission_picture_is_shared_by_both_interfaces():
    machine = replace(MACHINES["transmission"], pixel_um=24.0, height_pixel_um=48.0)
    lower, upper = simulate_board(np.random.default_rng(4), PRODUCTS["tst4"], machine).stacks
    assert lower.values is upper.values
    assert (lower.z_um, upper.z_um) == ((85.0,), (630.0,))


def test_tomography_has_as_many_slices_as_asked_for():
    machine = replace(MACHINES["ct9"], pixel_um=24.0, height_pixel_um=48.0)
    for stack in simulate_board(np.random.default_rng(4), PRODUCTS["tst4"], machine).stacks:
        assert stack.values.shape[0] == 9
        assert stack.method == "ct"
