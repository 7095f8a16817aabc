"""The products to simulate: the two of the sample exports, products of other pitches, and random ones."""

import hashlib
import math
from dataclasses import dataclass

import numpy as np

from inspect_pop.core.errors import UsageFault
from inspect_pop.core.recipe import Interface, Package, Recipe

__all__ = ["PRODUCTS", "ball_names", "draw_recipe", "find_recipe"]

_LETTERS = "ABCDEFGHJKLMNPRTUVWY"  # JEDEC JEP95: without I, O, Q, S, X, Z
_BALL_AND_PAD = {
    350.0: (200.0, 180.0),
    400.0: (250.0, 225.0),
    500.0: (300.0, 270.0),
    650.0: (400.0, 335.0),
}  # usual for each pitch, um


def ball_names(rows: int, columns: int) -> list[list[str]]:
    """Return the ball names of a full array, seen from the top: rows A, B, ... AA, AB, ..., columns from 1."""
    n = len(_LETTERS)
    letters = [_LETTERS[r] if r < n else _LETTERS[r // n - 1] + _LETTERS[r % n] for r in range(rows)]
    return [[f"{letter}{c + 1}" for c in range(columns)] for letter in letters]


@dataclass(frozen=True)
class _Array:
    """One interface: a square array of `side` balls, of which the `frame` outer rows (0: all) and the `core` inner ones exist."""

    name: str
    side: int
    frame: int
    core: int
    corners: bool
    pitch_um: float
    ball_um: float
    pad_um: float
    definition: str
    z_um: tuple[float, float]

    def extent_um(self) -> float:
        """Return the distance between the outermost balls' centres."""
        return (self.side - 1) * self.pitch_um


def _build_interface(a: _Array) -> Interface:
    names = ball_names(a.side, a.side)
    line = (np.arange(a.side) - (a.side - 1) / 2) * a.pitch_um
    last = a.side - 1
    cells = []
    for row in range(a.side):
        for column in range(a.side):
            ring = min(row, column, last - row, last - column)
            is_corner = row in (0, last) and column in (0, last)
            in_frame = a.frame == 0 or ring < a.frame
            in_core = a.core > 0 and ring >= (a.side - a.core) // 2
            if (in_frame or in_core) and (a.corners or not is_corner):
                cells.append((row, column))
    ball = tuple(names[r][c] for r, c in cells)
    x, y = np.array([line[c] for _, c in cells]), np.array([-line[r] for r, _ in cells])
    return Interface(a.name, ball, x, y, a.pitch_um, a.ball_um, a.pad_um, a.definition, a.z_um, "SAC305")


def _build_recipe(
    name: str,
    product: str,
    part: str,
    body_um: float,
    limit_um: float,
    lower: _Array,
    upper: _Array,
    construction: str = "tmv",
) -> Recipe:
    height = upper.z_um[1] + 610.0
    interfaces = (_build_interface(lower), _build_interface(upper))
    package = Package("U1", part, construction, (body_um, body_um), height, limit_um, interfaces)
    return Recipe(name, 4, product, (package,), hashlib.sha256(f"{name}{lower}{upper}".encode()).hexdigest())


def _tmv_arrays(side: int, frame_and_core: tuple[int, int], rows: int, upper_side: int) -> tuple[_Array, _Array]:
    """Return the arrays of a product like the samples: a pitch of 400 um below, of 500 um in a frame above."""
    lower = _Array("lower", side, *frame_and_core, False, 400, 250, 230, "nsmd", (0, 170))
    return lower, _Array("upper", upper_side, rows, 0, True, 500, 300, 280, "smd", (520, 740))


_FINE = (
    _Array("lower", 12, 4, 0, False, 350, 200, 185, "nsmd", (0, 130)),
    _Array("upper", 11, 1, 0, True, 400, 250, 230, "smd", (450, 625)),
)
_WIDE = (
    _Array("lower", 16, 0, 0, False, 500, 300, 270, "nsmd", (0, 195)),
    _Array("upper", 14, 2, 0, True, 650, 400, 340, "smd", (560, 830)),
)
_STANDARD = (
    _Array("lower", 20, 5, 8, False, 500, 300, 270, "nsmd", (0, 200)),
    _Array("upper", 17, 2, 0, True, 650, 400, 300, "smd", (530, 830)),
)
_FLIP_CHIP = (
    _Array("lower", 22, 5, 10, False, 400, 250, 230, "nsmd", (0, 170)),
    _Array("upper", 18, 2, 0, True, 500, 300, 240, "smd", (470, 700)),
)
PRODUCTS = {
    "tst4": _build_recipe("tst4-pop", "TST-4", "POP4-TMV", 4400, 60, *_tmv_arrays(8, (0, 0), 1, 8)),
    "apx17": _build_recipe("apx17-pop", "APX-17", "POP12-TMV", 12000, 80, *_tmv_arrays(28, (5, 14), 2, 23)),
    "pop14": _build_recipe("pop14-pop", "POP-14", "POP14-TMV", 14000, 80, *_tmv_arrays(33, (6, 17), 2, 27)),
    "fine5": _build_recipe("fine5-pop", "FINE-5", "POP5-TMV", 5000, 60, *_FINE),
    "std11": _build_recipe("std11-pop", "STD-11", "POP11-STD", 11400, 90, *_STANDARD, "standard"),
    "psfc10": _build_recipe("psfc10-pop", "PSFC-10", "POP10-PSFC", 9600, 80, *_FLIP_CHIP, "psfccsp"),
    "exd10": _build_recipe("exd10-pop", "EXD-10", "POP10-EXD", 9600, 80, *_tmv_arrays(22, (5, 10), 2, 18), "exposed_die_tmv"),
    "wide9": _build_recipe("wide9-pop", "WIDE-9", "POP9", 9500, 80, *_WIDE),
}


def find_recipe(name: str) -> Recipe:
    """Return the recipe of a named product. Raises `UsageFault` for an unknown name."""
    try:
        return PRODUCTS[name]
    except KeyError:
        raise UsageFault(
            f"product {name}", expected=f"random or one of {', '.join(PRODUCTS)}", remedy="Name one of these."
        ) from None


def draw_recipe(rng: np.random.Generator) -> Recipe:
    """Draw an invented product: 60 to 400 joints at pitches from 350 to 650 um, balls and pads around the usual ones."""
    pitch = float(rng.choice([350.0, 400.0, 500.0], p=[0.3, 0.4, 0.3]))
    side = int(rng.integers(8, 15))
    frame = 0 if side < 10 or rng.random() < 0.3 else int(rng.integers(2, 5))
    core = int(rng.choice([0, 4])) if frame else 0
    lower = _draw_array(rng, "lower", side, (frame, core, bool(rng.random() < 0.5)), pitch, 0.0)
    upper_pitch = float(rng.choice([400.0, 500.0, 650.0], p=[0.25, 0.5, 0.25]))
    rows = int(rng.integers(1, 3))
    upper_side = max(6, round(lower.extent_um() * float(rng.uniform(0.95, 1.15)) / upper_pitch) + 1)
    upper = _draw_array(
        rng, "upper", upper_side, (rows, 0, True), upper_pitch, lower.z_um[1] + round(float(rng.uniform(250, 420)))
    )
    body = 100.0 * math.ceil((max(lower.extent_um(), upper.extent_um()) + float(rng.uniform(700, 1200))) / 100.0)
    code = f"{int(rng.integers(10**6)):06d}"
    return _build_recipe(f"rnd-{code}", f"RND-{code}", "RND-TMV", body, 70, lower, upper)


def _draw_array(
    rng: np.random.Generator, name: str, side: int, layout: tuple[int, int, bool], pitch: float, base_um: float
) -> _Array:
    """Draw an array whose stand-off follows from its ball and 0 to 35 % of paste, as a truncated sphere on its pads."""
    frame, core, corners = layout
    ball, pad = (round(v * float(rng.uniform(0.96, 1.04)) / 5) * 5.0 for v in _BALL_AND_PAD[pitch])
    volume = math.pi * ball**3 / 6 * float(rng.uniform(1.0, 1.35))
    roots = np.roots([1.0, 0.0, 6 * (pad / 2) ** 2, -6 * volume / math.pi])
    gap = 5.0 * round(float(roots[np.argmin(np.abs(roots.imag))].real) / 5)
    return _Array(name, side, frame, core, corners, pitch, ball, pad, str(rng.choice(["nsmd", "smd"])), (base_um, base_um + gap))
