"""The classifier as the line runs it: ONNX Runtime, one thread a process, batches of `BATCH` joints.

A model may bring its network a second time, in 8-bit numbers, which takes two fifths of the time. It looks at all joints
first; what it is not sure of is for the exact network, which alone decides near a threshold.
"""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from inspect_pop.classify.inputs import JointInputs
from inspect_pop.classify.model import Calibration, Model, OperatingPoint
from inspect_pop.core.errors import ModelFault
from inspect_pop.core.joint_table import CLASSES

_errors = onnxruntime.capi.onnxruntime_pybind11_state
# onnxruntime's errors share no base of their own.
_UNLOADABLE = (_errors.InvalidProtobuf, _errors.InvalidGraph, _errors.InvalidArgument, _errors.Fail, _errors.NotImplemented)

__all__ = ["BATCH", "MOST_OFF", "Classifier", "Scores", "calibrated", "four_sided", "log_odds", "probabilities"]

# Larger batches fall out of the second-level cache, smaller ones pay for the call (measured: scripts/bench/board.py).
BATCH = 64
# Joints whose log-odds lie nearer to even than this, or nearer than `_BESIDE` to a threshold beyond, are looked at again,
# turned: a joint knows no preferred direction, and the mean over its views errs less than one of them (0.75 either way).
# Surer ones would not change their verdict: of 38,065 joints of seven kinds of machine one did that was surer than 5.5 (good,
# from review to pass; thresholds of -3.0 and 2.7), none that was surer than 6. More views than four (mirrored, and moved by a
# sample) steady a verdict next to nothing: what a change of the picture does to its noise, all views see alike (docs/exports.md).
_DOUBTFUL, _BESIDE = 6.0, 2.5
# By how many samples each further view is moved, down and right: half-way between samples noise weighs less, and each view sees
# another phase of the network's steps. On pictures moved by half a pixel that takes a fifth off what log-odds move by (1,219
# doubtful joints: 0.107 for 0.131 on average); it costs nothing, and as many joints must go to review as before.
_MOVES = (0.5, 0.5), (-0.5, -0.5), (0.5, -0.5)
# What the quick network places nearer to even than this may be doubtful, and what it places nearer to a threshold than it can
# be off may lie beyond it: of 42,975 joints of boards held out, of which 7,845 lie within 8 of even, its log-odds are off by more
# than 2 on two, at most by 2.2. Its distances from what is known are off by up to 0.03 of the limit.
_UNSURE, MOST_OFF, _STRANGE = 6.0, 3.0, 0.5

Raw = Callable[[JointInputs], tuple[NDArray[np.float32], NDArray[np.float32]]]


@dataclass(frozen=True)
class Scores:
    """What the network says of n joints.

    `probabilities` (n, 5) float32, calibrated, in the order of `CLASSES`; `log_odds` (n,) float32 of 'defective';
    `unfamiliar` (n,) float32: squared Mahalanobis distance of the embedding over the model's limit (above 1: unlike
    anything learnt from).
    """

    probabilities: NDArray[np.float32]
    log_odds: NDArray[np.float32]
    unfamiliar: NDArray[np.float32]


class Classifier:
    """A loaded model that answers; safe to share between threads, one a process is enough."""

    def __init__(self, model: Model, *, threads: int = 1, device: str = "cpu", point: OperatingPoint | None = None) -> None:
        if device == "cuda" and "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
            raise ModelFault(
                "device cuda",
                expected="onnxruntime-gpu with CUDA",
                found="CPU only",
                remedy="Install onnxruntime-gpu, or leave out --device.",
            )
        self._exact = _session(model, model.network, threads, device)
        # A GPU has no use for 8-bit numbers in this form.
        self._quick = _session(model, model.quick, threads, device) if model.quick and device == "cpu" else None
        self.model = model
        self.digest = model.digest
        self.point = point or model.card.operating_point
        self._asked = point
        self._own: dict[str, Classifier] = {}
        self._where = threads, device
        self._mean = np.asarray(model.card.familiarity.mean, dtype=np.float32)
        self._precision = np.asarray(model.card.familiarity.precision, dtype=np.float32)

    def deciding_at(self, point: OperatingPoint) -> "Classifier":
        """The same network with other thresholds."""
        other = copy.copy(self)
        other.point = other._asked = point
        return other

    def of_machine(self, machine: str) -> "Classifier":
        """What decides on boards of this machine: its own network where the model has one, else this one.

        Thresholds that were asked for, by a promise, say nothing of that network: the outer ones of both decide.
        """
        if machine not in self.model.own:
            return self
        threads, device = self._where
        if machine not in self._own:
            self._own[machine] = Classifier(self.model.own[machine], threads=threads, device=device)
        own = self._own[machine]
        return own if self._asked is None else own.deciding_at(_outer(own.point, self._asked))

    def raw(self, inputs: JointInputs) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(n, 5) logits and (n, e) embeddings, before calibration; NaN where an input is no number."""
        return self._answers(self._exact, inputs)

    def logits(self, inputs: JointInputs) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(n, 5) logits and (n, e) embeddings as `classify` uses them: doubtful joints seen from four sides, not calibrated."""
        return four_sided(self.raw, self.model.card.calibration, inputs, first=self._first(inputs), point=self.point)

    def classify(self, inputs: JointInputs) -> Scores:
        """Calibrated scores of all joints."""
        logits, embedding = self.logits(inputs)
        scaled = calibrated(logits, self.model.card.calibration)
        return Scores(probabilities(scaled), log_odds(scaled), self._strangeness(embedding))

    def _first(self, inputs: JointInputs) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """A first look at all joints: quick, and exact where the quick network is not sure."""
        if self._quick is None:
            return self.raw(inputs)
        logits, embedding = self._answers(self._quick, inputs)
        odds = log_odds(calibrated(logits, self.model.card.calibration))
        low, high = min(-_UNSURE, self.point.pass_below - MOST_OFF), max(_UNSURE, self.point.fail_above + MOST_OFF)
        sure = (odds <= low) | (odds >= high)  # not where there is no answer
        sure &= self._strangeness(embedding) < _STRANGE
        again = np.flatnonzero(~sure)
        logits[again], embedding[again] = self.raw(inputs.take(again))
        return logits, embedding

    def _answers(
        self, session: onnxruntime.InferenceSession, inputs: JointInputs
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """What one network says; NaN where an input is no number."""
        if len(inputs.images) == 0:
            return np.zeros((0, len(CLASSES)), np.float32), np.zeros((0, len(self._mean)), np.float32)
        answers = []
        for start in range(0, len(inputs.images), BATCH):
            images, scalars = inputs.images[start : start + BATCH], inputs.scalars[start : start + BATCH]
            known = _finite(images, scalars)  # here, so that the network finds the pictures in the processor's cache
            logits, embedding = session.run(("logits", "embedding"), {"images": images, "scalars": scalars})
            logits[~known] = np.nan  # networks that cut their inputs off, or round them, may make a number of it
            answers.append((logits, embedding))
        return np.concatenate([a[0] for a in answers]), np.concatenate([a[1] for a in answers])

    def _strangeness(self, embedding: NDArray[np.float32]) -> NDArray[np.float32]:
        """Squared Mahalanobis distance from what is known, over the limit."""
        away = embedding - self._mean
        distance = np.einsum("ij,jk,ik->i", away, self._precision, away, optimize=True)
        return np.asarray(distance / np.float32(self.model.card.familiarity.limit), dtype=np.float32)


def _finite(images: NDArray[np.float32], scalars: NDArray[np.float32]) -> NDArray[np.bool_]:
    """(n,): whether all that is known of a joint is a number. (A sum is twice as fast as a look at each.)"""
    whole = np.einsum("ij->i", images.reshape(len(images), math.prod(images.shape[1:])))
    return np.asarray(np.isfinite(whole) & np.isfinite(scalars).all(axis=1))


def _outer(own: OperatingPoint, asked: OperatingPoint) -> OperatingPoint:
    low, high = min(own.pass_below, asked.pass_below), max(own.fail_above, asked.fail_above)
    return OperatingPoint(pass_below=low, fail_above=high, source=f"the outer thresholds of two: {own.source}; {asked.source}")


def _session(model: Model, network: bytes, threads: int, device: str) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.enable_cpu_mem_arena = False  # memory that stays with the process (batch/one_core.py) serves as well: 20 MB less
    providers = ["CUDAExecutionProvider", "CPUExecutionProvider"] if device == "cuda" else ["CPUExecutionProvider"]
    try:
        return onnxruntime.InferenceSession(network, options, providers=providers)
    except _UNLOADABLE as error:
        raise ModelFault(f"model {model.card.name}", expected="a network that ONNX Runtime loads", found=str(error)) from error


def four_sided(
    raw: Raw,
    calibration: Calibration,
    inputs: JointInputs,
    first: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None,
    point: OperatingPoint | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(n, 5) logits and (n, e) embeddings; logits of doubtful joints are the mean over the joint and three turns of it, moved.

    `raw` answers as `Classifier.raw` does; the same way of looking serves the line and, before there is a model, training.
    `first` is the answer to the joints unturned, where it is known already; it is written to. `point` is where it is
    decided, if that is known: doubt reaches beyond thresholds that lie far out.
    """
    logits, embedding = raw(inputs) if first is None else first
    low, high = (0.0, 0.0) if point is None else (point.pass_below, point.fail_above)
    odds = log_odds(calibrated(logits, calibration))
    doubtful = np.flatnonzero((odds > min(-_DOUBTFUL, low - _BESIDE)) & (odds < max(_DOUBTFUL, high + _BESIDE)))
    if len(doubtful):
        seen = inputs.take(doubtful)
        for quarter, moves in enumerate(_MOVES, 1):
            turned = np.ascontiguousarray(np.rot90(_moved(seen.images, moves), quarter, axes=(2, 3)))
            logits[doubtful] += raw(JointInputs(turned, seen.scalars))[0]
        logits[doubtful] /= 1 + len(_MOVES)
    return logits, embedding


def _moved(images: NDArray[np.float32], by: tuple[float, float]) -> NDArray[np.float32]:
    """(n, c, s, s): pictures seen so many samples further down and right; between samples lies a mean of two, edges repeat."""
    size, reach = images.shape[-1], math.ceil(max(map(abs, by)))
    down, right = (reach + math.floor(move) for move in by)
    part = np.float32(by[0] - math.floor(by[0])), np.float32(by[1] - math.floor(by[1]))
    out = np.pad(images, ((0, 0), (0, 0), (reach, reach), (reach, reach)), mode="edge")
    out = _between(out[:, :, down : down + size], out[:, :, down + 1 : down + 1 + size], part[0])
    return _between(out[..., right : right + size], out[..., right + 1 : right + 1 + size], part[1])


def _between(near: NDArray[np.float32], far: NDArray[np.float32], part: np.float32) -> NDArray[np.float32]:
    """`part` of the way from `near` to `far`, without copies in between."""
    out: NDArray[np.float32] = far - near
    out *= part
    out += near
    return out


def calibrated(logits: NDArray[np.float32], calibration: Calibration) -> NDArray[np.float32]:
    """Logits whose softmax are calibrated probabilities."""
    return np.asarray(logits / calibration.temperature + np.asarray(calibration.bias, dtype=np.float32), dtype=np.float32)


def probabilities(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Softmax over the last axis."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True), dtype=np.float32)


def log_odds(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """ln((1 - p_good) / p_good) from logits, without the loss of digits that the probabilities would bring; NaN stays NaN."""
    with np.errstate(invalid="ignore"):
        return np.asarray(np.logaddexp.reduce(logits[..., 1:], axis=-1) - logits[..., 0], dtype=np.float32)
