"""The session: calibrated, turned where in doubt, and aware of what it has never seen."""

from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest

from inspect_pop.classify.inputs import CHANNELS, SCALARS, JointInputs
from inspect_pop.classify.model import OperatingPoint, load
from inspect_pop.classify.session import BATCH, Classifier, log_odds, softmax
from inspect_pop.core.classes import CLASSES
from inspect_pop.core.errors import ModelFault
from inspect_pop.segment.windows import SIZE
from tests.learn.models import EMBEDDING, add_machine_model, make_model


def _inputs(*means: tuple[float, ...]) -> JointInputs:
    """Joints whose first channels have these means, others 0: what the tiny network answers by."""
    images = np.zeros((len(means), CHANNELS, SIZE, SIZE), np.float32)
    for image, mean in zip(images, means, strict=True):
        image[: len(mean)] = np.asarray(mean, np.float32)[:, None, None]
    return JointInputs(images, np.zeros((len(means), len(SCALARS)), np.float32))


def test_answers_in_order_over_many_batches(tmp_path: Path) -> None:
    classifier = Classifier(load(make_model(tmp_path / "m")))
    label = np.arange(2 * BATCH + 3) % len(CLASSES)
    scores = classifier.classify(_inputs(*np.eye(len(CLASSES))[label]))
    assert (scores.probabilities.argmax(axis=1) == label).all()
    assert scores.probabilities.sum(axis=1) == pytest.approx(1.0, abs=1e-5)


def test_no_joints_no_scores(tmp_path: Path) -> None:
    scores = Classifier(load(make_model(tmp_path / "m"))).classify(
        JointInputs(np.zeros((0, CHANNELS, SIZE, SIZE), np.float32), np.zeros((0, len(SCALARS)), np.float32))
    )
    assert scores.probabilities.shape == (0, len(CLASSES))
    assert len(scores.log_odds) == 0


def test_a_network_that_gets_no_memory_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime's error is no MemoryError; another of its errors stays what it is."""
    classifier = Classifier(load(make_model(tmp_path / "m")))
    errors = onnxruntime.capi.onnxruntime_pybind11_state
    short = "FAIL : std::bad_alloc"
    for error, words, expected in (
        (errors.RuntimeException, short, MemoryError),
        (errors.Fail, short, MemoryError),
        (errors.Fail, "another", errors.Fail),
    ):

        def fail(*_: object, error: type[Exception] = error, words: str = words) -> None:
            raise error(words)

        monkeypatch.setattr(onnxruntime.InferenceSession, "run", fail)
        with pytest.raises(expected, match=words):
            classifier.classify(_inputs([1.0]))


def test_calibration_is_applied(tmp_path: Path) -> None:
    bias = [3.0 * (k == 2) for k in range(len(CLASSES))]
    folder = make_model(tmp_path / "m", calibration={"temperature": 2.0, "bias": bias})
    p = Classifier(load(folder)).classify(_inputs((1.0, 0, 0, 0, 0))).probabilities[0]
    expected = np.exp([5.0, *bias[1:]])
    assert p == pytest.approx(expected / expected.sum(), abs=1e-5)


def test_a_doubtful_joint_is_seen_from_four_sides(tmp_path: Path) -> None:
    """The tiny network takes means, which a turn does not change: what is averaged must come out as it went in."""
    classifier = Classifier(load(make_model(tmp_path / "m")))
    inputs = _inputs((0.5, 0.4, 0, 0, 0), (1.0, 0, 0, 0, 0))
    plain, _ = classifier.raw(inputs)
    scores = classifier.classify(inputs)
    assert scores.log_odds == pytest.approx(log_odds(plain), abs=1e-4)


def test_each_further_view_is_turned_and_moved_by_half_a_sample(tmp_path: Path) -> None:
    classifier, seen = Classifier(load(make_model(tmp_path / "m"))), []
    once = classifier.raw
    classifier.raw = lambda part: seen.append(part.images[0, 9].copy()) or once(part)  # type: ignore[method-assign]
    inputs = _inputs((0.5, 0.4, 0, 0, 0))
    inputs.images[0, 9, 20, 30] = 1  # the tiny network does not use this channel
    inputs.images[0, 9, :, 0] = 3  # an edge, to be repeated
    classifier.classify(inputs)
    places = []
    for quarter, view in enumerate(seen):
        back = np.rot90(view, -quarter)
        assert back[:, 0].min() == 3 or back[:, 0] == pytest.approx(1.5)
        spot = np.where(back > 1.01, 0, back)[:, 10:]
        assert spot.sum() == pytest.approx(1)
        places.append(tuple(float((np.arange(n) * spot.sum(axis=1 - axis)).sum()) for axis, n in enumerate(spot.shape)))
    assert places == [(20.0, 20.0), (19.5, 19.5), (20.5, 20.5), (19.5, 20.5)]


@pytest.mark.parametrize(
    ("mean", "views"),
    [(1.0, 1), (0.4, 4), (1.4, 4), (1.7, 1)],  # log-odds -8.6, -2.6, -12.6 and -15.6
)
def test_doubt_reaches_beyond_thresholds_that_lie_far_out(tmp_path: Path, mean: float, views: int) -> None:
    """Also between a far threshold and even odds, where there is review; not beyond, and not where no threshold is near."""
    far = {"pass_below": -11.0, "fail_above": 2.0, "source": "a strict promise"}
    point = {"operating_point": far} if mean > 1 else {}
    classifier, asked = Classifier(load(make_model(tmp_path / "m", **point))), []
    once = classifier.raw
    classifier.raw = lambda part: asked.append(len(part.images)) or once(part)  # type: ignore[method-assign]
    classifier.classify(_inputs((mean, 0, 0, 0, 0)))
    assert len(asked) == views


def test_the_8bit_network_answers_for_joints_that_it_is_sure_of(tmp_path: Path) -> None:
    """Quick and exact differ by a tenth: the logits tell which of them answered."""
    classifier = Classifier(load(make_model(tmp_path / "m", quick=9.0)))
    sure, unsure = (1.0, 0, 0, 0, 0), (0.5, 0, 0, 0, 0)
    logits, _ = classifier.logits(_inputs(sure, unsure, sure))
    assert logits[:, 0] == pytest.approx([9.0, 5.0, 9.0], rel=1e-5)
    assert classifier.raw(_inputs(sure))[0][0, 0] == pytest.approx(10.0)


def test_near_a_threshold_far_from_even_the_exact_network_decides(tmp_path: Path) -> None:
    point = {"pass_below": -9.0, "fail_above": 2.0, "source": "a strict promise"}
    classifier = Classifier(load(make_model(tmp_path / "m", quick=9.0, operating_point=point)))
    logits, _ = classifier.logits(_inputs((1.2, 0, 0, 0, 0), (1.8, 0, 0, 0, 0)))
    assert logits[:, 0] == pytest.approx([12.0, 16.2], rel=1e-5)


def test_what_is_unfamiliar_to_the_8bit_network_is_for_the_exact_one(tmp_path: Path) -> None:
    known = {"mean": [0.0] * EMBEDDING, "precision": np.eye(EMBEDDING).tolist(), "limit": 4.0}
    classifier = Classifier(load(make_model(tmp_path / "m", quick=9.0, familiarity=known)))
    logits, _ = classifier.logits(_inputs((1.0, 0, 0, 0, 0), (1.6, 0, 0, 0, 0)))
    assert logits[:, 0] == pytest.approx([9.0, 16.0], rel=1e-5)


@pytest.mark.parametrize("where", ["images", "scalars"])
def test_what_is_no_number_is_never_answered_quickly(tmp_path: Path, where: str) -> None:
    """8-bit numbers have no NaN: the quick network would make something of it."""
    inputs = _inputs((1.0, 0, 0, 0, 0), (1.0, 0, 0, 0, 0))
    getattr(inputs, where)[1].flat[-1] = np.inf
    classifier, asked = Classifier(load(make_model(tmp_path / "m", quick=9.0))), []
    exact = classifier.raw
    classifier.raw = lambda part: asked.append(len(part.images)) or exact(part)  # type: ignore[method-assign]
    classifier.logits(inputs)
    assert asked == [1]


@pytest.mark.parametrize("quick", [None, 9.0])
@pytest.mark.parametrize("where", ["images", "scalars"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_no_answer_is_given_to_what_is_no_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, value: float, quick: float | None
) -> None:
    """A network that cuts its inputs off gives one: here, one that hears zero instead."""
    inputs = _inputs((1.0, 0, 0, 0, 0), (1.0, 0, 0, 0, 0))
    getattr(inputs, where)[1].flat[-1] = value
    classifier = Classifier(load(make_model(tmp_path / "m", quick=quick)))
    cut = partial(np.nan_to_num, nan=0.0, posinf=0.0, neginf=0.0)
    for name in ("_exact", "_session_8bit"):
        if network := getattr(classifier, name):
            deaf = SimpleNamespace(run=lambda asked, feed, run=network.run: run(asked, {k: cut(v) for k, v in feed.items()}))
            monkeypatch.setattr(classifier, name, deaf)
    scores = classifier.classify(inputs)
    assert np.isnan(scores.log_odds).tolist() == [False, True]
    assert np.isnan(scores.probabilities).all(axis=1).tolist() == [False, True]


def test_unfamiliar_joints_are_marked(tmp_path: Path) -> None:
    known = {"mean": [0.0] * EMBEDDING, "precision": np.eye(EMBEDDING).tolist(), "limit": 4.0}
    classifier = Classifier(load(make_model(tmp_path / "m", familiarity=known)))
    scores = classifier.classify(_inputs((1.0, 0, 0, 0, 0), (3.0, 0, 0, 0, 0)))
    assert scores.unfamiliar == pytest.approx([0.25, 2.25], rel=1e-4)


def test_log_odds_keep_digits_that_probabilities_lose() -> None:
    logits = np.zeros((2, 5), np.float32)  # of any number of classes
    logits[0, 0] = 40
    assert log_odds(logits) == pytest.approx([-40 + np.log(4), np.log(4)], rel=1e-5)
    assert softmax(logits)[1] == pytest.approx([0.2] * 5)


def test_a_network_that_is_none_is_refused(tmp_path: Path) -> None:
    model = load(make_model(tmp_path / "m"))
    with pytest.raises(ModelFault, match="ONNX Runtime"):
        Classifier(type(model)(model.folder, model.card, model.digest, b"not a network"))


def test_a_device_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFault, match="device cuda"):
        Classifier(load(make_model(tmp_path / "m")), device="cuda")


def test_a_machine_is_decided_by_its_own_network(tmp_path: Path) -> None:
    own = {"weight": 5.0, "operating_point": {"pass_below": -2.0, "fail_above": 0.5, "source": "taught"}}
    classifier = Classifier(load(add_machine_model(make_model(tmp_path / "m"), "A/AXI-2", **own)))
    there, joints = classifier.for_machine("A/AXI-2"), _inputs((1.0, 0, 0, 0, 0))
    assert there.logits(joints)[0][0, 0] == pytest.approx(5.0, abs=1e-4)
    assert (there.point.pass_below, there.point.source) == (-2.0, "taught")
    assert there.for_machine("A/AXI-2") is there is classifier.for_machine("A/AXI-2")
    assert classifier.for_machine("B/AXI-2") is classifier
    assert classifier.logits(joints)[0][0, 0] == pytest.approx(10.0, abs=1e-4)


def test_thresholds_that_were_asked_for_leave_a_machine_its_own_where_those_lie_further_out(tmp_path: Path) -> None:
    own = {"operating_point": {"pass_below": -2.0, "fail_above": 0.5, "source": "taught"}}
    asked = OperatingPoint(pass_below=-1.5, fail_above=3.0, source="a promise")
    model = load(add_machine_model(make_model(tmp_path / "m"), "A/AXI-2", **own))
    for classifier in (Classifier(model, point=asked), Classifier(model).with_operating_point(asked)):
        point = classifier.for_machine("A/AXI-2").point
        assert (point.pass_below, point.fail_above) == (-2.0, 3.0)
        assert point.source == "the outer thresholds of two: taught; a promise"
        assert classifier.for_machine("B/AXI-2").point == asked
