"""What a person sees is what the machine wrote: pixel by pixel, around the joint."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from inspect_pop.core.inspection import choose_sample
from inspect_pop.verify.windows import (
    MOST_SAMPLES,
    ExportPlace,
    choose_height_map,
    cut_height_patch,
    cut_slice_window,
    cut_windows,
    name_joint,
)
from tests.verify.boards import PLACEMENT, make_seen_board

PLACE = ExportPlace("/exports/B", "/exports", "d" * 64)


def part_of(board: Any, recipe: Any, name: str = "lower") -> tuple[Any, Any]:
    return next(s for s in board.stacks if s.interface == name), recipe.packages[0].interface(name)


def test_suspects_samples_and_their_references_are_cut() -> None:
    board, recipe = make_seen_board("S", defects={"U1.lower.B2": "open"}, reviews={"U1.upper.A1": "near"})
    kept = cut_windows(board, recipe, PLACE, sample_size=2)
    roles = {window.joint: window.role for window in kept.windows}
    chosen = choose_sample(board.board.record, board.joints, 2)
    sample = {name_joint(*(board.joints[n][row] for n in ("refdes", "interface", "ball"))) for row in chosen}
    assert {name for name, role in roles.items() if role == "suspect"} == {"U1.lower.B2", "U1.upper.A1"}
    assert {name for name, role in roles.items() if role == "sample"} == sample
    assert set(kept.references) == {"U1.lower.B2", "U1.upper.A1"} | sample
    verdicts = dict(
        zip(
            (name_joint(*k) for k in zip(*(board.joints[n] for n in ("refdes", "interface", "ball")), strict=True)),
            board.joints["verdict"],
            strict=True,
        )
    )
    for name, reference in kept.references.items():
        assert name != reference and name.split(".")[:2] == reference.split(".")[:2]
        assert verdicts[reference] == "pass" and reference in roles
    assert (kept.record, kept.export, kept.placements) == (board.board.record, PLACE, board.placements)


def test_without_slices_nothing_is_cut() -> None:
    board, recipe = make_seen_board("S", defects={"U1.lower.B2": "open"})
    assert cut_windows(replace(board, stacks=()), recipe, None).windows == []


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16"])
def test_grey_is_kept_to_the_last_bit(dtype: str) -> None:
    board, recipe = make_seen_board("S", dtype=dtype)
    stack, interface = part_of(board, recipe)
    window = cut_slice_window(stack, interface, PLACEMENT, 5)
    row, col = (round(float(a[0])) for a in stack.grid.to_pixel(*PLACEMENT.apply(interface.x_um[5:6], interface.y_um[5:6])))
    half = window.codes.shape[1] // 2
    there = stack.values[:, row - half : row + half + 1, col - half : col + half + 1]
    offset, factor = window.scale
    assert window.none is None and window.codes.dtype == np.uint16
    np.testing.assert_array_equal(offset + factor * window.codes.astype(float), there.astype(float))
    assert window.pixel_um == stack.grid.pixel_um and window.z_um == stack.z_um
    assert np.allclose(window.centre, half, atol=0.5)
    assert half * stack.grid.pixel_um >= 0.7 * interface.pitch_um


def test_float_grey_is_spread_over_16_bits_and_no_data_is_said() -> None:
    board, recipe = make_seen_board("S", dtype=np.float32)
    stack, interface = part_of(board, recipe)
    stack.values[1, 10:30, :] = np.nan
    window = cut_slice_window(stack, interface, PLACEMENT, 1)
    offset, factor = window.scale
    whole = cut_slice_window(replace(stack, values=np.nan_to_num(stack.values, nan=1.0)), interface, PLACEMENT, 1)
    unknown = window.codes == window.none
    assert window.none == 0 and unknown[1].any() and not unknown[0].any()
    grey = whole.scale[0] + whole.scale[1] * whole.codes.astype(float)
    assert np.abs(offset + factor * window.codes.astype(float) - grey)[~unknown].max() < 2 * factor + 2 * whole.scale[1]


def test_beyond_the_picture_its_edge_repeats_and_is_said() -> None:
    board, recipe = make_seen_board("S")
    stack, interface = part_of(board, recipe)
    narrow = replace(
        stack,
        values=stack.values[:, 20:, :],
        grid=replace(
            stack.grid,
            shape=(stack.grid.shape[0] - 20, stack.grid.shape[1]),
            origin_um=(stack.grid.origin_um[0], stack.grid.origin_um[1] - 20 * stack.grid.pixel_um),
        ),
    )
    whole, cut = (cut_slice_window(s, interface, PLACEMENT, 0) for s in (stack, narrow))
    top, left, bottom, right = cut.inside
    assert whole.inside == (0, 0, *whole.codes.shape[1:])
    assert top > 0 and (left, bottom, right) == whole.inside[1:]
    np.testing.assert_array_equal(cut.codes[:, top:], whole.codes[:, top:])
    assert (cut.codes[:, :top] == cut.codes[:, top : top + 1]).all()
    assert np.allclose(cut.centre, whole.centre)


def test_many_fine_slices_are_kept_narrower_then_coarser_and_cut_again_whole() -> None:
    board, recipe = make_seen_board("S")
    stack, interface = part_of(board, recipe)
    nine = replace(stack, values=np.repeat(stack.values, 2, axis=0)[:9], z_um=tuple(float(k) for k in range(9)))
    for scale, is_coarser in ((2.2, False), (8.0, True)):
        fine = replace(nine, grid=replace(stack.grid, pixel_um=stack.grid.pixel_um / scale))
        kept = cut_slice_window(fine, interface, PLACEMENT, 5)
        assert kept.codes.size <= MOST_SAMPLES
        assert (kept.pixel_um > fine.grid.pixel_um) == is_coarser
        whole = cut_slice_window(fine, interface, PLACEMENT, 5, most_samples=None)
        assert whole.pixel_um == fine.grid.pixel_um and whole.codes.size > MOST_SAMPLES


def test_heights_of_the_upper_joints_are_their_domes() -> None:
    board, recipe = make_seen_board("S")
    assert choose_height_map(board.heights, "U1", "upper").stage == "pre_stack"  # type: ignore[union-attr]
    assert choose_height_map(board.heights, "U1", "lower").stage == "post_reflow"  # type: ignore[union-attr]
    assert choose_height_map(board.heights, "U2", "lower") is None
    heights = choose_height_map(board.heights, "U1", "upper")
    assert heights is not None
    _, interface = part_of(board, recipe, "upper")
    patch = cut_height_patch(heights, interface, PLACEMENT, 4)
    assert patch is not None
    row, col = (round(float(a[0])) for a in heights.grid.to_pixel(*PLACEMENT.apply(interface.x_um[4:5], interface.y_um[4:5])))
    half = patch.codes.shape[0] // 2
    there = heights.height_um[row - half : row + half + 1, col - half : col + half + 1]
    back = np.where(patch.codes > 0, patch.offset_um + patch.factor_um * (patch.codes - 1.0), np.nan)
    np.testing.assert_allclose(back, there, atol=0.006)
    empty = replace(heights, height_um=np.full_like(heights.height_um, np.nan))
    assert cut_height_patch(empty, interface, PLACEMENT, 4) is None
