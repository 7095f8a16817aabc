"""Make an interface's array from one good board's picture: every ball once, with its JEDEC name."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inspect_pop.convert.pictures import open_pictures
from inspect_pop.core.errors import UsageFault
from inspect_pop.core.text import pluralize
from inspect_pop.recipes.draft import CORNERS, ArrayDraft, compute_standoff, guess_ball, guess_pad, list_names, turn_to_a1
from inspect_pop.recipes.lattice import ABSENT, PRESENT, Array, Lattice, find_array

__all__ = ["ImageArray", "read_array", "read_picture"]


def read_picture(path: Path, page: int | None = None) -> NDArray[Any]:
    """Return one picture (rows, cols) as grey; marks in colours that were burnt in are NaN.

    Parameters
    ----------
    path
        A TIFF (also with JPEG inside), PNG, BMP or JPEG.
    page
        Which page of a TIFF, from 1; None for the middle one.

    Raises
    ------
    FileFault, ImageFault
        The file cannot be read, or is no such picture.
    UsageFault
        It has no such page.
    """
    planes = open_pictures([path])
    if page is not None and not 1 <= page <= planes.count:
        pages = "one page" if planes.count == 1 else f"the pages of {path}"
        raise UsageFault(f"--page {page}", expected=f"1 to {planes.count}: {pages}")
    return planes.read_plane(planes.count // 2 if page is None else page - 1)


# Make an interface's array from one good board's picture: every ball once, with its JEDEC name, and where that is not sure.


NOMINAL_STEP_UM = 50.0  # pitches of parts are multiples of it, or 1.27 mm
INCH_PITCH_UM = 1270.0
NOMINAL_SHARE = 0.003  # of the pitch: how near it must be to be taken for the nominal one
DIFFERENT = 0.1  # a ball that differs by more from the usual one at this pitch is estimated from the picture
FEW = 2  # balls in an outermost row or column that may not belong to the array
LEAST_LINE = 5  # balls of the median row, for such a row to be doubtful
MOST_RESIDUAL = 0.06  # of the pitch: rms distance from the lattice beyond which it is no flat regular array
TURNED_DEG = 5.0


@dataclass(frozen=True)
class ImageArray:
    """The array of a picture: the draft of its interface, where each ball is in the picture, and what was measured.

    `row_px`, `col_px` (n,) in the draft's order. `empty_px` (m, 2): row and column of empty places inside the array.
    """

    draft: ArrayDraft
    row_px: NDArray[np.float64]
    col_px: NDArray[np.float64]
    empty_px: NDArray[np.float64]
    diameter_px: float
    pixel_um: float
    angle_deg: float
    polarity: str


def read_array(
    image: NDArray[np.generic],
    *,
    pitch_um: float | None = None,
    pixel_um: float | None = None,
    refdes: str = "U1",
    a1_corner: str | None = None,
    polarity: str = "auto",
) -> ImageArray:
    """Find the array of a picture (rows, cols) and name its balls.

    Parameters
    ----------
    pitch_um, pixel_um
        The distance of neighbouring balls, or the size of a pixel: one of them gives the scale.
    a1_corner
        The corner of the picture at which A1 lies; None: upper left, noted as assumed.
    polarity
        `solder_bright`, `solder_dark`, or `auto`.

    Raises
    ------
    FrameFault
        There is no lattice of balls.
    UsageFault
        Neither or both of pitch and pixel are given and disagree, or an option has an unknown value.
    """
    if pitch_um is None and pixel_um is None:
        raise UsageFault("the scale", expected="--pitch-um or --pixel-um", found="neither")
    if a1_corner not in (None, *CORNERS):
        raise UsageFault(f"--a1 {a1_corner}", expected=f"one of {', '.join(CORNERS)}")
    if polarity not in ("auto", "solder_bright", "solder_dark"):
        raise UsageFault(f"--polarity {polarity}", expected="auto, solder_bright or solder_dark")
    array = find_array(image, polarity)
    lattice = array.lattice
    notes: list[str] = []
    scale_um, pitch_um = _find_scale(lattice.pitch, pitch_um, pixel_um, notes)
    # Ideal places: both axes at right angles, each field where it lies.
    step_x, step_y = (_find_nominal(p * scale_um) or p * scale_um for p in lattice.pitches)
    inverse = np.linalg.inv(np.column_stack([lattice.step_x, lattice.step_y]))
    shift = (inverse @ (lattice.origin - lattice.origin[0]).T).T  # of each field from the grid of the first, in columns and rows
    x_um = (array.column + shift[array.field, 0]) * step_x
    y_um = (array.row + shift[array.field, 1]) * step_y
    x_um, y_um = (axis - (axis.max() + axis.min()) / 2 for axis in (x_um, y_um))
    corner = a1_corner or CORNERS[0]
    down = array.row.max() - array.row
    names = list_names(array.column, down, corner)
    order = np.lexsort(turn_to_a1(array.column, down, corner)[::-1])
    doubts = _find_doubts(array, names, notes)
    if a1_corner is None:
        notes.append("A1 is assumed at the upper left corner of the picture: give --a1 where the part's mark says otherwise")
    ball_um = _note_picture(array, pitch_um, scale_um, notes)
    place = array.place
    draft = ArrayDraft(
        refdes=refdes,
        ball=tuple(names[k] for k in order),
        x_um=x_um[order],
        y_um=y_um[order],
        pitch_um=pitch_um,
        ball_um=ball_um,
        a1_corner=corner,
        notes=tuple(notes),
        doubts=doubts,
    )
    inside = array.empty[_is_inside(array)]
    empty = lattice.place(inside[:, 0], inside[:, 1], inside[:, 2])
    return ImageArray(
        draft,
        -place[order, 1],
        place[order, 0],
        np.column_stack([-empty[:, 1], empty[:, 0]]),
        array.diameter_px,
        scale_um,
        lattice.angle_deg,
        array.polarity,
    )


def _find_scale(pitch_px: float, pitch_um: float | None, pixel_um: float | None, notes: list[str]) -> tuple[float, float]:
    """Return (um per pixel, pitch in um). A pitch that is measured becomes the nominal one that it is next to, with a note."""
    if pitch_um is not None:
        scale_um = pitch_um / pitch_px
        if pixel_um is not None and abs(scale_um / pixel_um - 1) > 0.05:
            found = f"balls {pitch_px * pixel_um:.1f} um apart at {pixel_um:g} um a pixel"
            raise UsageFault(
                f"--pitch-um {pitch_um:g}", expected="the distance of neighbouring balls in the picture", found=found
            )
        return scale_um, pitch_um
    assert pixel_um is not None
    measured_um = pitch_px * pixel_um
    nominal_um = _find_nominal(measured_um)
    if nominal_um is not None:
        notes.append(f"pitch: {measured_um:.2f} um measured, {nominal_um:g} um taken")
        return nominal_um / pitch_px, nominal_um
    notes.append(f"pitch: {measured_um:.2f} um measured, which is no usual pitch: check the pixel size")
    return pixel_um, measured_um


def _find_nominal(measured_um: float) -> float | None:
    """Return the usual pitch that a measured one is next to; None where there is none."""
    for nominal_um in (NOMINAL_STEP_UM * round(measured_um / NOMINAL_STEP_UM), INCH_PITCH_UM):
        if nominal_um > 0 and abs(measured_um / nominal_um - 1) < NOMINAL_SHARE:
            return nominal_um
    return None


def _is_inside(array: Array) -> NDArray[np.bool_]:
    """Return which empty places lie within the outermost rows and columns that hold balls."""
    inside: NDArray[np.bool_] = np.ones(len(array.empty), dtype=bool)
    for axis, numbers in enumerate((array.column, array.row)):
        inside &= (array.empty[:, axis] >= numbers.min()) & (array.empty[:, axis] <= numbers.max())
    return inside


def _find_doubts(array: Array, names: tuple[str, ...], notes: list[str]) -> dict[str, str]:
    """Return the balls to look at, with the reason, and note what concerns rows, columns or the whole array."""
    doubts: dict[str, str] = {}
    for k, name in enumerate(names):
        if array.evidence[k] < PRESENT:
            doubts[name] = f"faint: {array.evidence[k]:.0%} of the usual contrast"
        elif not array.seen[k]:
            doubts[name] = "no round body of its own"
    for axis, numbers in enumerate((array.column, array.row)):
        what = ("column", "row")[axis]
        count = np.bincount(numbers)
        median = float(np.median(count[count > 0]))
        for line, side in ((0, ("left", "bottom")[axis]), (len(count) - 1, ("right", "top")[axis])):
            if count[line] <= FEW and median >= LEAST_LINE:
                notes.append(
                    f"the outermost {what} ({side}) has {pluralize(int(count[line]), 'ball')}, where {median:.0f} are usual: "
                    "if it is none of the array, names are off by one"
                )
                doubts |= {names[k]: f"outermost {what} of few balls" for k in np.flatnonzero(numbers == line)}
    faint = array.empty[(array.empty_evidence > ABSENT) & _is_inside(array)]
    if len(faint):
        notes.append(f"{len(faint)} empty places show something faint: look at the picture")
    notes += [
        f"a field of balls from grid {what} {number + 1} on lies {steps:+.2f} steps off the grid of the others: "
        f"its {what}s are numbered by the nearest whole step, which nothing confirms"
        for what, breaks in (("column", array.lattice.broken_columns), ("row", array.lattice.broken_rows))
        for number, steps in breaks
    ]
    if array.lattice.broken_columns or array.lattice.broken_rows:
        home = array.field[int(np.argmin(array.column - array.row))]
        doubts |= {names[k]: "field off the grid of the others" for k in np.flatnonzero(array.field != home)}
    return doubts


def _note_lattice(lattice: Lattice, pitch_um: float, notes: list[str]) -> None:
    """Note what is unusual about the lattice: angles, two pitches, every second place."""
    if abs(lattice.shear_deg) > 0.5:
        notes.append(f"rows and columns are {lattice.shear_deg:+.2f} degrees off the right angle: the picture is seen askew")
    x, y = (float(np.hypot(*step)) for step in (lattice.step_x, lattice.step_y))
    if lattice.pitches[0] != lattice.pitches[1]:
        scale = pitch_um / lattice.pitch
        taken = [_find_nominal(v * scale) or v * scale for v in (x, y)]
        notes.append(
            f"pitch {x * scale:.1f} um along rows, {y * scale:.1f} um along columns: {taken[0]:g} and {taken[1]:g} um taken"
        )
    elif abs(x / y - 1) > 0.003:
        notes.append(f"the pitch along rows differs by {x / y - 1:+.2%} from that along columns; one pitch is taken")
    if abs(lattice.angle_deg) > TURNED_DEG:
        notes.append(f"the array is turned by {lattice.angle_deg:+.1f} degrees in the picture")
    if lattice.staggered:
        notes.append("a staggered array: rows and columns are counted on the grid of all places, of which every second is empty")


def _note_picture(array: Array, pitch_um: float, scale_um: float, notes: list[str]) -> float | None:
    """Note what the picture itself makes doubtful; return the balls' diameter in um where it is not the usual one."""
    lattice = array.lattice
    holes = int(_is_inside(array).sum())
    notes.append(f"{len(array.column)} balls, {holes} empty places inside the array: compare with the part's data sheet")
    if array.cut:
        notes.append(
            "places of the array lie where the picture holds no data: balls there are not seen, and names rest on the gap"
        )
    if array.ghosts:
        notes.append(
            f"a fainter array of {array.ghosts} bodies is taken for another interface's ghosts and left out: look at the picture"
        )
    if len(array.strays):
        notes.append(f"{len(array.strays)} round bodies lie on no place of the lattice and are left out")
    if array.residual_px > MOST_RESIDUAL * lattice.pitch:
        share = array.residual_px / lattice.pitch
        notes.append(f"balls lie {share:.1%} of the pitch off the lattice (rms): distorted picture, or no regular array")
    _note_lattice(lattice, pitch_um, notes)
    usual_um = guess_ball(pitch_um)
    pad_um = guess_pad(pitch_um, usual_um)
    # A joint's widest diameter is that of the truncated sphere between its pads: 2 sqrt(a^2 + h^2 / 4).
    width_um = array.diameter_px * scale_um
    ratio = width_um / float(np.hypot(pad_um, compute_standoff(usual_um, pad_um)))
    if abs(ratio - 1) <= DIFFERENT:
        return None
    ball_um = float(min(5 * round(usual_um * ratio / 5), 0.8 * pitch_um))
    notes.append(
        f"balls look {width_um:.0f} um wide, where {usual_um:.0f} um balls are usual at this pitch: "
        f"a diameter of {ball_um:.0f} um before reflow is estimated, if the slice is the middle one"
    )
    return ball_um
