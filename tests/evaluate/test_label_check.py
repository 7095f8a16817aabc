import numpy as np
import pytest

from inspect_pop.core.joint_table import CLASSES
from inspect_pop.evaluate.label_check import out_of_fold, suspects
from inspect_pop.evaluate.samples import Samples
from tests.learn.sets import make_samples

pytest.importorskip("sklearn")


def features(samples: Samples, spread: float = 0.3, seed: int = 1) -> np.ndarray:
    """What a good network says: the true class, and noise."""
    return np.eye(5)[samples.label] + np.random.default_rng(seed).normal(0, spread, (len(samples), 5))


def test_swapped_labels_are_found_by_name() -> None:
    samples = make_samples(10, 100)
    seen = features(samples)
    swapped = [104, 333, 651]
    label = samples.label.copy()
    label[swapped] = np.where(label[swapped] == 0, 2, 0)
    found = suspects(samples.replace(label=label), seen)
    names = {(s.serial, s.ball) for s in found}
    assert {("B1", "A5"), ("B3", "A34"), ("B6", "A52")} <= names
    assert len(found) <= 6
    first = found[0]
    assert first.p_label < 0.05 < 0.9 < first.p_suggestion
    assert "labelled" in str(first) and "looks" in str(first)
    assert [s.p_label for s in found] == sorted(s.p_label for s in found)


def test_right_labels_are_left_in_peace() -> None:
    samples = make_samples(10, 100)
    assert len(suspects(samples, features(samples, spread=0.2))) <= 2


def test_a_joint_does_not_vouch_for_itself() -> None:
    """Features that hold the wrong label itself, but only on that board, do not hide it."""
    samples = make_samples(6, 100)
    seen = features(samples)
    label = samples.label.copy()
    label[4] = 0
    board_alone = np.column_stack([seen, (np.arange(len(samples)) == 4) * 5.0])
    assert ("B0", "A5") in {(s.serial, s.ball) for s in suspects(samples.replace(label=label), board_alone)}


def test_a_class_of_one_board_alone_accuses_nobody() -> None:
    samples = make_samples(4, 50)
    label = np.zeros(200, np.int8)
    label[:5] = CLASSES.index("open")
    label[60:70] = CLASSES.index("starved")
    p = out_of_fold(features(samples.replace(label=label)), label, samples.serials)
    assert np.isnan(p[:5, 2]).all()
    assert np.isfinite(p[:5, 0]).all()


def test_one_board_has_nobody_to_compare_with() -> None:
    samples = make_samples(1, 50)
    assert suspects(samples, features(samples)) == []
