"""Tell which end of a volume is up from the ghosts of the other interface, where only one interface is in it.

An oblique view shows what lies `d` above or below a plane shifted by `d tan(tilt)`; from all views together it is a ring of
ghosts. Towards the other interface its radius shrinks. One tilt holds for all volumes of a machine, so that they are judged
together. CT has no such ghosts, and then nothing is said.
"""

import itertools
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import fft

from inspect_pop.core.geometry import Placement, SliceStack
from inspect_pop.core.recipe import Interface, Package

__all__ = ["GhostScores", "decide_turned", "score_ghosts"]

_RING_UM = 20.0
_RINGS = 60
_TILTS = np.linspace(0.45, 1.3, 60)  # tangents: 24 to 52 degrees, what oblique machines use
_BALL_PX = 8.0
# On 25 boards of eight machines, all volumes of a board judged together were right by at least 0.2, each by itself by 0.15, or
# the two disagreed. Of a single volume more is asked.
_TOGETHER, _SINGLE, _ALONE = 0.2, 0.08, 0.35

GhostScores = NDArray[np.float64]


def score_ghosts(stack: SliceStack, package: Package, placement: Placement) -> GhostScores | None:
    """Score both ways up: (2, tilts), row 0 as the stack's heights say, row 1 turned; None for a package of one interface."""
    interface = package.interface(stack.interface)
    others = [i for i in package.interfaces if i.name != stack.interface]
    if not others or len(stack.z_um) < 3:
        return None
    profiles = _measure_profiles(stack, interface, others[0], placement)
    profiles -= profiles.mean(axis=1, keepdims=True)
    profiles /= max(float(profiles.std()), 1e-12)
    middle, other = (float(np.mean(i.pads_z_um)) for i in (interface, others[0]))
    radius = (np.arange(_RINGS) + 0.5) * _RING_UM
    scores = []
    for sign in (1.0, -1.0):
        distance = np.abs(other - (middle + sign * (np.array(stack.z_um) - middle)))
        scores.append(
            [np.mean([np.interp(d * tilt, radius, p) for d, p in zip(distance, profiles, strict=True)]) for tilt in _TILTS]
        )
    return np.array(scores)


def _measure_profiles(stack: SliceStack, interface: Interface, other: Interface, placement: Placement) -> NDArray[np.float64]:
    """Return (planes, rings): the mean solder at each distance from the balls of `other`, where those of `interface` are not."""
    rows, cols = stack.grid.shape
    covered: NDArray[np.uint8] = np.zeros((rows, cols), dtype=np.uint8)
    radius = round(0.5 * interface.nominal_mid_diameter_um / stack.grid.pixel_um + 4)
    for row, col in zip(*stack.grid.to_pixel(*placement.apply(interface.x_um, interface.y_um)), strict=True):
        cv2.circle(covered, (round(float(col)), round(float(row))), radius, 1, -1)
    factor = max(1, round(other.ball_diameter_um / stack.grid.pixel_um / _BALL_PX))
    free = _shrink((covered == 0).astype(np.float32), factor)
    size = fft.next_fast_len(2 * max(free.shape), real=True)
    at = [np.floor(v / factor).astype(np.intp) for v in stack.grid.to_pixel(*placement.apply(other.x_um, other.y_um))]
    inside = (at[0] >= 0) & (at[0] < free.shape[0]) & (at[1] >= 0) & (at[1] < free.shape[1])
    places = np.zeros((size, size), dtype=np.float32)
    np.add.at(places, (at[0][inside], at[1][inside]), np.float32(1))
    spectrum = np.conj(fft.rfft2(places))
    weight = np.maximum(fft.irfft2(fft.rfft2(free, (size, size)) * spectrum, (size, size)), 5)
    step = np.abs(np.fft.fftfreq(size, 1 / size))
    rings = np.minimum(np.hypot(step[:, None], step[None]) * stack.grid.pixel_um * factor / _RING_UM, _RINGS).astype(np.intp)
    weight = weight.astype(np.float32)
    ring = rings.ravel()
    count = np.bincount(ring, minlength=_RINGS + 1)[:_RINGS]
    width = 2 * interface.pitch_um / stack.grid.pixel_um / factor
    profiles = []
    for page in stack.values:
        values = page.astype(np.float32) * np.float32(1 if stack.polarity == "solder_bright" else -1)
        small = _shrink(np.nan_to_num(values, nan=float(np.nanmedian(values))), factor)
        level = cv2.GaussianBlur(small * free, (0, 0), width) / np.maximum(cv2.GaussianBlur(free, (0, 0), width), 1e-3)
        score = fft.irfft2(fft.rfft2((small - level) * free, (size, size)) * spectrum, (size, size)) / weight
        profiles.append(np.bincount(ring, score.ravel(), _RINGS + 1)[:_RINGS] / np.maximum(count, 1))
    return np.array(profiles)


def _shrink(picture: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    rows, cols = (n // factor for n in picture.shape)
    return np.asarray(cv2.resize(picture[: rows * factor, : cols * factor], (cols, rows), interpolation=cv2.INTER_AREA))


def decide_turned(scores: Sequence[GhostScores]) -> list[bool | None]:
    """Return of each volume of a board whether it is upside down, None where its ghosts do not tell."""
    if not scores:
        return []
    ways = {
        way: float(sum(s[k] for k, s in zip(way, scores, strict=True)).max())
        for way in itertools.product((0, 1), repeat=len(scores))
    }
    best = max(ways, key=lambda way: ways[way])
    decided: list[bool | None] = []
    for index, score in enumerate(scores):
        margin = ways[best] - max(value for way, value in ways.items() if way[index] != best[index])
        single = float(score[best[index]].max() - score[1 - best[index]].max())
        clear = single >= _ALONE if len(scores) == 1 else margin >= _TOGETHER and single >= _SINGLE
        decided.append(bool(best[index]) if clear else None)
    return decided if None not in decided or len(scores) == 1 else [None] * len(scores)
