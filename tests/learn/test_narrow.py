"""A narrower network: what it keeps of the wider one."""

import pytest

torch = pytest.importorskip("torch")
from inspect_pop.classify.inputs import CHANNELS, SCALARS  # noqa: E402
from inspect_pop.learn.narrow import narrowed  # noqa: E402
from inspect_pop.learn.network import JointNet, Shape  # noqa: E402
from inspect_pop.segment.windows import SIZE  # noqa: E402

pytestmark = pytest.mark.training
KEPT = [0, 2, 3, 5, 6]  # of eight channels


def network(shape: Shape) -> JointNet:
    """Random weights, and norms that have seen something."""
    torch.manual_seed(3)
    net = JointNet(shape)
    with torch.no_grad():
        for _ in range(3):
            net.train()(torch.randn(8, CHANNELS, SIZE, SIZE), torch.randn(8, len(SCALARS)))
    return net.eval()


def answers(net: JointNet) -> "torch.Tensor":
    torch.manual_seed(4)
    with torch.no_grad():
        return net(torch.randn(4, CHANNELS, SIZE, SIZE), torch.randn(4, len(SCALARS))).logits


def test_channels_that_nothing_listens_to_are_left_out_and_the_answers_stay() -> None:
    wide = network(Shape((8, 12), (1, 1), 2))
    idle = [c for c in range(8) if c not in KEPT]
    block, after = wide.features[3], wide.features[4]
    with torch.no_grad():
        wide.features[0].weight[:, :, [0, 4]] = 0  # only the middle 3 x 3 of the first layer counts
        wide.features[0].weight[:, :, :, [0, 4]] = 0
        for weights in (block.path[0].weight, block.path[3].weight, after.path[0].weight, after.skip[1].weight):
            weights[:, idle] = 0
    small = narrowed(wide, len(KEPT), 3)
    assert small.shape == Shape((5, 12), (1, 1), 2, "residual", 3)
    torch.testing.assert_close(answers(small), answers(wide))


def test_nothing_left_out_is_the_same_network() -> None:
    wide = network(Shape((8, 12), (1, 1), 2))
    torch.testing.assert_close(answers(narrowed(wide, 8, 5)), answers(wide))


@pytest.mark.parametrize(
    ("shape", "width", "first"),
    [
        (Shape((8, 12), (1, 1)), 9, 3),
        (Shape((8, 12), (1, 1)), 0, 3),
        (Shape((8, 12), (1, 1)), 4, 7),
        (Shape((8, 12), (1, 1)), 4, 4),
        (Shape((8, 12), (2, 1)), 4, 3),
        (Shape(body="mobilenet_v3_small"), 4, 3),
    ],
)
def test_what_cannot_be_narrowed_is_refused(shape: Shape, width: int, first: int) -> None:
    with pytest.raises(ValueError, match="expected"):
        narrowed(JointNet(shape), width, first)
