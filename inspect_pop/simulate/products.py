"""Products to simulate: the two of the sample exports, others of other pitches, and random ones."""

import hashlib
import math
from dataclasses import dataclass

import numpy as np

from inspect_pop.core.errors import UsageFault
from inspect_pop.core.recipe import Interface, Package, Recipe

__all__ = ["PRODUCTS", "ball_names", "named_recipe", "random_recipe"]

_LETTERS = "ABCDEFGHJKLMNPRTUVWY"  # JEDEC JEP95: without I, O, Q, S, X, Z
_BALL_AND_PAD = {350.0: (200.0, 180.0), 400.0: (250.0, 225.0), 500.0: (300.0, 270.0), 650.0: (400.0, 335.0)}  # field notes


def ball_names(rows: int, columns: int) -> list[list[str]]:
    """Ball names of a full array, seen from the top: rows A, B, ... AA, AB, ..., columns from 1."""
    n = len(_LETTERS)
    letters = [_LETTERS[r] if r < n else _LETTERS[r // n - 1] + _LETTERS[r % n] for r in range(rows)]
    return [[f"{letter}{c + 1}" for c in range(columns)] for letter in letters]


@dataclass(frozen=True)
class _Array:
    """One interface: a square array of `side` balls; its `frame` outer rows are kept (0: all) and `core` inner ones."""

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
        """Distance between the outermost balls' centres."""
        return (self.side - 1) * self.pitch_um


def _interface(a: _Array) -> Interface:
    names = ball_names(a.side, a.side)
    line = (np.arange(a.side) - (a.side - 1) / 2) * a.pitch_um
    kept = [(r, c) for r in range(a.side) for c in range(a.side) if _has_ball(a, r, c)]
    ball = tuple(names[r][c] for r, c in kept)
    x, y = np.array([line[c] for _, c in kept]), np.array([-line[r] for r, _ in kept])
    return Interface(a.name, ball, x, y, a.pitch_um, a.ball_um, a.pad_um, a.definition, a.z_um, "SAC305")


def _has_ball(a: _Array, row: int, column: int) -> bool:
    last = a.side - 1
    ring = min(row, column, last - row, last - column)
    if not a.corners and row in (0, last) and column in (0, last):
        return False
    return a.frame == 0 or ring < a.frame or (a.core > 0 and ring >= (a.side - a.core) // 2)


def _recipe(name: str, product: str, part: str, body_um: float, limit_um: float, lower: _Array, upper: _Array) -> Recipe:
    height = upper.z_um[1] + 610.0
    package = Package("U1", part, "tmv", (body_um, body_um), height, limit_um, (_interface(lower), _interface(upper)))
    return Recipe(name, 4, product, (package,), hashlib.sha256(f"{name}{lower}{upper}".encode()).hexdigest())


def _tmv(side: int, kept: tuple[int, int], rows: int, around: int) -> tuple[_Array, _Array]:
    """The arrays of both sample products: 400 um below, 500 um above in a frame."""
    lower = _Array("lower", side, *kept, False, 400, 250, 230, "nsmd", (0, 170))
    return lower, _Array("upper", around, rows, 0, True, 500, 300, 280, "smd", (520, 740))


_FINE = (
    _Array("lower", 12, 4, 0, False, 350, 200, 185, "nsmd", (0, 130)),
    _Array("upper", 11, 1, 0, True, 400, 250, 230, "smd", (450, 625)),
)
_WIDE = (
    _Array("lower", 16, 0, 0, False, 500, 300, 270, "nsmd", (0, 195)),
    _Array("upper", 14, 2, 0, True, 650, 400, 340, "smd", (560, 830)),
)
PRODUCTS = {
    "tst4": _recipe("tst4-pop", "TST-4", "POP4-TMV", 4400, 60, *_tmv(8, (0, 0), 1, 8)),
    "apx17": _recipe("apx17-pop", "APX-17", "POP12-TMV", 12000, 80, *_tmv(28, (5, 14), 2, 23)),
    "pop14": _recipe("pop14-pop", "POP-14", "POP14-TMV", 14000, 80, *_tmv(33, (6, 17), 2, 27)),
    "fine5": _recipe("fine5-pop", "FINE-5", "POP5-TMV", 5000, 60, *_FINE),
    "wide9": _recipe("wide9-pop", "WIDE-9", "POP9", 9500, 80, *_WIDE),
}


def named_recipe(name: str) -> Recipe:
    """The product of that name; UsageFault for an unknown one."""
    try:
        return PRODUCTS[name]
    except KeyError:
        raise UsageFault(f"product {name}", expected=f"one of {', '.join(PRODUCTS)}", remedy="Name one of these.") from None


def random_recipe(rng: np.random.Generator) -> Recipe:
    """A product that nobody has built: 60 to 400 joints of pitches from 350 to 650 um, balls and pads around the usual ones."""
    pitch = float(rng.choice([350.0, 400.0, 500.0], p=[0.3, 0.4, 0.3]))
    side = int(rng.integers(8, 15))
    frame = 0 if side < 10 or rng.random() < 0.3 else int(rng.integers(2, 5))
    core = int(rng.choice([0, 4])) if frame else 0
    lower = _drawn(rng, "lower", side, (frame, core, bool(rng.random() < 0.5)), pitch, 0.0)
    above = float(rng.choice([400.0, 500.0, 650.0], p=[0.25, 0.5, 0.25]))
    rows = int(rng.integers(1, 3))
    around = max(6, round(lower.extent_um() * float(rng.uniform(0.95, 1.15)) / above) + 1)
    upper = _drawn(rng, "upper", around, (rows, 0, True), above, lower.z_um[1] + round(float(rng.uniform(250, 420))))
    body = 100.0 * math.ceil((max(lower.extent_um(), upper.extent_um()) + float(rng.uniform(700, 1200))) / 100.0)
    code = f"{int(rng.integers(10**6)):06d}"
    return _recipe(f"rnd-{code}", f"RND-{code}", "RND-TMV", body, 70, lower, upper)


def _drawn(rng: np.random.Generator, name: str, side: int, kept: tuple[int, int, bool], pitch: float, base_um: float) -> _Array:
    """An array whose stand-off follows from its ball and 0 to 35 % of paste, as a truncated sphere on its pads."""
    ball, pad = (round(v * float(rng.uniform(0.96, 1.04)) / 5) * 5.0 for v in _BALL_AND_PAD[pitch])
    volume = math.pi * ball**3 / 6 * float(rng.uniform(1.0, 1.35))
    roots = np.roots([1.0, 0.0, 6 * (pad / 2) ** 2, -6 * volume / math.pi])
    gap = 5.0 * round(float(roots[np.argmin(np.abs(roots.imag))].real) / 5)
    frame, core, corners = kept
    return _Array(name, side, frame, core, corners, pitch, ball, pad, str(rng.choice(["nsmd", "smd"])), (base_um, base_um + gap))
