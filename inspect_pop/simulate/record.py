"""From solder units to the grey values that a machine writes: level, span, drift, shading, response, polarity, dtype."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from inspect_pop.simulate.machines import Machine

__all__ = ["recorded"]


def recorded(
    rng: np.random.Generator, slices: NDArray[np.float32], machine: Machine, drift: tuple[float, float]
) -> NDArray[np.generic]:
    """Slices (n, rows, cols) in solder units, as grey values of the machine's dtype; `drift` scales gain and level."""
    gain, level = drift
    shaded = slices * _shading(rng, slices.shape[1:], machine)
    grey = _response(shaded, machine.gamma) * (machine.span * gain)
    base = machine.level * level
    grey = base + grey if machine.polarity == "solder_bright" else base + machine.span * 1.4 - grey
    if machine.dead_row:
        grey = _with_dead_row(rng, grey)
    if machine.dtype == "float32":
        return grey.astype(np.float32)
    return np.clip(np.rint(grey), 0, np.iinfo(machine.dtype).max).astype(machine.dtype)


def _response(slices: NDArray[np.float32], gamma: float) -> NDArray[np.float32]:
    """A response that is not straight: a power law that leaves 0 and 1 where they are."""
    if gamma == 1.0:
        return slices
    raised = np.maximum(slices + 0.5, 0.0)
    ends = 0.5**gamma, 1.5**gamma
    return (raised**gamma - ends[0]) / (ends[1] - ends[0])  # type: ignore[no-any-return]


def _shading(rng: np.random.Generator, shape: tuple[int, ...], machine: Machine) -> NDArray[np.float32]:
    """A slow multiplicative field over the picture, relative sd `machine.shading`."""
    coarse = rng.normal(0, machine.shading, (3, 3))
    zoom = ndimage.zoom(coarse, (shape[0] / 3, shape[1] / 3), order=3, mode="nearest", grid_mode=True)
    return (1 + zoom[: shape[0], : shape[1]]).astype(np.float32)  # type: ignore[no-any-return]


def _with_dead_row(rng: np.random.Generator, grey: NDArray[np.float32]) -> NDArray[np.float32]:
    """One row of every page stuck at one value (a dead detector row that nobody interpolated)."""
    row = int(rng.integers(grey.shape[1]))
    stuck = grey.copy()
    stuck[:, row, :] = 0.0 if rng.random() < 0.5 else float(grey.max())
    return stuck
