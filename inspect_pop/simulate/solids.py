"""From joints to the thin discs and capsules that the X-ray simulator draws."""

import numpy as np
from numpy.typing import NDArray

from inspect_pop.simulate.population import Population, Voids
from inspect_pop.simulate.scene import LAYER_UM, Capsules, Discs, Solids
from inspect_pop.simulate.spurs import Spurs

__all__ = ["solder_of"]

Floats = NDArray[np.float64]
_SUB = 4  # heights sampled in each layer
_STEPS = 8  # straight pieces of a web


def solder_of(populations: tuple[Population, ...]) -> Solids:
    """All solder of the interfaces of a package, in its frame."""
    bodies = [_bodies(p) for p in populations]
    webs = [_webs(p) for p in populations]
    voids = [_voids(p) for p in populations]
    return Solids(_cat_discs(bodies), _cat_capsules(webs), _cat_discs(voids))


def _axis(p: Population, joint: NDArray[np.int64], u: Floats) -> tuple[Floats, Floats]:
    """(x, y) of the joints' axes at heights u: sheared linearly from pad to pad, half before and half after the centre."""
    share = u / p.bodies.standoff[joint] - 0.5
    x = p.interface.x_um[joint] + p.dx_um[joint] + p.shear_um[joint, 0] * share
    y = p.interface.y_um[joint] + p.dy_um[joint] + p.shear_um[joint, 1] * share
    return x, y


def _bodies(p: Population) -> Discs:
    first = np.floor(p.z_low_um / LAYER_UM).astype(int)
    last = np.ceil((p.z_low_um + p.bodies.standoff) / LAYER_UM).astype(int)
    layers = np.arange(first.min(initial=0), last.max(initial=1))
    z = (layers[:, None] + (np.arange(_SUB) + 0.5) / _SUB).ravel() * LAYER_UM
    u = z[None, :] - p.z_low_um[:, None]
    area = p.bodies.radius(u) ** 2
    mean = np.sqrt(area.reshape(len(u), -1, _SUB).mean(axis=2))
    joint, index = np.nonzero(mean > 0)
    middle = (layers[index] + 0.5) * LAYER_UM - p.z_low_um[joint]
    x, y = _axis(p, joint, middle)
    return Discs(layers[index], x, y, mean[joint, index], np.ones(len(joint)))


def _voids(p: Population) -> Discs:
    v: Voids = p.voids
    centre = p.z_low_um[v.joint] + v.u_um
    reach = int(np.ceil(v.radius_um.max(initial=0) / LAYER_UM)) + 1
    layers = np.floor(centre / LAYER_UM).astype(int)[:, None] + np.arange(-reach, reach + 1)[None, :]
    z = (layers[:, :, None] + (np.arange(_SUB) + 0.5) / _SUB) * LAYER_UM
    area = np.maximum(v.radius_um[:, None, None] ** 2 - (z - centre[:, None, None]) ** 2, 0).mean(axis=2)
    which, index = np.nonzero(area > 0)
    x, y = _axis(p, v.joint[which], v.u_um[which])
    return Discs(layers[which, index], x + v.dx_um[which], y + v.dy_um[which], np.sqrt(area[which, index]), np.ones(len(which)))


def _webs(p: Population) -> Capsules:
    s: Spurs = p.spurs
    rows: list[tuple[int, float, float, float, float, float]] = []
    for k in np.flatnonzero(s.semi_um > 0):
        joint = s.joint[k : k + 1]
        x, y = (float(v[0]) for v in _axis(p, joint, s.u_um[k : k + 1]))
        centre = float(p.z_low_um[joint[0]] + s.u_um[k])
        t = np.linspace(0, 1, _STEPS + 1)
        flare = 1 + (s.flare[k, 0] - 1) * (1 - t) ** 3 * 1.6 + (s.flare[k, 1] - 1) * t**3 * 1.6
        for layer in range(int(np.floor((centre - s.semi_um[k]) / LAYER_UM)), int(np.ceil((centre + s.semi_um[k]) / LAYER_UM))):
            rows += _web_layer(s, int(k), layer, (x, y), centre, t, flare)
    table = np.array(rows, float).reshape(-1, 6)
    return Capsules(table[:, 0].astype(np.int64), table[:, 1:5], table[:, 5], np.ones(len(table)))


def _web_layer(
    s: Spurs, k: int, layer: int, start: tuple[float, float], centre: float, t: Floats, flare: Floats
) -> list[tuple[int, float, float, float, float, float]]:
    z = (layer + (np.arange(_SUB) + 0.5) / _SUB) * LAYER_UM
    chord = float(np.sqrt(np.maximum(1 - ((z - centre) / s.semi_um[k]) ** 2, 0)).mean())
    if chord <= 0:
        return []
    x = start[0] + s.ends_um[k, 0] + t * (s.ends_um[k, 2] - s.ends_um[k, 0])
    y = start[1] + s.ends_um[k, 1] + t * (s.ends_um[k, 3] - s.ends_um[k, 1])
    half = s.width_um[k] / 2 * flare * chord
    return [(layer, x[i], y[i], x[i + 1], y[i + 1], (half[i] + half[i + 1]) / 2) for i in range(len(t) - 1)]


def _cat_discs(parts: list[Discs]) -> Discs:
    return Discs(*(np.concatenate([getattr(p, f) for p in parts]) for f in ("layer", "x_um", "y_um", "radius_um", "weight")))


def _cat_capsules(parts: list[Capsules]) -> Capsules:
    return Capsules(*(np.concatenate([getattr(p, f) for p in parts]) for f in ("layer", "ends_um", "half_width_um", "weight")))
