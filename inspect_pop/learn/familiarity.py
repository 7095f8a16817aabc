"""How far from everything learnt a joint may lie before a person must look: Mahalanobis distance in the embedding."""

import numpy as np
from numpy.typing import NDArray

from inspect_pop.classify.model import Familiarity

__all__ = ["distances", "familiarity"]

# A share of the variance is spread evenly, so that directions in which the training set never varies do not make every
# other machine unfamiliar.
_EVEN = 0.05
# The limit lies this far beyond the distance that all but one in a thousand held-out joints keep: another machine is
# farther away than another board, and review of all its joints would help nobody.
_BEYOND = 3.0
_KEPT = 0.999


def familiarity(
    learnt: NDArray[np.floating], held_out: NDArray[np.floating], label: NDArray[np.integer] | None = None
) -> Familiarity:
    """Mean, precision and limit.

    Parameters
    ----------
    learnt
        (n, e) embeddings of the joints of training.
    held_out
        (m, e) embeddings of joints of other boards, by which the limit is set; none: by those of training.
    label
        (n,) class of the joints of training: each class counts alike, or the rare ones would all be unfamiliar.
    """
    learnt = np.asarray(learnt, np.float64)
    weight = np.ones(len(learnt)) if label is None else 1 / np.bincount(label, minlength=1)[label]
    weight = weight / weight.sum()
    mean = weight @ learnt
    away = learnt - mean
    covariance = (away * weight[:, None]).T @ away
    size = len(mean)
    covariance = (1 - _EVEN) * covariance + _EVEN * (np.trace(covariance) / size + 1e-9) * np.eye(size)
    precision = np.linalg.inv(covariance)
    judged = held_out if len(held_out) else learnt
    limit = _BEYOND * float(np.quantile(distances(judged, mean, precision), _KEPT))
    return Familiarity(mean=_written(mean), precision=tuple(_written(row) for row in precision), limit=max(limit, 1e-6))


def distances(
    embedding: NDArray[np.floating], mean: NDArray[np.floating], precision: NDArray[np.floating]
) -> NDArray[np.float64]:
    """(n,) squared Mahalanobis distances."""
    away = np.asarray(embedding, np.float64) - mean
    return np.asarray(np.einsum("ij,jk,ik->i", away, precision, away, optimize=True), np.float64)


def _written(values: NDArray[np.floating]) -> tuple[float, ...]:
    """(e,) as numbers of seven digits: the line reckons in single precision."""
    return tuple(float(f"{value:.7g}") for value in values)
