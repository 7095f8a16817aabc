"""The body is found by its outline, and refused where it is not the right one or lies the wrong way round."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inspect_pop.align import align_height, find_pin1_corner
from inspect_pop.align.height_map import mask_upper_openings
from inspect_pop.core.errors import FrameFault
from inspect_pop.core.geometry import HeightMap, Placement
from inspect_pop.core.limits import Limits
from tests.scenes import make_package, map_of

LIMITS = Limits()
PACKAGE = make_package()
PLACED = Placement(110.0, -70.0, 0.7, 0.0)


def assert_found(
    found: Placement, placed: Placement, within_um: float = 12.0
) -> None:  # half a pixel: what an edge between pixels tells
    """A third of a 24 um pixel; the edges of a drawn body are whole pixels: no turn shows before one steps."""
    assert np.hypot(found.offset_x_um - placed.offset_x_um, found.offset_y_um - placed.offset_y_um) < within_um
    assert found.rotation_deg == pytest.approx(placed.rotation_deg, abs=0.3)


@settings(max_examples=25, deadline=None)
@given(
    x=st.floats(-500, 500),
    y=st.floats(-500, 500),
    turn=st.floats(-1.9, 1.9),
    warpage=st.floats(-170, 170),
    stage=st.sampled_from(["pre_stack", "post_reflow"]),
    seed=st.integers(0, 99),
)
def test_any_placement_within_reach_is_recovered(x: float, y: float, turn: float, warpage: float, stage: str, seed: int) -> None:
    placed = Placement(x, y, turn, 0.0)
    heights = map_of(PACKAGE, placed, stage=stage, warpage_um=warpage, dropouts=0.02, seed=seed)
    found = align_height(heights, PACKAGE, LIMITS)
    assert found.confident
    assert_found(found, placed)


@pytest.mark.parametrize("pixel", [12.0, 24.0, 36.0])
def test_pixel_size_makes_no_difference(pixel: float) -> None:
    assert_found(align_height(map_of(PACKAGE, PLACED, pixel_um=pixel), PACKAGE, LIMITS), PLACED, within_um=pixel / 2)


def test_tilt_of_the_machine_and_texture_do_not_move_it() -> None:
    heights = map_of(PACKAGE, PLACED, tilt=(0.005, -0.005), lettering=True, noise_um=8.0)
    assert_found(align_height(heights, PACKAGE, LIMITS), PLACED)


def test_components_and_shadows_beside_it_do_not_move_it() -> None:
    heights = map_of(PACKAGE, Placement(0, 0, 0, 0))
    z = heights.height_um.copy()
    z[:10] = 1380.0  # a neighbour as tall as the stack
    z[120:140, :32] = 700.0  # a capacitor that touches the body
    z[230:250, 60:200] = np.nan  # shadow along an edge
    found = align_height(replace(heights, height_um=z), PACKAGE, LIMITS)
    assert_found(found, Placement(0, 0, 0, 0), within_um=15)


def test_an_edge_out_of_view_is_done_without() -> None:
    heights = map_of(PACKAGE, PLACED)
    cut = replace(heights, height_um=heights.height_um[:, :200], grid=replace(heights.grid, shape=(heights.grid.shape[0], 200)))
    assert_found(align_height(cut, PACKAGE, LIMITS), PLACED, within_um=20)


def test_refuses_what_lies_elsewhere() -> None:
    heights = map_of(PACKAGE)
    away = replace(heights, grid=replace(heights.grid, origin_um=(40000.0, 0.0)))
    with pytest.raises(FrameFault, match=r"a body of 4400 x 4400 um.*origin_um"):
        align_height(away, PACKAGE, LIMITS)


@pytest.mark.parametrize("fill", [np.nan, 0.0, 1350.0])
def test_refuses_a_map_without_a_body(fill: float) -> None:
    heights = map_of(PACKAGE)
    with pytest.raises(FrameFault):
        align_height(replace(heights, height_um=np.full_like(heights.height_um, fill)), PACKAGE, LIMITS)


@pytest.mark.parametrize("body", [3800.0, 5000.0])
def test_refuses_a_body_of_another_size(body: float) -> None:
    with pytest.raises(FrameFault, match="a body of 4400 x 4400"):
        align_height(map_of(make_package(body_um=body)), PACKAGE, LIMITS)


@pytest.mark.parametrize("corner", ["upper_right", "lower_left", "lower_right"])
def test_refuses_a_mark_at_the_wrong_corner(corner: str) -> None:
    with pytest.raises(FrameFault, match=corner.replace("_", " ")):
        align_height(map_of(PACKAGE, PLACED, mark=corner), PACKAGE, LIMITS)


def test_the_recipe_says_which_corner_is_right() -> None:
    package = make_package(a1_corner="lower_right")
    assert_found(align_height(map_of(package, PLACED, mark="lower_right"), package, LIMITS), PLACED)


def test_a_board_turned_by_180_degrees_is_refused_although_its_arrays_are_symmetric() -> None:
    heights = map_of(PACKAGE)
    turned = replace(heights, height_um=np.ascontiguousarray(heights.height_um[::-1, ::-1]))
    with pytest.raises(FrameFault, match="turned or mirrored"):
        align_height(turned, PACKAGE, LIMITS)


def test_no_mark_no_complaint() -> None:
    heights = map_of(PACKAGE, PLACED, mark=None, lettering=True)
    found = align_height(heights, PACKAGE, LIMITS)
    assert find_pin1_corner(heights, found, PACKAGE) is None


@pytest.mark.parametrize("corner", ["upper_left", "upper_right", "lower_left", "lower_right"])
@pytest.mark.parametrize("warpage", [-90.0, 0.0, 90.0])
def test_mark_is_seen_under_warpage_and_dropouts(corner: str, warpage: float) -> None:
    heights = map_of(PACKAGE, PLACED, mark=corner, warpage_um=warpage, dropouts=0.03, lettering=True)
    assert find_pin1_corner(heights, PLACED, PACKAGE) == corner


def test_a_raised_mark_is_a_mark() -> None:
    heights = map_of(PACKAGE)
    raised = replace(heights, height_um=np.where(_mark_area(heights), heights.height_um + 50, heights.height_um))
    assert find_pin1_corner(raised, Placement(0, 0, 0, 0), PACKAGE) == "upper_left"


def test_a_missing_dome_is_no_mark() -> None:
    domes = np.full(28, -60.0)
    domes[np.argmin(PACKAGE.interface("upper").y_um - PACKAGE.interface("upper").x_um)] = -400.0
    heights = map_of(PACKAGE, stage="pre_stack", mark=None, domes_um=domes)
    assert find_pin1_corner(heights, Placement(0, 0, 0, 0), PACKAGE) is None


def test_all_sample_exports_align_and_bear_their_mark(shared: Path) -> None:
    from inspect_pop.ingest import open_export

    seen = 0
    for manifest in sorted((shared / "exports").glob("line-*/boards/*/export.json")):
        export = open_export(manifest.parent, manifest.parents[2])
        (package,) = export.recipe.packages
        for image in (i for i in export.images if i.kind == "height_map"):
            heights = image.read()
            assert isinstance(heights, HeightMap)
            found = align_height(heights, package, LIMITS)
            assert found.confident
            assert found.residual_um < 20
            corner = find_pin1_corner(heights, found, package)
            assert corner == package.a1_corner or (image.stage == "pre_stack" and corner is None)
            seen += 1
    assert seen >= 28


def _mark_area(heights: HeightMap) -> np.ndarray:
    row, col = np.indices(heights.grid.shape)
    x, y = heights.grid.to_um(row, col)
    return np.hypot(x + 1750, y - 1750) < 220


@pytest.mark.parametrize("corner", ["upper_left", "lower_right"])
def test_a_leaning_top_with_a_part_unseen_shows_its_mark(corner: str) -> None:
    package = make_package()
    heights = map_of(package, mark=corner, lean=(0.02, -0.03), dropouts=0.2)
    assert find_pin1_corner(heights, Placement(0, 0, 0, 0), package) == corner
    assert find_pin1_corner(map_of(package, mark=None, lean=(0.02, -0.03)), Placement(0, 0, 0, 0), package) is None


def test_openings_are_masked_on_a_grid_as_point_by_point() -> None:
    x, y = np.linspace(-2300, 2300, 60)[None, :], np.linspace(2300, -2300, 50)[:, None]
    mask = mask_upper_openings(x, y, PACKAGE, 0.5)
    upper = PACKAGE.interface("upper")
    away = np.hypot(x[..., None] - upper.x_um, y[..., None] - upper.y_um).min(axis=-1)
    assert mask.shape == (50, 60)
    assert (mask == (away < 0.5 * upper.pitch_um)).all()
    flat = mask_upper_openings(*(v.ravel() for v in np.broadcast_arrays(x, y)), PACKAGE, 0.5)
    assert (flat == mask.ravel()).all()
    assert not mask_upper_openings(np.zeros(0), np.zeros(0), PACKAGE, 0.5).size
