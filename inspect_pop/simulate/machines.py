"""The machines that take the pictures: one table of named ones, and random ones around and beyond them.

The parameters of `line_a` and `line_b` were fitted to the sample exports: the number of views and the tilt from where the
other interface's ghosts lie, filter and blur from the transfer function between drawn and recorded slices, noise from its
spectrum. The others are plain physics around them.
"""

from dataclasses import dataclass, replace

import numpy as np

from inspect_pop.errors import UsageFault

__all__ = ["MACHINES", "Machine", "named_machine", "random_machine"]


@dataclass(frozen=True)
class Machine:
    """One inspection machine.

    X-ray: `views` oblique pictures at `tilt_deg` from straight down, shifted and added; `floor` and `knee_per_mm` describe
    the reconstruction filter (gain `floor` at frequency 0, rising to 1 at the knee); `blur_um` the sd of detector and spot.
    `mu_per_um` is the attenuation of solder, `hardening` the share of signal that a path of one millimetre loses to beam
    hardening, `scatter` the part of the beam that arrives without direction. `noise` is the sd of a view's pixel of 12 um
    behind nothing, as a fraction of the open beam; `noise_blur_um` correlates it. `row_noise` is the sd of a whole detector row.
    Grey: `level` and `span` of the recorded slices before the drift of `drift` (relative sd of gain and level, by board).
    Height maps: `height_pixel_um`, `height_noise_um`, `dropouts` (share of lone lost pixels), `height_dtype`.
    """

    name: str
    line: str
    station: str
    method: str = "laminography"
    polarity: str = "solder_bright"
    dtype: str = "uint16"
    pixel_um: float = 12.0
    slices: int = 5
    views: int = 24
    tilt_deg: float = 38.0
    unsharp: float = 0.43
    unsharp_um: float = 160.0
    reference_um: float | None = 370.0
    blur_um: float = 10.9
    mu_per_um: float = 0.0058
    hardening: float = 0.85
    scatter: float = 0.05
    noise: float = 0.028
    noise_blur_um: float = 5.2
    shading: float = 0.01
    level: float = 560.0
    span: float = 1750.0
    drift: float = 0.06
    axial_blur_um: float = 0.0
    rings: float = 0.0
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
        Machine(name="line_a", line="A", station="AXI-2"),
        Machine(
            name="line_b", line="B", station="XL-7", polarity="solder_dark", pixel_um=10.0, slices=7, views=16, tilt_deg=33.8,
            unsharp=0.47, unsharp_um=195.0, hardening=0.7, blur_um=11.9, noise=0.034, noise_blur_um=4.2, level=14000.0, span=14500.0, height_pixel_um=30.0, height_dtype="uint16", height_noise_um=3.7,
            height_scale_um=0.25, height_offset_um=-500.0,
        ),
    )
}  # fmt: skip


def named_machine(name: str) -> Machine:
    """The machine of that name; UsageFault for an unknown one."""
    try:
        return MACHINES[name]
    except KeyError:
        raise UsageFault(f"machine {name}", expected=f"one of {', '.join(MACHINES)}", remedy="Name one of these.") from None


def random_machine(rng: np.random.Generator) -> Machine:
    """A machine that nobody has seen: parameters around and beyond the named ones."""
    return replace(MACHINES["line_a"], tilt_deg=float(rng.uniform(25, 60)))
