"""Run the classifier on the line: ONNX Runtime, one thread per process, batches of `BATCH` joints.

A model may bring its network a second time, in 8-bit numbers, which takes two fifths of the time. It answers for all
joints first; what it is not sure of goes to the exact network, which alone decides near a threshold.
"""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from inspect_pop.classify.inputs import JointInputs
from inspect_pop.classify.model import Calibration, LearntPicture, Model, OperatingPoint
from inspect_pop.core.classes import CLASSES
from inspect_pop.core.errors import ModelFault

_errors = onnxruntime.capi.onnxruntime_pybind11_state
# onnxruntime's errors share no base of their own.
_ANY_ERROR = tuple(e for e in vars(_errors).values() if isinstance(e, type) and issubclass(e, Exception))
_UNLOADABLE = (_errors.InvalidProtobuf, _errors.InvalidGraph, _errors.InvalidArgument, _errors.Fail, _errors.NotImplemented)

__all__ = [
    "BATCH",
    "MAX_8BIT_ERROR",
    "Classifier",
    "Scores",
    "calibrate_logits",
    "classify_four_views",
    "describe_unlike",
    "log_odds",
    "softmax",
]

# Larger batches fall out of the second-level cache, smaller ones pay for the call (measured: scripts/bench/board.py).
BATCH = 64
# Joints whose log-odds lie nearer to even than this, or nearer than `_NEAR_THRESHOLD` to a threshold beyond, are classified
# again, turned: a joint knows no preferred direction, and the mean over its views errs less than one of them (0.75 either way).
# Surer ones would not change their verdict: of 38,065 joints of seven kinds of machine one did that was surer than 5.5 (good,
# from review to pass; thresholds of -3.0 and 2.7), none that was surer than 6. More views than four (mirrored, and moved by a
# sample) steady a verdict next to nothing: what a change of the picture does to its noise, all views see alike
# (docs/lab/pictures.md).
_DOUBTFUL, _NEAR_THRESHOLD = 6.0, 2.5
# By how many samples each further view is moved, down and right: half-way between samples noise weighs less, and each view sees
# another phase of the network's steps. On pictures moved by half a pixel that takes a fifth off what log-odds move by (1,219
# doubtful joints: 0.107 for 0.131 on average); it costs nothing, and as many joints must go to review as before.
_MOVES = (0.5, 0.5), (-0.5, -0.5), (0.5, -0.5)
# What the 8-bit network places nearer to even than this may be doubtful, and what it places nearer to a threshold than it can
# be off may lie beyond it: of 42,975 joints of boards held out, of which 7,845 lie within 8 of even, its log-odds are off by more
# than 2 on two, at most by 2.2. Its distances from what is known are off by up to 0.03 of the limit.
_UNSURE, MAX_8BIT_ERROR, _UNFAMILIAR = 6.0, 3.0, 0.5
# Shares of a learnt range, on either side: what lies no farther outside is still known. These figures differ from product to
# product, and ranges are learnt on few; without it 3 of 47 fresh boards of learnt machines were unlike. The others follow the
# machine and what is done to its pictures: contrast and grey levels first, by as little as 4 % of a range (docs/lab/machines.md).
_GREY_SCALE = ("contrast", "levels")  # of them 8 bits and a stretched scale change nothing else, and verdicts stay
_SLACK = {"ball_profile": 0.5, "fringe": 0.5, "core_spread": 0.5, "background_spread": 0.5}

Raw = Callable[[JointInputs], tuple[NDArray[np.float32], NDArray[np.float32]]]


@dataclass(frozen=True)
class Scores:
    """What the network says of n joints.

    `softmax` (n, classes) float32, calibrated, in the order of `CLASSES`; `log_odds` (n,) float32 of 'defective';
    `unfamiliar` (n,) float32: squared Mahalanobis distance of the embedding over the model's limit (above 1: unlike
    anything the model was trained on). All are NaN for a joint of which an input is not finite.
    """

    probabilities: NDArray[np.float32]
    log_odds: NDArray[np.float32]
    unfamiliar: NDArray[np.float32]


class Classifier:
    """A loaded model that answers; safe to share between threads, one per process is enough.

    Attributes:
        model: The model that was loaded.
        digest: Of the model, for records.
        point: The operating point: the model's, or the one that was given.
    """

    def __init__(self, model: Model, *, threads: int = 1, device: str = "cpu", point: OperatingPoint | None = None) -> None:
        if device == "cuda" and "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
            raise ModelFault(
                "device cuda",
                expected="onnxruntime-gpu with CUDA",
                found="CPU only",
                remedy="Install onnxruntime-gpu, or leave out --device.",
            )
        self._exact = _open_session(model, model.network, threads, device)
        # A GPU has no use for 8-bit numbers in this form.
        use_8bit = bool(model.network_8bit) and device == "cpu"
        self._session_8bit = _open_session(model, model.network_8bit, threads, device) if use_8bit else None
        self.model = model
        self.digest = model.digest
        self.point = point or model.card.operating_point
        self._given_point = point
        self._by_machine: dict[str, Classifier] = {}
        self._options = threads, device
        self._mean = np.asarray(model.card.familiarity.mean, dtype=np.float32)
        self._precision = np.asarray(model.card.familiarity.precision, dtype=np.float32)

    def with_operating_point(self, point: OperatingPoint) -> "Classifier":
        """Return the same network with other thresholds."""
        other = copy.copy(self)
        other.point = other._given_point = point
        return other

    def for_machine(self, machine: str) -> "Classifier":
        """Return what decides on boards of this machine: its machine model where it has one, else this classifier.

        Thresholds that were given, by a promise, say nothing of a machine model: the outer ones of both decide.
        """
        if machine not in self.model.machine_models:
            return self
        threads, device = self._options
        if machine not in self._by_machine:
            self._by_machine[machine] = Classifier(self.model.machine_models[machine], threads=threads, device=device)
        classifier, given = self._by_machine[machine], self._given_point
        if given is None:
            return classifier
        outer = OperatingPoint(
            pass_below=min(classifier.point.pass_below, given.pass_below),
            fail_above=max(classifier.point.fail_above, given.fail_above),
            source=f"the outer thresholds of two: {classifier.point.source}; {given.source}",
        )
        return classifier.with_operating_point(outer)

    def raw(self, inputs: JointInputs) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the exact network's (n, classes) logits and (n, e) embeddings; NaN where an input is not finite."""
        return self._run(self._exact, inputs)

    def logits(self, inputs: JointInputs) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return logits and embeddings as `classify` uses them: doubtful joints from four views, not calibrated."""
        if self._session_8bit is None:
            first = self.raw(inputs)
        else:  # a quick pass over all joints, and the exact network where it is not sure
            first = logits, embedding = self._run(self._session_8bit, inputs)
            odds = log_odds(calibrate_logits(logits, self.model.card.calibration))
            low = min(-_UNSURE, self.point.pass_below - MAX_8BIT_ERROR)
            high = max(_UNSURE, self.point.fail_above + MAX_8BIT_ERROR)
            sure = (odds <= low) | (odds >= high)  # not where there is no answer
            sure &= self._distance(embedding) < _UNFAMILIAR
            again = np.flatnonzero(~sure)
            logits[again], embedding[again] = self.raw(inputs.take(again))
        return classify_four_views(self.raw, self.model.card.calibration, inputs, first=first, point=self.point)

    def classify(self, inputs: JointInputs) -> Scores:
        """Return calibrated scores of all joints."""
        logits, embedding = self.logits(inputs)
        scaled = calibrate_logits(logits, self.model.card.calibration)
        return Scores(softmax(scaled), log_odds(scaled), self._distance(embedding))

    def _run(self, session: onnxruntime.InferenceSession, inputs: JointInputs) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Run one network; NaN where an input is not finite. Raises MemoryError where the network gets too little."""
        if len(inputs.images) == 0:
            return np.zeros((0, len(CLASSES)), np.float32), np.zeros((0, len(self._mean)), np.float32)
        answers = []
        for start in range(0, len(inputs.images), BATCH):
            images, scalars = inputs.images[start : start + BATCH], inputs.scalars[start : start + BATCH]
            # Checked at this point so that the network finds the pictures in the cache. A sum is twice as fast as a look at each.
            total = np.einsum("ij->i", images.reshape(len(images), math.prod(images.shape[1:])))
            finite = np.isfinite(total) & np.isfinite(scalars).all(axis=1)
            try:
                logits, embedding = session.run(("logits", "embedding"), {"images": images, "scalars": scalars})
            except _ANY_ERROR as error:
                if "bad_alloc" in str(error):
                    raise MemoryError(str(error)) from error
                raise
            logits[~finite] = np.nan  # networks that clip their inputs, or round them, may make a number of it
            answers.append((logits, embedding))
        return np.concatenate([a[0] for a in answers]), np.concatenate([a[1] for a in answers])

    def _distance(self, embedding: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the squared Mahalanobis distance from what is known, over the limit."""
        away = embedding - self._mean
        distance = np.einsum("ij,jk,ik->i", away, self._precision, away, optimize=True)
        return np.asarray(distance / np.float32(self.model.card.familiarity.limit), dtype=np.float32)


def describe_unlike(figures: Mapping[str, float], method: str, learnt: Sequence[LearntPicture]) -> tuple[str, bool]:
    """Say in what a picture is unlike all that were learnt, and whether that is more than its grey scale.

    The words are such as `sharpness 2.3 of learnt 0.8 to 1.6`; empty where it is known. A picture is known where all its figures
    lie within those of one machine; those that differ from product to product may lie half a range outside. Otherwise the words
    compare it with the machine that differs in the fewest. `figures` come from `measure_picture`; an unknown one, NaN, says
    nothing.
    """
    if not learnt:
        return "", False
    closest: tuple[int, int, str] | None = None
    for picture in learnt:
        if picture.method != method:
            continue
        outside = []
        for name, low in picture.low.items():
            slack = _SLACK.get(name, 0.0) * (picture.high[name] - low)
            if figures[name] < low - slack or figures[name] > picture.high[name] + slack:
                outside.append(name)
        words = ", ".join(f"{n} {figures[n]:.3g} of learnt {picture.low[n]:.3g} to {picture.high[n]:.3g}" for n in outside)
        compared = (sum(n not in _GREY_SCALE for n in outside), len(outside), words)
        if closest is None or compared[:2] < closest[:2]:
            closest = compared
    return (closest[2], closest[0] > 0) if closest is not None else (f"no picture by {method} was learnt", True)


def _open_session(model: Model, network: bytes, threads: int, device: str) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.enable_cpu_mem_arena = False  # the process keeps freed memory (batch/jobs.py): 20 MB less
    providers = ["CUDAExecutionProvider", "CPUExecutionProvider"] if device == "cuda" else ["CPUExecutionProvider"]
    try:
        return onnxruntime.InferenceSession(network, options, providers=providers)
    except _UNLOADABLE as error:
        raise ModelFault(f"model {model.card.name}", expected="a network that ONNX Runtime loads", found=str(error)) from error


def classify_four_views(
    raw: Raw,
    calibration: Calibration,
    inputs: JointInputs,
    first: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None,
    point: OperatingPoint | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return (n, classes) logits and (n, e) embeddings; logits of doubtful joints are the mean of four views of them.

    The views are the joint and three turns of it, moved by half a sample. The line and, before there is a model, training
    classify in this same way.

    Parameters
    ----------
    raw
        Answers as `Classifier.raw` does.
    calibration
        Tells which joints are doubtful.
    inputs
        The joints.
    first
        The answer for the joints unturned, where it is known already; it is written to.
    point
        The operating point, if it is known: doubt reaches beyond thresholds that lie far out.
    """
    logits, embedding = raw(inputs) if first is None else first
    low, high = (0.0, 0.0) if point is None else (point.pass_below, point.fail_above)
    odds = log_odds(calibrate_logits(logits, calibration))
    doubtful = np.flatnonzero((odds > min(-_DOUBTFUL, low - _NEAR_THRESHOLD)) & (odds < max(_DOUBTFUL, high + _NEAR_THRESHOLD)))
    if len(doubtful):
        seen = inputs.take(doubtful)
        for quarter, moves in enumerate(_MOVES, 1):
            turned = np.ascontiguousarray(np.rot90(_shift_images(seen.images, moves), quarter, axes=(2, 3)))
            logits[doubtful] += raw(JointInputs(turned, seen.scalars))[0]
        logits[doubtful] /= 1 + len(_MOVES)
    return logits, embedding


def _shift_images(images: NDArray[np.float32], by: tuple[float, float]) -> NDArray[np.float32]:
    """Shift pictures (n, c, s, s) so many samples down and right; between samples lies a mean of two, edges repeat."""
    size, reach = images.shape[-1], math.ceil(max(map(abs, by)))
    down, right = (reach + math.floor(move) for move in by)
    part = np.float32(by[0] - math.floor(by[0])), np.float32(by[1] - math.floor(by[1]))
    out = np.pad(images, ((0, 0), (0, 0), (reach, reach), (reach, reach)), mode="edge")
    out = _interpolate(out[:, :, down : down + size], out[:, :, down + 1 : down + 1 + size], part[0])
    return _interpolate(out[..., right : right + size], out[..., right + 1 : right + 1 + size], part[1])


def _interpolate(near: NDArray[np.float32], far: NDArray[np.float32], part: np.float32) -> NDArray[np.float32]:
    """Go `part` of the way from `near` to `far`, without copies in between."""
    out: NDArray[np.float32] = far - near
    out *= part
    out += near
    return out


def calibrate_logits(logits: NDArray[np.float32], calibration: Calibration) -> NDArray[np.float32]:
    """Return logits whose softmax is calibrated probabilities."""
    return np.asarray(logits / calibration.temperature + np.asarray(calibration.bias, dtype=np.float32), dtype=np.float32)


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the softmax over the last axis, in float32."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True), dtype=np.float32)


def log_odds(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return ln((1 - p_good) / p_good) from logits, without the digits that probabilities would lose; NaN stays NaN."""
    with np.errstate(invalid="ignore"):
        return np.asarray(np.logaddexp.reduce(logits[..., 1:], axis=-1) - logits[..., 0], dtype=np.float32)
