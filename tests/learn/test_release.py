"""The way to a released model, on sets so small that it learns nothing: what it writes can be loaded and used."""

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
from inspect_pop.classify.inputs import CHANNELS, SCALARS  # noqa: E402
from inspect_pop.classify.model import load  # noqa: E402
from inspect_pop.core.errors import LimitsFault, ModelFault  # noqa: E402
from inspect_pop.evaluate.collect import load_dataset_config  # noqa: E402
from inspect_pop.learn.fit import FitConfig  # noqa: E402
from inspect_pop.learn.network import NETWORK, JointNet, Shape, load_network, save_network  # noqa: E402
from inspect_pop.learn.release import (  # noqa: E402
    ReleaseConfig,
    ReleaseSets,
    gather_sets,
    load_release_config,
    prune_channels,
    train_release,
)
from inspect_pop.segment.windows import SIZE  # noqa: E402
from tests.learn.sets import make_samples  # noqa: E402

pytestmark = [
    pytest.mark.training,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.usefixtures("quick_exports"),
]
TINY = FitConfig(widths=(8, 8), blocks=(1, 1), epochs=1, samples_per_epoch=64, batch=16, mixed_precision=False)


def test_a_release_is_a_model(tmp_path: Path) -> None:
    sets = ReleaseSets(
        (make_samples(boards=3), make_samples(boards=1, seed=4)), make_samples(boards=2, seed=1), make_samples(boards=2, seed=2)
    )
    config = ReleaseConfig(name="tiny", train=("a",), held_out=("b",), repeats=2, fit=TINY, second=TINY)
    card = train_release(sets, config, tmp_path / "out", tmp_path / "work", now="2026-11-22T08:00:00+00:00")
    assert load(tmp_path / "out").card == card
    assert card.data["labelled boards learnt from"] == list(sets.labelled.boards)  # type: ignore[union-attr]
    assert set(card.data["calibration boards"]) == set(sets.held_out.boards)


def test_a_release_that_begins_with_a_wider_network_narrows_it(tmp_path: Path) -> None:
    varieties = make_samples(boards=1).varieties
    wide = JointNet(Shape((12, 8), (1, 1), len(varieties), first=5))
    save_network(wide, varieties, tmp_path / "wide.safetensors")
    config = ReleaseConfig(name="tiny", train=("a",), held_out=("b",), fit=TINY, second=TINY)
    sets = ReleaseSets((make_samples(boards=3),), make_samples(boards=2, seed=1), None)
    out = tmp_path / "out"
    train_release(sets, config, out, tmp_path / "work", now="2026-11-22T08:00:00+00:00", start=tmp_path / "wide.safetensors")
    shape = load_network(out / NETWORK)[0].shape
    assert (shape.widths, shape.first) == ((8, 8), 3)


def test_the_committed_configuration_can_be_read() -> None:
    top = Path(__file__).parents[2]
    config = load_release_config(top / "training" / "configs" / "release.toml")
    sets = [load_dataset_config(top / name) for name in (*dict.fromkeys(config.train), *config.held_out)]
    seeds = [group.seed for found in sets for group in found.groups]
    assert len(seeds) == len(set(seeds))  # no board is drawn twice, nor calibrated on after it was learnt from


def test_a_configuration_with_an_unknown_key_is_refused(tmp_path: Path) -> None:
    (tmp_path / "release.toml").write_text("colour = 1")
    with pytest.raises(LimitsFault, match="the configuration of a release"):
        load_release_config(tmp_path / "release.toml")


def test_what_an_earlier_start_has_simulated_is_taken_up(tmp_path: Path) -> None:
    (tmp_path / "set.toml").write_text(
        'name = "s"\ngroups = [{ machine = "line_a", product = "tst4", boards = 1, defect_rate = 0.2, seed = 7 }]'
    )
    config = ReleaseConfig(name="tiny", train=("set.toml",), held_out=("set.toml",), fit=TINY, second=TINY)
    said: list[str] = []
    first = gather_sets(config, tmp_path, [], tmp_path / "work", progress=said.append)
    again = gather_sets(config, tmp_path, [], tmp_path / "work", progress=said.append)
    assert said == ["s: board 1 of 1"] and len(again.held_out) == len(first.train[0]) > 80


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
    small = prune_channels(wide, (5, 6, 12), 3)
    assert small.shape == Shape((5, 6, 12), (1, 2, 1), 2, "residual", 3)
    torch.testing.assert_close(answers(small), answers(wide))


def test_nothing_left_out_is_the_same_network() -> None:
    wide = network(WIDE)
    torch.testing.assert_close(answers(prune_channels(wide, WIDE.widths, 5)), answers(wide))


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
    with pytest.raises(ModelFault, match="start without it"):
        prune_channels(JointNet(shape), widths, first)
