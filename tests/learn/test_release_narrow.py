"""A narrower network: what it keeps of the wider one."""

import pytest

torch = pytest.importorskip("torch")
from inspect_pop.classify.inputs import CHANNELS, SCALARS  # noqa: E402
from inspect_pop.core.errors import ModelFault  # noqa: E402
from inspect_pop.learn.network import JointNet, Shape  # noqa: E402
from inspect_pop.learn.release import narrowed  # noqa: E402
from inspect_pop.segment.windows import SIZE  # noqa: E402

pytestmark = pytest.mark.training
WIDE = Shape((8, 10, 12), (1, 2, 1), 2, first=5)


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
    wide = network(WIDE)
    with torch.no_grad():
        wide.features[0].weight[:, :, [0, 4]] = 0  # only the middle 3 x 3 of the first layer counts
        wide.features[0].weight[:, :, :, [0, 4]] = 0
        first, second, third, last = (wide.features[number] for number in (3, 4, 5, 6))
        for weights in (first.path[0].weight, first.path[3].weight, second.path[0].weight, second.skip[1].weight):
            weights[:, [1, 4, 7]] = 0
        for weights in (second.path[3].weight, third.path[0].weight, third.path[3].weight, last.path[0].weight):
            weights[:, [0, 5, 6, 9]] = 0
        last.skip[1].weight[:, [0, 5, 6, 9]] = 0
    small = narrowed(wide, (5, 6, 12), 3)
    assert small.shape == Shape((5, 6, 12), (1, 2, 1), 2, "residual", 3)
    torch.testing.assert_close(answers(small), answers(wide))


def test_nothing_left_out_is_the_same_network() -> None:
    wide = network(WIDE)
    torch.testing.assert_close(answers(narrowed(wide, WIDE.widths, 5)), answers(wide))


@pytest.mark.parametrize(
    ("shape", "widths", "first"),
    [
        (WIDE, (9, 10, 12), 3),
        (WIDE, (0, 10, 12), 3),
        (WIDE, (8, 10, 11), 3),
        (WIDE, (8, 12), 3),
        (WIDE, (4, 10, 12), 7),
        (WIDE, (4, 10, 12), 4),
        (Shape(body="mobilenet_v3_small"), (24, 48, 96, 128), 3),
    ],
)
def test_what_cannot_be_narrowed_is_refused(shape: Shape, widths: tuple[int, ...], first: int) -> None:
    with pytest.raises(ModelFault, match="begin without it"):
        narrowed(JointNet(shape), widths, first)
