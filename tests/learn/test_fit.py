"""The training loop: it learns, it repeats, it goes on where it stopped, and what it exports says the same."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from inspect_pop.classify.inputs import CHANNELS, SCALARS  # noqa: E402
from inspect_pop.core.errors import ModelFault  # noqa: E402
from inspect_pop.learn import package_model as export  # noqa: E402
from inspect_pop.learn.fit import FitConfig, TrainingSet, fit, predict  # noqa: E402
from inspect_pop.learn.network import JointNet, Shape  # noqa: E402
from inspect_pop.segment.windows import SIZE  # noqa: E402

pytestmark = [pytest.mark.training, pytest.mark.filterwarnings("ignore::DeprecationWarning")]
CONFIG = FitConfig(
    widths=(8, 8), blocks=(1, 1), epochs=4, samples_per_epoch=64, batch=16, mixed_precision=False, average_decay=0.5
)


def _set(n: int = 64) -> TrainingSet:
    """Good joints are bright in the middle, open ones are dark."""
    random = np.random.default_rng(3)
    label = (np.arange(n) % 2) * 2
    images = random.normal(0, 0.05, (n, CHANNELS, SIZE, SIZE))
    images[label == 0, :5, 16:32, 16:32] += 1
    return SimpleNamespace(  # type: ignore[return-value]
        images=images.astype(np.float16),
        scalars=np.zeros((n, len(SCALARS)), np.float32),
        label=label,
        variety=np.where(label == 0, 0, -1),
        volume_ratio=np.where(label == 0, 1.0, np.nan).astype(np.float32),
        web_um=np.full(n, np.nan, np.float32),
        gap_um=np.full(n, np.nan, np.float32),
        weight=np.ones(n, np.float32),
    )


def test_it_learns_what_is_there(tmp_path: Path) -> None:
    train = _set()
    fitted = fit(train, CONFIG.model_copy(update={"epochs": 12}), work=tmp_path)
    logits, embedding = predict(fitted.network, train.images, train.scalars)
    assert (logits.argmax(1).numpy() == train.label).mean() > 0.95
    assert embedding.shape == (64, 32)
    assert fitted.history[-1]["loss"] < fitted.history[0]["loss"]


def test_an_interrupted_run_ends_where_a_whole_one_ends(tmp_path: Path) -> None:
    whole = fit(_set(), CONFIG, work=tmp_path / "whole")

    def stop(said: str) -> None:
        if said.startswith("epoch 2"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(_set(), CONFIG, work=tmp_path / "cut", progress=stop)
    again = fit(_set(), CONFIG, work=tmp_path / "cut")
    for ours, theirs in zip(whole.network.state_dict().values(), again.network.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs)


def test_another_configuration_begins_anew(tmp_path: Path) -> None:
    fit(_set(), CONFIG, work=tmp_path)
    fitted = fit(_set(), CONFIG.model_copy(update={"seed": 2}), work=tmp_path)
    assert len(fitted.history) == CONFIG.epochs


def test_a_start_is_taken_up(tmp_path: Path) -> None:
    start = JointNet(Shape((8, 8), (1, 1), 1))
    fitted = fit(_set(), CONFIG.model_copy(update={"learning_rate": 1e-9, "epochs": 1}), work=tmp_path, start=start)
    for name, ours in fitted.network.named_parameters():
        assert torch.allclose(ours, dict(start.named_parameters())[name], atol=1e-6), name


def test_exported_and_trained_agree(tmp_path: Path) -> None:
    train = _set()
    network = fit(train, CONFIG, work=tmp_path / "work").network
    export.to_onnx(network, tmp_path / "model.onnx")
    assert export.check_agreement(network, tmp_path / "model.onnx", train.images[:5], train.scalars[:5]) <= 1e-4
    with torch.no_grad():
        network.classes.bias += torch.tensor([1.0, 0, 0, 0, 0])
    with pytest.raises(ModelFault, match="probabilities within"):
        export.check_agreement(network, tmp_path / "model.onnx", train.images[:5], train.scalars[:5])
