"""The solder map, the pattern of joints and empty places, and the search that scores one against the other."""

from dataclasses import replace

import numpy as np
import pytest

from inspect_pop.align.slices import (
    TURNS,
    SolderMap,
    build_solder_map,
    compare_turned,
    find_centroids,
    find_distinct_turns,
    invert_map,
    make_pattern,
    score_shifts,
    search_array,
)
from inspect_pop.core.geometry import Placement
from tests.drawn import drawn_interface
from tests.scenes import HOME, make_package, ring, stack_of, without

FULL = drawn_interface(8)
SIX = drawn_interface(6)


def test_empty_places_surround_a_full_array_once() -> None:
    expected = make_pattern(drawn_interface(4))
    assert len(expected.joints) == 16
    assert len(expected.empty) == 16  # four a side, no corners
    assert np.abs(expected.empty).max() == pytest.approx(1000.0)


def test_missing_positions_inside_are_empty_places() -> None:
    expected = make_pattern(without(drawn_interface(5), [12]))
    assert np.hypot(*expected.empty.T).min() == pytest.approx(0.0)


def test_margin_and_spill_of_a_full_array_are_its_rows() -> None:
    """A shift by one pitch loses a row of 8 and fills a row of 8 empty places."""
    expected = make_pattern(drawn_interface(8))
    assert expected.margin == 16
    assert expected.spill == 8


def test_a_ring_is_easier_to_place_than_a_full_array() -> None:
    assert make_pattern(ring(8)).margin / 28 > make_pattern(drawn_interface(8)).margin / 64


def test_in_transmission_the_other_interface_is_no_evidence() -> None:
    lower, upper = make_package().interfaces
    alone, over = make_pattern(upper), make_pattern(upper, lower)
    assert len(over.empty) < len(alone.empty)
    seen = np.column_stack([lower.x_um, lower.y_um])
    assert np.linalg.norm(over.empty[:, None] - seen[None], axis=2).min() > 0.5 * (
        lower.ball_diameter_um + upper.ball_diameter_um
    )


@pytest.mark.parametrize("turn", TURNS)
def test_a_symmetric_array_looks_the_same_turned(turn: str) -> None:
    expected = make_pattern(drawn_interface(5))
    designed, other = compare_turned(expected.joints, TURNS[turn], 400.0)
    assert len(designed) == len(other) == 0


def test_a_missing_corner_shows_where_it_would_be_turned() -> None:
    interface = without(drawn_interface(5), [0])
    designed, other = compare_turned(make_pattern(interface).joints, TURNS["turned by 180 degrees"], 400.0)
    assert designed.tolist() == [[800.0, -800.0]]
    assert other.tolist() == [[-800.0, 800.0]]


def test_turns_that_nothing_shows_are_left_out() -> None:
    whole = drawn_interface(5)
    assert find_distinct_turns(make_pattern(whole), 400.0) == ()
    corner = without(whole, [0])
    assert {name for name, _, _ in find_distinct_turns(make_pattern(corner), 400.0)} >= {
        "turned by 180 degrees",
        "mirrored left to right",
    }


def map_of_array(placement: Placement = HOME) -> SolderMap:
    return build_solder_map(stack_of(FULL, placement, half_um=3000.0), FULL.ball_diameter_um, 64)


def score_near(score: np.ndarray, x_um: np.ndarray, y_um: np.ndarray, at: tuple[float, float]) -> float:
    """The best score within half a ball of one shift."""
    return float(score[np.hypot(x_um - at[0], y_um - at[1]) < 125].max())


def test_a_pitch_beside_loses_a_row_of_joints_and_fills_a_row_of_empty_places() -> None:
    expected = make_pattern(FULL)
    maps = score_shifts(map_of_array(), expected, 0.0, 600.0)
    assert score_near(*maps, (0.0, 0.0)) == pytest.approx(64, abs=0.5)
    for beside in ((400.0, 0.0), (0.0, -400.0)):
        assert score_near(*maps, beside) == pytest.approx(64 - expected.margin, abs=1.0)


def test_joints_outside_the_image_score_nothing() -> None:
    stack = stack_of(FULL, half_um=1400.0)
    small = build_solder_map(stack, FULL.ball_diameter_um, 64)
    maps = score_shifts(small, make_pattern(FULL), 0.0, 600.0)
    assert score_near(*maps, (0.0, 0.0)) <= 64


@pytest.mark.parametrize("turn", [-1.8, 0.0, 1.3])
def test_search_comes_within_half_a_ball(turn: float) -> None:
    placed = Placement(-410.0, 230.0, turn, 0.0)
    best = search_array(map_of_array(placed), make_pattern(FULL), 600.0, FULL.ball_diameter_um).placement
    assert np.hypot(best.offset_x_um - placed.offset_x_um, best.offset_y_um - placed.offset_y_um) < 125
    assert best.rotation_deg == pytest.approx(turn, abs=1.5)  # 1.5 degrees move the corner joints by a fifth of a ball


def test_a_ring_in_transmission_is_not_drawn_into_the_array_beside_it() -> None:
    """The ring's own empty places keep it off joints of the other interface that would fit as well."""
    upper = ring(8, 400.0)
    stack = stack_of(FULL, half_um=3000.0)
    maps = score_shifts(build_solder_map(stack, 248.0, 28), make_pattern(upper), 0.0, 600.0)
    # All 28 places hold solder at home, but so do those inside the ring, which must be empty.
    assert score_near(*maps, (0.0, 0.0)) < 28 - 15


def at_joints(values: np.ndarray, grid: object) -> np.ndarray:
    row, col = (np.rint(v).astype(int) for v in grid.to_pixel(SIX.x_um, SIX.y_um))  # type: ignore[attr-defined]
    return values[row, col]


@pytest.mark.parametrize("pixel", [6.0, 12.0, 20.0, 35.0])
def test_joints_are_one_and_the_rest_is_none(pixel: float) -> None:
    seen = build_solder_map(stack_of(SIX, pixel_um=pixel), SIX.ball_diameter_um, 36)
    assert at_joints(seen.response, seen.grid) == pytest.approx(1.0, abs=0.2)
    assert at_joints(seen.likeness, seen.grid).min() > 0.95
    assert seen.likeness[:4].max() == 0


def test_the_small_picture_keeps_its_place() -> None:
    stack = stack_of(SIX, pixel_um=10.0)
    seen = build_solder_map(stack, SIX.ball_diameter_um, 36)
    assert seen.grid.pixel_um > 10.0
    assert seen.grid.shape == seen.response.shape
    x, y, found = find_centroids(seen.response, seen.grid, SIX.x_um, SIX.y_um, 0.6 * SIX.ball_diameter_um)
    assert found.all()
    assert np.mean(x - SIX.x_um) == pytest.approx(0, abs=0.5)
    assert np.mean(y - SIX.y_um) == pytest.approx(0, abs=0.5)


def test_nan_and_empty_pictures_respond_nowhere() -> None:
    stack = stack_of(SIX)
    flat = replace(stack, values=np.full(stack.values.shape, 3.5, dtype=np.float32))
    assert build_solder_map(flat, 250.0, 36).likeness.max() == 0
    holed = stack.values.astype(np.float32)
    holed[:, 5:9] = np.nan
    assert np.isfinite(build_solder_map(replace(stack, values=holed), 250.0, 36).response).all()


def test_inverted_is_what_the_other_polarity_gives() -> None:
    stack = stack_of(SIX)
    dark = build_solder_map(replace(stack, polarity="solder_dark"), 250.0, 36)
    assert invert_map(dark, 36).response == pytest.approx(build_solder_map(stack, 250.0, 36).response, abs=1e-4)
