"""Products to simulate: recipes like those of the sample exports, and random ones around them."""

import hashlib
from dataclasses import dataclass

import numpy as np

from inspect_pop.errors import UsageFault
from inspect_pop.recipe import Interface, Package, Recipe

__all__ = ["PRODUCTS", "ball_names", "named_recipe", "random_recipe"]

_LETTERS = "ABCDEFGHJKLMNPRTUVWY"  # JEDEC JEP95: without I, O, Q, S, X, Z


def ball_names(rows: int, columns: int) -> list[list[str]]:
    """Ball names of a full array, seen from the top: rows A, B, ... AA, AB, ..., columns from 1."""
    n = len(_LETTERS)
    letters = [_LETTERS[r] if r < n else _LETTERS[r // n - 1] + _LETTERS[r % n] for r in range(rows)]
    return [[f"{letter}{c + 1}" for c in range(columns)] for letter in letters]


@dataclass(frozen=True)
class _Array:
    """One interface: a square array of `side` balls; `frame` outer rows are kept (0: all), `core` inner rows, corners cut."""

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


def _interface(a: _Array) -> Interface:
    names = ball_names(a.side, a.side)
    line = (np.arange(a.side) - (a.side - 1) / 2) * a.pitch_um
    kept, xs, ys = [], [], []
    for r in range(a.side):
        for c in range(a.side):
            ring = min(r, c, a.side - 1 - r, a.side - 1 - c)
            inside = a.frame == 0 or ring < a.frame or (a.core > 0 and ring >= (a.side - a.core) // 2)
            if inside and (a.corners or not (r in (0, a.side - 1) and c in (0, a.side - 1))):
                kept.append(names[r][c])
                xs.append(line[c])
                ys.append(-line[r])
    return Interface(
        a.name, tuple(kept), np.array(xs), np.array(ys), a.pitch_um, a.ball_um, a.pad_um, a.definition, a.z_um, "SAC305"
    )


def _recipe(name: str, product: str, part: str, body_um: float, limit_um: float, lower: _Array, upper: _Array) -> Recipe:
    package = Package("U1", part, "tmv", (body_um, body_um), 1350.0, limit_um, (_interface(lower), _interface(upper)))
    return Recipe(name, 4, product, (package,), hashlib.sha256(f"{name}{lower}{upper}".encode()).hexdigest())


_TST4 = (
    _Array("lower", 8, 0, 0, False, 400, 250, 230, "nsmd", (0, 170)),
    _Array("upper", 8, 1, 0, True, 500, 300, 280, "smd", (520, 740)),
)
_APX17 = (
    _Array("lower", 28, 5, 14, False, 400, 250, 230, "nsmd", (0, 170)),
    _Array("upper", 23, 2, 0, True, 500, 300, 280, "smd", (520, 740)),
)
PRODUCTS = {
    "tst4": _recipe("tst4-pop", "TST-4", "POP4-TMV", 4400, 60, *_TST4),
    "apx17": _recipe("apx17-pop", "APX-17", "POP12-TMV", 12000, 80, *_APX17),
}


def named_recipe(name: str) -> Recipe:
    """The product of that name; UsageFault for an unknown one."""
    try:
        return PRODUCTS[name]
    except KeyError:
        raise UsageFault(f"product {name}", expected=f"one of {', '.join(PRODUCTS)}", remedy="Name one of these.") from None


def random_recipe(rng: np.random.Generator) -> Recipe:
    """A small product of random pitches and arrays."""
    return PRODUCTS["tst4" if rng.random() < 0.5 else "apx17"]
