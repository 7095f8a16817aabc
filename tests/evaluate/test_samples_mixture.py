"""Sets mixed without copying: the same joints, as often as they count."""

import numpy as np
import pytest

pytest.importorskip("torch")
from inspect_pop.evaluate.samples import concat, mixture
from tests.learn.sets import make_samples


def test_a_mixture_holds_each_set_as_often_as_it_counts() -> None:
    a, b = make_samples(boards=2), make_samples(boards=1, seed=1, prefix="C")
    names = tuple(sorted({*a.varieties, *b.varieties}))
    mixed, copied = mixture([a, b], names, [1, 3]), concat([a, b, b, b]).with_varieties(names)
    index = np.random.default_rng(0).permutation(len(mixed))
    assert len(mixed) == len(a) + 3 * len(b)
    np.testing.assert_array_equal(mixed.images[index], copied.images[index])
    for name in ("scalars", "label", "variety", "volume_ratio", "gap_um", "weight"):
        np.testing.assert_array_equal(getattr(mixed, name), getattr(copied, name))


def test_fine_labels_that_a_network_does_not_count_become_unknown() -> None:
    samples = make_samples(boards=1)
    assert set(mixture([samples], samples.varieties[:1]).variety.tolist()) == {-1, 0}
