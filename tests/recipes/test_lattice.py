"""Lattices of points: pitches, angle, fields with gaps, staggered arrays, missing and stray points."""

import numpy as np
import pytest

from inspect_pop.recipes.from_image import read_array
from inspect_pop.recipes.lattice import fit_lattice
from tests.recipes.samples import grid, picture


def moved(points: np.ndarray, sd: float = 0.3) -> np.ndarray:
    return points + np.random.default_rng(0).normal(0, sd, points.shape)


def shape(points: np.ndarray) -> np.ndarray:
    """Points with y up, as the lattice wants them."""
    return np.column_stack([points[:, 0], -points[:, 1]])


@pytest.mark.parametrize("turn", [0.0, 3.0, -12.0])
def test_a_turned_array_with_holes(turn: float) -> None:
    points = moved(shape(grid(12, 9, turn_deg=turn)))
    keep = np.random.default_rng(1).random(len(points)) > 0.1
    lattice = fit_lattice(points[keep])
    assert lattice is not None
    assert lattice.pitch == pytest.approx(26.0, rel=0.002)
    assert lattice.angle_deg == pytest.approx(-turn, abs=0.1)
    assert lattice.on.all()
    column, row = np.tile(np.arange(12), 9)[keep], np.repeat(np.arange(9), 12)[keep]
    assert lattice.column.tolist() == column.tolist()
    assert lattice.row.tolist() == (8 - row).tolist()
    assert np.abs(lattice.place(lattice.column, lattice.row, lattice.field) - shape(grid(12, 9, turn_deg=turn))[keep]).max() < 0.2


def test_two_pitches() -> None:
    points = shape(grid(10, 8))
    points[:, 0] *= 0.8 / 0.65
    lattice = fit_lattice(moved(points))
    assert lattice is not None
    assert lattice.pitches == pytest.approx((32.0, 26.0), rel=0.003)
    assert lattice.pitch == pytest.approx(26.0, rel=0.003)


def test_one_pitch_and_a_right_angle_where_the_points_do_not_speak_for_others() -> None:
    """The fewer numbers come from the same points, the better they are known."""
    square = shape(grid(8, 8, turn_deg=2.0))
    lattice = fit_lattice(moved(square, sd=0.8))
    assert lattice is not None
    assert np.hypot(*lattice.step_x) == pytest.approx(np.hypot(*lattice.step_y), rel=1e-12)
    assert lattice.step_x @ lattice.step_y == pytest.approx(0, abs=1e-9)
    wide = square * (1.01, 1.0)  # a picture whose sides have another scale
    lattice = fit_lattice(moved(wide, sd=0.1))
    assert lattice is not None
    assert np.hypot(*lattice.step_x) / np.hypot(*lattice.step_y) == pytest.approx(1.01, abs=0.002)
    sheared = square + np.column_stack([0.02 * square[:, 1], np.zeros(len(square))])
    lattice = fit_lattice(moved(sheared, sd=0.1))
    assert lattice is not None
    assert np.abs(lattice.place(lattice.column, lattice.row, lattice.field) - sheared).max() < 0.2


def test_a_staggered_array_counts_all_columns() -> None:
    points = np.array([(c * 15.0, r * 15.0) for r in range(8) for c in range(8) if (r + c) % 2 == 0])
    lattice = fit_lattice(moved(points))
    assert lattice is not None
    assert lattice.staggered
    assert lattice.pitch == pytest.approx(15.0 * 2**0.5, rel=0.003)
    assert lattice.column.tolist() == [c for r in range(8) for c in range(8) if (r + c) % 2 == 0]


@pytest.mark.parametrize(("gap", "broken"), [(4.0, False), (4.5, True), (3.8, True)])
def test_fields_with_a_gap(gap: float, broken: bool) -> None:
    left = shape(grid(4, 9))
    right = left + np.array([(3 + gap) * 26.0, 0])
    lattice = fit_lattice(moved(np.vstack([left, right]), 0.1))
    assert lattice is not None
    assert lattice.on.all()
    assert bool(lattice.broken_columns) == broken
    assert lattice.broken_rows == ()
    if not broken:
        assert sorted(set(lattice.column.tolist())) == [0, 1, 2, 3, 7, 8, 9, 10]


def test_strays_are_left_out() -> None:
    points = shape(grid(8, 8))
    strays = np.array([[60 + 13.0, -60 - 13.0], [60 + 26 * 3.5, -60 - 26 * 5.0], [300.0, -350.0]])
    lattice = fit_lattice(np.vstack([points, strays]))
    assert lattice is not None
    assert lattice.on.tolist() == [True] * 64 + [False] * 3


def test_no_lattice() -> None:
    assert fit_lattice(np.zeros((2, 2))) is None
    assert fit_lattice(np.zeros((9, 2))) is None
    assert fit_lattice(np.array([(x, 0.0) for x in range(9)], dtype=float)) is None, "a single row"
    for turn in (22.0, 26.0, 30.0, 34.0):
        assert fit_lattice(shape(grid(6, 6, turn_deg=turn))) is None, "turned too far"


def test_an_array_is_preferred_to_the_many_faint_ghosts_around_it() -> None:
    """As of the package above: nearer together, and ten times as many; and the recipe tells of them."""
    inner = grid(4, 4, pitch=40.0, at=(170.0, 170.0))
    around = grid(17, 17, at=(20.0, 20.0))
    ghosts = around[np.abs(around - 228.0).max(axis=1) > 110]
    image = picture(inner, (560, 560), noise=0.5).astype(float)
    image += 0.3 * (picture(ghosts, (560, 560), noise=0.0).astype(float) - 50)
    found = read_array(image.clip(0, 255).astype(np.uint8), pitch_um=500.0)
    assert len(found.draft.ball) == len(inner)
    assert found.pixel_um == pytest.approx(500.0 / 40, rel=0.001)
    assert any("fainter array of 208 bodies" in note for note in found.draft.notes)
