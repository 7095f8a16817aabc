"""Several sets of joints as one to learn from, each as often as it shall count; pictures stay where they lie."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inspect_pop.learn.samples import Samples

__all__ = ["Mixture", "mixture"]


@dataclass(frozen=True)
class _Pictures:
    """Images of several sets, indexed as one array: `part` (n,) says in which set a joint's image lies, `row` (n,) where."""

    parts: tuple[NDArray[np.float16], ...]
    part: NDArray[np.int64]
    row: NDArray[np.int64]

    def __getitem__(self, index: NDArray[np.int64]) -> NDArray[np.float16]:
        out = np.empty((len(index), *self.parts[0].shape[1:]), np.float16)
        for number, images in enumerate(self.parts):
            here = self.part[index] == number
            if here.any():
                out[here] = images[self.row[index][here]]
        return out


@dataclass(frozen=True)
class Mixture:
    """What `fit.TrainingSet` asks for; `varieties` are the names that `variety` indexes."""

    images: _Pictures
    scalars: NDArray[np.float32]
    label: NDArray[np.int8]
    variety: NDArray[np.int16]
    volume_ratio: NDArray[np.float32]
    web_um: NDArray[np.float32]
    gap_um: NDArray[np.float32]
    weight: NDArray[np.float32]
    varieties: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.label)


def mixture(sets: Sequence[Samples], varieties: tuple[str, ...], times: Sequence[int] | None = None) -> Mixture:
    """`sets`, each `times` as often (once where nothing is said), with these fine labels; others become unknown.

    At least one set.
    """
    known = [samples.with_varieties(varieties) for samples in sets]
    order = [k for k, often in enumerate(times or [1] * len(sets)) for _ in range(often)]
    names = ("scalars", "label", "variety", "volume_ratio", "web_um", "gap_um", "weight")
    arrays = {name: np.concatenate([getattr(known[k], name) for k in order]) for name in names}
    part = np.concatenate([np.full(len(known[k]), k) for k in order])
    row = np.concatenate([np.arange(len(known[k])) for k in order])
    return Mixture(_Pictures(tuple(s.images for s in known), part, row), varieties=varieties, **arrays)
