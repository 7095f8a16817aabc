"""Usual values of what neither CAD nor a picture knows, by pitch: ball, pad, stand-off, and what belongs to the package.

Each is marked as assumed in the recipe that uses it (`assumed`): a data sheet knows better.
"""

import math

import numpy as np

__all__ = [
    "GAP_BETWEEN_UM",
    "MEMORY_HEIGHT_UM",
    "STACK_HEIGHT_UM",
    "WARPAGE_LIMIT_UM",
    "compute_standoff",
    "guess_ball",
    "guess_pad",
]

# Ball and pad in um by pitch. 350 to 650: the usual ones of PoP lower and upper interfaces. 800 and 1000: the most frequent in
# the names of the BGA footprints of KiCad's library (Package_BGA: `P0.8mm_Ball0.5mm_Pad0.4mm`, `P1.0mm_Ball0.5mm_Pad0.4mm`).
_PITCH_UM = (350.0, 400.0, 500.0, 650.0, 800.0, 1000.0)
_BALL_UM = (200.0, 250.0, 300.0, 400.0, 500.0, 500.0)
_PAD_UM = (180.0, 220.0, 260.0, 330.0, 400.0, 400.0)
STACK_HEIGHT_UM = 1400.0  # of a stack of two packages, or of one BGA; only pads above it would be refused
WARPAGE_LIMIT_UM = 80.0  # the rule of thumb for packages during reflow (Ishibashi, Nokia, ECTC 2007, has 66 to 72 for PoP)
MEMORY_HEIGHT_UM = 600.0  # from the uppermost pads to the stack's top: the memory package
GAP_BETWEEN_UM = 350.0  # from the lower interface's upper pads to the upper interface's lower pads: one package's thickness


def guess_ball(pitch_um: float) -> float:
    """Return the usual diameter in um of a ball before reflow at this pitch."""
    return _interpolate(pitch_um, _BALL_UM)


def guess_pad(pitch_um: float, ball_um: float) -> float:
    """Return the usual diameter in um of the wetted pad of a ball at this pitch."""
    return _interpolate(pitch_um, _PAD_UM) * ball_um / guess_ball(pitch_um)


def compute_standoff(ball_um: float, pad_um: float) -> float:
    """Return the distance of two equal pads, in um, between which a ball's volume stands as a truncated sphere.

    pi h (6 a^2 + h^2) / 6 = pi d^3 / 6 (export format, version 1), solved for h by Cardano's formula.
    """
    third, half = 2 * (pad_um / 2) ** 2, ball_um**3 / 2
    root = math.sqrt(half * half + third**3)
    return math.cbrt(half + root) + math.cbrt(half - root)


def _interpolate(pitch_um: float, values: tuple[float, ...]) -> float:
    if pitch_um < _PITCH_UM[0] or pitch_um > _PITCH_UM[-1]:  # beyond the table: in proportion to the pitch
        end = 0 if pitch_um < _PITCH_UM[0] else -1
        return values[end] * pitch_um / _PITCH_UM[end]
    return float(np.interp(pitch_um, _PITCH_UM, values))
