"""The network: what it is told, and what it is not."""

import pytest

torch = pytest.importorskip("torch")
from inspect_pop.classify.inputs import CHANNELS, SCALARS  # noqa: E402
from inspect_pop.learn.network import LIMIT, JointNet, Shape  # noqa: E402
from inspect_pop.segment.windows import SIZE  # noqa: E402

pytestmark = pytest.mark.training


def answers(scalars: "torch.Tensor") -> "torch.Tensor":
    torch.manual_seed(0)
    network = JointNet(Shape(widths=(8, 16), blocks=(1, 1))).eval()
    with torch.no_grad():
        return network(torch.ones(len(scalars), CHANNELS, SIZE, SIZE), scalars).logits


def test_the_size_of_the_pixels_changes_no_answer_and_every_other_number_may() -> None:
    other = torch.eye(len(SCALARS))
    moved = (answers(other) - answers(torch.zeros_like(other))).abs().amax(dim=1)
    assert {name for name, by in zip(SCALARS, moved.tolist(), strict=True) if by == 0} == {"pixel_per_sample"}


def test_a_dead_pixel_weighs_no_more_than_the_limit() -> None:
    torch.manual_seed(0)
    network = JointNet(Shape(widths=(8, 16), blocks=(1, 1))).eval()
    images = torch.zeros(4, CHANNELS, SIZE, SIZE)
    images[:, 2, 20, 20] = torch.tensor([LIMIT, 30.0, -LIMIT, -30.0])
    with torch.no_grad():
        high, higher, low, lower = network(images, torch.zeros(4, len(SCALARS))).logits
    torch.testing.assert_close(high, higher)
    torch.testing.assert_close(low, lower)
    assert not torch.allclose(high, low)
