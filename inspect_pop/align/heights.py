"""Where a package sits in a height map; refuses rather than guesses."""

from dataclasses import replace

import numpy as np

from inspect_pop.align.body import Outline, coarse_box, fit_outline, sides
from inspect_pop.align.mark import pin1_corner
from inspect_pop.errors import FrameFault
from inspect_pop.geometry import HeightMap, Placement
from inspect_pop.limits import Limits
from inspect_pop.recipe import Package

__all__ = ["align_height"]

MIN_BODY = 0.6  # how clearly the body must stand above its surroundings; a clear one has 0.95 and more
MAX_LOST = 1  # edges that something may hide: a body of another size has two where they should not be
MIN_AGREE = 0.5  # share of the edge points on the fitted outline; below: not confident
SIZE_TOLERANCE = 0.02  # bodies are made to 0.1 mm (JEDEC); edges are seen to two pixels


def align_height(heights: HeightMap, package: Package, limits: Limits) -> Placement:
    """The package's own offset and rotation in this height map, from the outline of its body.

    Raises
    ------
    FrameFault
        No body of this size is within reach, or its pin-1 mark is at another corner than the recipe says.
    """
    thing = f"{heights.refdes} {heights.stage} height map"
    side = sides(heights.height_um, _level(heights, package))
    x, y, quality = coarse_box(side, heights.grid, package.body_um, limits.search_um)
    if quality < MIN_BODY:
        raise FrameFault(
            thing,
            expected=f"a body of {_size(package.body_um)} um within {limits.search_um:.0f} um of the middle",
            found=f"{max(quality, 0):.0%} of it above its surroundings",
            remedy="Check origin_um, pixel_um and scale_um of the map, and that the recipe is this product's.",
        )
    outline = fit_outline(side, heights.grid, package.body_um, (x, y))
    _check_size(outline, package, heights.grid.pixel_um, thing)
    _check_mark(heights, outline.placement, package, thing)
    if outline.placement.residual_um > limits.alignment_residual_um:
        raise FrameFault(
            thing,
            expected=f"the body's outline within {limits.alignment_residual_um:.0f} um rms",
            found=f"{outline.placement.residual_um:.0f} um",
            remedy="Look at the map: is the package whole and alone?",
        )
    return replace(outline.placement, confident=outline.agree >= MIN_AGREE)


def _level(heights: HeightMap, package: Package) -> float:
    """Half way from the board to the body: half the stack's height, or before stacking half that of the upper joints' pads.

    A package without an upper interface stands by itself in both maps.
    """
    upper = [i for i in package.interfaces if i.name == "upper"]
    if heights.stage == "pre_stack" and upper:
        return upper[0].pads_z_um[0] / 2
    return package.stack_height_um / 2


def _size(body_um: tuple[float, float]) -> str:
    return f"{body_um[0]:.0f} x {body_um[1]:.0f}"


def _check_size(outline: Outline, package: Package, pixel_um: float, thing: str) -> None:
    found = np.array([outline.width_um, outline.height_um])
    expected = np.array(package.body_um)
    wrong = np.any(np.abs(found - expected) > np.maximum(SIZE_TOLERANCE * expected, 100.0 + 2 * pixel_um))
    if wrong or outline.lost > MAX_LOST:
        raise FrameFault(
            thing,
            expected=f"a body of {_size(package.body_um)} um",
            found=f"{_size((outline.width_um, outline.height_um))} um" if wrong else "no edges where its would be",
            remedy="Check pixel_um of the map, and that the recipe is this product's.",
        )


def _check_mark(heights: HeightMap, placement: Placement, package: Package, thing: str) -> None:
    corner = pin1_corner(heights, placement, package)
    if corner is not None and corner != package.a1_corner:
        raise FrameFault(
            thing,
            expected=f"the pin-1 mark at the {package.a1_corner.replace('_', ' ')} corner",
            found=f"it at the {corner.replace('_', ' ')} corner: the board or the image is turned or mirrored",
            remedy="Turn the board, or correct the orientation of the machine's images.",
        )
