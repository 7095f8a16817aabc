"""The array is found wherever it sits within reach, never a pitch beside, and refused where it is not."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inspect_pop.align import align_slices
from inspect_pop.align.slices import find_centroids
from inspect_pop.core.errors import FrameFault
from inspect_pop.core.geometry import Grid, Placement, SliceStack
from inspect_pop.core.limits import Limits
from tests.drawn import drawn_interface
from tests.scenes import discs, make_package, ring, stack_of, without

LIMITS = Limits()
FULL = drawn_interface(8)
PACKAGE = make_package()


def assert_found(found: Placement, placed: Placement, within_um: float = 1.5) -> None:
    assert np.hypot(found.offset_x_um - placed.offset_x_um, found.offset_y_um - placed.offset_y_um) < within_um
    assert found.rotation_deg == pytest.approx(placed.rotation_deg, abs=0.03)


@settings(max_examples=25, deadline=None)
@given(
    x=st.floats(-580, 580),
    y=st.floats(-580, 580),
    turn=st.floats(-1.9, 1.9),
    seed=st.integers(0, 99),
    name=st.sampled_from(["lower", "upper"]),
)
def test_any_shift_and_rotation_within_reach_is_recovered(x: float, y: float, turn: float, seed: int, name: str) -> None:
    interface = PACKAGE.interface(name)
    placed = Placement(x, y, turn, 0.0)
    moved = np.random.default_rng(seed).normal(0, 6, (len(interface.ball), 2))
    found = align_slices(stack_of(interface, placed, moved_um=moved, half_um=3100.0, seed=seed), PACKAGE, LIMITS)
    assert found.confident
    # Joints stand 6 um off by themselves: the mean of 28 is known to about 1.6 um, the rotation to 0.06 degrees.
    assert np.hypot(found.offset_x_um - x, found.offset_y_um - y) < 5
    assert found.rotation_deg == pytest.approx(turn, abs=0.2)


@pytest.mark.parametrize("pitch", [350.0, 400.0, 500.0, 650.0])
def test_a_shift_of_one_pitch_is_seen_as_that_shift(pitch: float) -> None:
    interface = drawn_interface(6, pitch)
    package = make_package(interface)
    for placed in (Placement(pitch, 0, 0.3, 0.0), Placement(-pitch, pitch, -0.2, 0.0)):
        found = align_slices(stack_of(interface, placed), package, replace(LIMITS, search_um=700.0))
        assert found.confident
        assert_found(found, placed)


def test_a_pitch_out_of_reach_is_refused_not_guessed() -> None:
    stack = stack_of(FULL, Placement(2 * 400.0, 0, 0, 0.0), half_um=3300.0)
    with pytest.raises(FrameFault, match="beside the array"):
        align_slices(stack, PACKAGE, LIMITS)


def test_a_tenth_of_the_joints_missing_and_some_bridged() -> None:
    rng = np.random.default_rng(3)
    placed = Placement(120.0, -90.0, 0.8, 0.0)
    gone = rng.choice(64, 6, replace=False)
    webs = [(float(FULL.x_um[k]) + 200.0, float(FULL.y_um[k])) for k in rng.choice(56, 6, replace=False)]
    found = align_slices(stack_of(FULL, placed, without=list(gone), more_um=webs), PACKAGE, LIMITS)
    assert found.confident
    assert_found(found, placed, within_um=6.0)


def test_a_row_that_is_missing_as_a_whole_leaves_two_placements() -> None:
    """Seven rows of eight fit at two places equally well: said, not decided."""
    row = np.flatnonzero(np.max(FULL.y_um) == FULL.y_um)
    found = align_slices(stack_of(FULL, without=list(row)), PACKAGE, LIMITS)
    assert not found.confident


def test_residual_is_how_far_joints_lie_from_the_fit() -> None:
    moved = np.random.default_rng(0).normal(0, 10, (64, 2))
    found = align_slices(stack_of(FULL, moved_um=moved), PACKAGE, LIMITS)
    assert found.residual_um == pytest.approx(10 * np.sqrt(2), rel=0.25)


@pytest.mark.parametrize("change", ["dark", "uint8", "float32", "scaled", "one_slice", "nine_slices", "lost", "gradient"])
def test_the_machine_makes_no_difference(change: str) -> None:
    placed = Placement(-60.0, 35.0, 0.5, 0.0)
    stack = stack_of(FULL, placed, slices=9 if change == "nine_slices" else 3)
    assert_found(align_slices(_as_other_machine(stack, change), PACKAGE, LIMITS), placed)


def _as_other_machine(stack: SliceStack, change: str) -> SliceStack:
    values = stack.values.astype(np.float64)
    rows = np.linspace(0, 600, values.shape[1])[:, None]
    others = {
        "dark": lambda: replace(stack, values=(60000 - values * 8).astype(np.uint16), polarity="solder_dark"),
        "uint8": lambda: replace(stack, values=(values / 8).clip(0, 255).astype(np.uint8)),
        "float32": lambda: replace(stack, values=(values / 1e5 - 3).astype(np.float32)),
        "scaled": lambda: replace(stack, values=(values * 20 + 5000).astype(np.uint16)),
        "one_slice": lambda: replace(stack, values=stack.values[:1], z_um=stack.z_um[:1]),
        "nine_slices": lambda: stack,
        "lost": lambda: replace(stack, values=np.concatenate([0 * stack.values[:1], stack.values[1:]]), lost=(0,)),
        "gradient": lambda: replace(stack, values=(values + rows).astype(np.uint16)),
    }
    return others[change]()


def test_transmission_shows_both_interfaces_and_each_is_found() -> None:
    placed = Placement(90.0, -40.0, 0.4, 0.0)
    lower, upper = PACKAGE.interfaces
    both = stack_of(lower, placed, half_um=3000.0, slices=1, method="transmission")
    other = stack_of(upper, placed, half_um=3000.0, slices=1)
    values = np.clip(both.values.astype(float) + other.values - 400, 0, 65535).astype(np.uint16)
    for interface in PACKAGE.interfaces:
        picture = replace(both, values=values, interface=interface.name, z_um=(float(np.mean(interface.pads_z_um)),))
        found = align_slices(picture, PACKAGE, LIMITS)
        # Where the other interface's balls overlap a joint's, its own middle is seen displaced.
        assert_found(found, placed, within_um=8.0)


def test_components_beside_the_package_do_not_count() -> None:
    stack = stack_of(FULL, Placement(50.0, 0.0, 0.0, 0.0))
    values = stack.values.copy()
    values[:, 40:160, 5:45] = 2500
    values[:, 300:330, -60:] = 1800
    assert_found(align_slices(replace(stack, values=values), PACKAGE, LIMITS), Placement(50.0, 0.0, 0.0, 0.0))


def test_refuses_what_lies_elsewhere() -> None:
    stack = stack_of(FULL)
    away = replace(stack, grid=replace(stack.grid, origin_um=(40000.0, 0.0)))
    with pytest.raises(FrameFault, match=r"outside the image.*origin_um"):
        align_slices(away, PACKAGE, LIMITS)


def test_refuses_noise() -> None:
    stack = stack_of(FULL, without=range(64), noise=0.1)
    with pytest.raises(FrameFault, match="joints' places"):
        align_slices(stack, PACKAGE, LIMITS)


def test_refuses_a_stack_in_which_one_slice_is_noise() -> None:
    stack = stack_of(FULL, Placement(30.0, 20.0, 0.1, 0.0))
    values = stack.values.copy()
    values[1] = np.random.default_rng(0).integers(0, 60_000, values[1].shape)
    with pytest.raises(FrameFault, match="slice 2 of"):
        align_slices(replace(stack, values=values), PACKAGE, LIMITS)


def test_a_last_slice_that_may_lie_beyond_the_pad_need_not_show_the_joints() -> None:
    stack = stack_of(FULL, Placement(30.0, 20.0, 0.1, 0.0))
    values = stack.values.copy()
    values[-1] = np.random.default_rng(0).normal(400, 20, values[-1].shape)
    assert_found(align_slices(replace(stack, values=values), PACKAGE, LIMITS), Placement(30.0, 20.0, 0.1, 0.0))


def test_refuses_an_image_without_contrast() -> None:
    stack = stack_of(FULL)
    with pytest.raises(FrameFault):
        align_slices(replace(stack, values=np.full_like(stack.values, 700)), PACKAGE, LIMITS)


def test_refuses_a_larger_product_of_the_same_pitch() -> None:
    larger = stack_of(drawn_interface(10), half_um=3000.0)
    with pytest.raises(FrameFault, match="beside the array"):
        align_slices(larger, PACKAGE, LIMITS)


def test_refuses_another_pitch() -> None:
    other = stack_of(drawn_interface(8, 500.0), half_um=3000.0)
    with pytest.raises(FrameFault, match="64 joints at 400 um"):
        align_slices(other, PACKAGE, LIMITS)


@pytest.mark.parametrize("interface", [FULL, ring(8)], ids=["full", "ring"])
def test_refuses_the_other_polarity(interface: object) -> None:
    stack = stack_of(PACKAGE.interface(interface.name))  # type: ignore[attr-defined]
    with pytest.raises(FrameFault):
        align_slices(replace(stack, polarity="solder_dark"), PACKAGE, LIMITS)


@pytest.mark.parametrize(("turn", "word"), [(2, "turned by 180"), (1, "turned by"), (0, "mirrored")])
def test_refuses_an_asymmetric_array_the_wrong_way_round(turn: int, word: str) -> None:
    """Two joints left out beside pin 1 are enough to tell every turn."""
    interface = without(FULL, [0, 1])
    package = make_package(interface)
    stack = stack_of(interface)
    values = np.rot90(stack.values, turn, axes=(1, 2)) if turn else stack.values[:, :, ::-1]
    assert align_slices(stack, package, LIMITS).confident
    with pytest.raises(FrameFault, match=word):
        align_slices(replace(stack, values=np.ascontiguousarray(values)), package, LIMITS)


def test_missing_joints_alone_are_defects_not_a_turn() -> None:
    interface = without(FULL, [0])
    package = make_package(interface)
    opposite = int(np.argmax(interface.x_um - interface.y_um))
    assert align_slices(stack_of(interface, without=[opposite]), package, LIMITS).confident


def test_all_sample_exports_align(shared: Path) -> None:
    from inspect_pop.ingest import open_export

    seen = 0
    for manifest in sorted((shared / "exports").glob("line-*/boards/*/export.json")):
        export = open_export(manifest.parent, manifest.parents[2])
        (package,) = export.recipe.packages
        for image in export.images:
            if image.kind == "xray_slices":
                found = align_slices(image.read(), package, LIMITS)  # type: ignore[arg-type]
                assert found.confident, manifest
                assert found.residual_um < 15, manifest
                assert np.hypot(found.offset_x_um, found.offset_y_um) < 150
                seen += 1
    assert seen >= 28


@pytest.mark.parametrize("pixel", [12.0, 30.0, 45.0])
@pytest.mark.parametrize("shift", [0.0, 0.25, 0.5])
def test_centroids_do_not_depend_on_the_grid_of_pixels(pixel: float, shift: float) -> None:
    grid = Grid((60, 60), pixel, (-30 * pixel, 30 * pixel))
    x, y = np.array([shift * pixel]), np.array([-shift * pixel / 2])
    picture = discs(grid, x, y, 125.0, blur_um=60.0).astype(np.float32)
    fx, fy, found = find_centroids(picture, grid, x + 20, y - 15, 240.0)
    assert found.all()
    assert np.hypot(fx - x, fy - y)[0] < 0.05 * pixel


def test_nothing_is_found_outside_or_on_nothing() -> None:
    grid = Grid((60, 60), 30.0, (-900.0, 900.0))
    picture = np.zeros((60, 60), dtype=np.float32)
    _, _, found = find_centroids(picture, grid, np.array([0.0, 5000.0]), np.array([0.0, 0.0]), 200.0)
    assert not found.any()
