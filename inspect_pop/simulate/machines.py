"""The machines that take the pictures: a table of named ones, and random ones around and beyond them.

The parameters of `line_a` and `line_b` were fitted to the sample exports: the number of views and the tilt from where the
other interface's ghosts lie, filter, blur and saturation from the mean radial profiles of good joints in every slice (1 % rms
left), noise from its spectrum outside the package and its growth behind solder. The others are plain physics around them.
"""

from dataclasses import dataclass, replace

import numpy as np

from inspect_pop.core.errors import UsageFault

__all__ = ["MACHINES", "Machine", "draw_machine", "find_machine", "vary_machine"]


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
