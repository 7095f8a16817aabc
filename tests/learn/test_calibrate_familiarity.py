import numpy as np
import pytest

from inspect_pop.learn.calibrate import distances, familiarity


def test_joints_like_those_learnt_are_familiar_and_others_are_not() -> None:
    rng = np.random.default_rng(0)
    spread = np.array([3.0, 1.0, 0.2])
    learnt, held_out, alien = (rng.normal(at, spread, (4000, 3)) for at in (0, 0, (0, 0, 8)))
    found = familiarity(learnt, held_out)
    mean, precision = np.array(found.mean), np.array(found.precision)
    assert (distances(held_out, mean, precision) > found.limit).mean() == 0
    assert (distances(alien, mean, precision) > found.limit).mean() > 0.99


def test_rare_classes_are_as_familiar_as_common_ones() -> None:
    rng = np.random.default_rng(0)
    label = (np.arange(5000) % 100 == 0).astype(int)
    learnt = rng.normal(0, 1, (5000, 4)) + 12 * label[:, None]
    found = familiarity(learnt, learnt[:0], label)
    far = distances(learnt, np.array(found.mean), np.array(found.precision))
    assert far[label == 1].mean() == pytest.approx(far[label == 0].mean(), rel=0.5)


def test_a_direction_that_never_varies_does_not_divide_by_zero() -> None:
    learnt = np.column_stack([np.random.default_rng(0).normal(0, 1, 100), np.zeros(100)])
    found = familiarity(learnt, learnt)
    assert np.isfinite(found.precision).all()
    assert np.isfinite(familiarity(np.zeros((5, 2)), np.zeros((0, 2))).limit)
