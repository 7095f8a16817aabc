"""What is simulated: products, and the machines that take their pictures."""

import hashlib
import math
from dataclasses import dataclass, replace

import numpy as np

from inspect_pop.core.errors import UsageFault
from inspect_pop.core.recipe import Interface, Package, Recipe

__all__ = [
    "MACHINES",
    "PRODUCTS",
    "Machine",
    "ball_names",
    "draw_machine",
    "draw_recipe",
    "find_machine",
    "find_recipe",
    "vary_machine",
]

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


# The machines that take the pictures: a table of named ones, and random ones around and beyond them.
#
# The parameters of `line_a` and `line_b` were fitted to the sample exports: the number of views and the tilt from where the
# other interface's ghosts lie, filter, blur and saturation from the mean radial profiles of good joints in every slice (1 % rms
# left), noise from its spectrum outside the package and its growth behind solder. The others are plain physics around them.


@dataclass(frozen=True)
class Machine:
    """One inspection machine.

    X-ray: `views` oblique pictures at `tilt_deg` from straight down, recorded so that height `reference_um` coincides, then
    shifted and added; the reconstruction filter takes off `unsharp` of a Gaussian of sd `unsharp_um` and `crisp` of a finer
    one of `crisp_um`; `blur_um` is the sd of detector and spot. `mu_per_um` is the attenuation of solder, `hardening` how far
    the signal saturates (0: a perfect logarithm, 1: none). `noise` is the sd of a view's pixel of 12 um behind nothing,
    correlated over `noise_blur_um`; `mottle` the power of a coarser grain (14 um) over that of the fine one.
    CT: `axial_blur_um`, `rings`.
    Grey: `level` and `span` of the recorded slices, drifting by `drift` (relative sd by board), `shading` (relative sd over
    the field), `gamma` of the response; `dead_row`: one detector row stuck at one value.
    Height maps: noise, lone `dropouts` and `outliers` (shares of pixels), dtype and scale.
    Placement: sd of offset and turn by board, and of the error of `z_um`.
    """

    name: str
    line: str = "A"
    station: str = "AXI-2"
    method: str = "laminography"
    polarity: str = "solder_bright"
    dtype: str = "uint16"
    pixel_um: float = 12.0
    slices: int = 5
    views: int = 24
    tilt_deg: float = 38.5
    reference_um: float = 370.0
    unsharp: float = 0.25
    unsharp_um: float = 200.0
    crisp: float = 0.11
    crisp_um: float = 70.0
    blur_um: float = 9.9
    mu_per_um: float = 0.0058
    hardening: float = 0.82
    noise: float = 0.027
    noise_blur_um: float = 5.2
    mottle: float = 1.0
    axial_blur_um: float = 14.0
    rings: float = 0.0
    level: float = 560.0
    span: float = 2380.0
    drift: float = 0.07
    shading: float = 0.01
    gamma: float = 1.0
    dead_row: bool = False
    height_pixel_um: float = 24.0
    height_noise_um: float = 2.2
    height_dtype: str = "float32"
    height_scale_um: float = 1.0
    height_offset_um: float = 0.0
    dropouts: float = 0.003
    outliers: float = 0.0012
    lateral_jitter_um: float = 35.0
    rotation_jitter_deg: float = 0.2
    z_belief_um: float = 4.0


MACHINES: dict[str, Machine] = {
    m.name: m
    for m in (
        Machine(name="line_a"),
        Machine(
            name="line_b",
            line="B",
            station="XL-7",
            polarity="solder_dark",
            pixel_um=10.0,
            slices=7,
            views=16,
            tilt_deg=34.1,
            unsharp=0.26,
            unsharp_um=230.0,
            crisp=0.04,
            hardening=0.64,
            blur_um=10.9,
            noise=0.0235,
            noise_blur_um=4.2,
            level=9600.0,
            span=28500.0,
            height_pixel_um=30.0,
            height_noise_um=3.7,
            height_dtype="uint16",
            height_scale_um=0.25,
            height_offset_um=-500.0,
        ),
        Machine(name="worn_tube", noise=0.075, noise_blur_um=6.0, blur_um=13.5, drift=0.16, shading=0.05, z_belief_um=5.0),
        Machine(
            name="ct9",
            line="C",
            station="CT-1",
            method="ct",
            slices=9,
            pixel_um=10.0,
            dtype="float32",
            unsharp=0.0,
            crisp=0.0,
            blur_um=11.0,
            hardening=0.35,
            noise=0.035,
            mottle=0.0,
            noise_blur_um=9.0,
            rings=0.006,
            level=0.12,
            span=0.8,
        ),
        Machine(
            name="transmission",
            line="D",
            station="TX-3",
            method="transmission",
            slices=1,
            views=1,
            pixel_um=10.0,
            polarity="solder_dark",
            dtype="uint8",
            unsharp=0.0,
            crisp=0.0,
            blur_um=9.0,
            hardening=0.9,
            noise=0.012,
            noise_blur_um=5.0,
            level=48.0,
            span=70.0,
        ),
    )
}

_GREY = {"uint8": (20.0, 60.0, 70.0, 130.0), "uint16": (300.0, 20000.0, 900.0, 26000.0), "float32": (-0.5, 0.5, 0.4, 3.0)}


def find_machine(name: str) -> Machine:
    """Return the machine of that name. Raises `UsageFault` for an unknown name."""
    try:
        return MACHINES[name]
    except KeyError:
        raise UsageFault(
            f"machine {name}", expected=f"random or one of {', '.join(MACHINES)}", remedy="Name one of these."
        ) from None


def vary_machine(rng: np.random.Generator, machine: Machine) -> Machine:
    """Return the same machine on another day: spot, beam and reconstruction differ by a few per cent."""

    def near(value: float, share: float) -> float:
        return value * float(np.exp(rng.normal(0, share)))

    return replace(
        machine,
        tilt_deg=machine.tilt_deg + float(rng.normal(0, 0.25)),
        unsharp=near(machine.unsharp, 0.12),
        unsharp_um=near(machine.unsharp_um, 0.06),
        crisp=near(machine.crisp, 0.2),
        blur_um=near(machine.blur_um, 0.05),
        mu_per_um=near(machine.mu_per_um, 0.03),
        hardening=near(machine.hardening, 0.08),
        noise=near(machine.noise, 0.08),
    )


def draw_machine(rng: np.random.Generator, method: str | None = None) -> Machine:
    """Draw an invented machine: parameters around and beyond the named ones, of one method or of any.

    Seven in ten are laminographs, the others CT and transmission in equal parts.
    """
    method = method or str(rng.choice(["laminography", "ct", "transmission"], p=[0.7, 0.15, 0.15]))
    dtype = str(rng.choice(["uint8", "uint16", "float32"], p=[0.25, 0.55, 0.2]))
    low, high, least, most = _GREY[dtype]
    slices = {"laminography": int(rng.integers(3, 10)), "ct": int(rng.integers(5, 10)), "transmission": 1}[method]
    straight = method == "transmission"  # one view from straight above, and no reconstruction filter
    return Machine(
        name="random",
        line="R",
        station="R-0",
        method=method,
        polarity=str(rng.choice(["solder_bright", "solder_dark"])),
        dtype=dtype,
        pixel_um=round(_about(rng, 7, 16), 1),
        slices=slices,
        views=1 if straight else round(_about(rng, 8, 32)),
        tilt_deg=_between(rng, 25, 58),
        reference_um=_between(rng, 0, 740),
        unsharp=0.0 if straight else _between(rng, 0.0, 0.65),
        unsharp_um=_between(rng, 90, 280),
        crisp=0.0 if straight else _between(rng, 0.0, 0.25),
        crisp_um=_between(rng, 40, 90),
        blur_um=_between(rng, 6, 19),
        mu_per_um=_between(rng, 0.003, 0.008),
        hardening=_between(rng, 0.1, 1.0),
        noise=_about(rng, 0.008, 0.09) * (0.4 if straight else 1.0),
        noise_blur_um=_between(rng, 2, 9),
        mottle=_between(rng, 0, 4),
        axial_blur_um=_between(rng, 8, 28),
        rings=_between(rng, 0, 0.01),
        level=_between(rng, low, high),
        span=_between(rng, least, most),
        drift=_between(rng, 0.02, 0.15),
        shading=_between(rng, 0.0, 0.06),
        gamma=_between(rng, 0.75, 1.35),
        dead_row=bool(rng.random() < 0.06),
        height_pixel_um=round(_between(rng, 15, 40), 1),
        height_noise_um=_about(rng, 1.0, 8.0),
        dropouts=_about(rng, 0.001, 0.02),
        outliers=_about(rng, 0.0003, 0.004),
        z_belief_um=_between(rng, 2, 6),
    )


def _between(rng: np.random.Generator, low: float, high: float) -> float:
    return float(rng.uniform(low, high))


def _about(rng: np.random.Generator, low: float, high: float) -> float:
    """Draw from a range, evenly spread on a logarithmic scale."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))
