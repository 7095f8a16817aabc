"""The whole way from labelled boards to a model in use, with a network small enough to be trained in seconds."""

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("albumentations")
from inspect_pop.classify.inputs import JointInputs  # noqa: E402
from inspect_pop.classify.model import load, resolve  # noqa: E402
from inspect_pop.classify.operating_points import read_calibration  # noqa: E402
from inspect_pop.classify.session import Classifier  # noqa: E402
from inspect_pop.core.classes import CLASSES  # noqa: E402
from inspect_pop.core.errors import LabelsFault, ModelFault, UsageFault  # noqa: E402
from inspect_pop.evaluate.collect import DatasetConfig, collect  # noqa: E402
from inspect_pop.evaluate.evaluation import LEARNT_EXPORTS, find_learnt_boards  # noqa: E402
from inspect_pop.evaluate.promotion import Gates  # noqa: E402
from inspect_pop.evaluate.samples import Samples, save  # noqa: E402
from inspect_pop.evaluate.samples import load as load_samples  # noqa: E402
from inspect_pop.learn.dataset import TrainingConfig  # noqa: E402
from inspect_pop.learn.fit import FitConfig, predict  # noqa: E402
from inspect_pop.learn.network import JointNet, Shape, load_network  # noqa: E402
from inspect_pop.learn.package_model import ModelDescription, build_model, compute_logits  # noqa: E402
from inspect_pop.learn.train import train  # noqa: E402
from tests.learn.conftest import make_batch  # noqa: E402
from tests.learn.sets import make_samples  # noqa: E402

pytestmark = [
    pytest.mark.training,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.usefixtures("quick_exports"),
]
FIT = FitConfig(widths=(8, 8), blocks=(1, 1), epochs=3, samples_per_epoch=300, batch=32, mixed_precision=False, average_decay=0.5)
SCRATCH = TrainingConfig(name="tiny", from_current=False, fit=FIT)
AGAIN = TrainingConfig(
    name="again", views=2, shares=(0.0, 0.5, 1.0), folds=2, fit=FIT.model_copy(update={"epochs": 2, "samples_per_epoch": 100})
)
LENIENT = Gates(
    largest_escape_rate=1, largest_false_call_ppm=1e6, largest_review_share=1, largest_calibration_error=1, least_good=1
)
NOW = "2026-11-22T08:00:00+00:00"


@pytest.fixture(scope="module")
def first(quick_exports: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder to begin with, whose network has seen nothing."""
    torch.manual_seed(0)
    samples = make_samples(4, 25)
    out = tmp_path_factory.mktemp("first") / "first"
    build_model(
        JointNet(Shape((8, 8), (1, 1), len(samples.varieties))).eval(),
        samples.varieties,
        samples,
        samples,
        out,
        ModelDescription("first", "1", NOW),
    )
    return out


@pytest.fixture(scope="module")
def trained(first: Path, batch: Path, tmp_path_factory: pytest.TempPathFactory):
    said: list[str] = []
    out = tmp_path_factory.mktemp("trained") / "again"
    report = train([batch], out, config=AGAIN, start_from=first, gates=LENIENT, now=NOW, progress=said.append)
    return report, out, said


def test_a_built_model_answers_as_the_network_that_was_trained(first: Path) -> None:
    samples = make_samples(2, 20, seed=5)
    classifier = Classifier(load(first))
    raw, _ = classifier.raw(JointInputs(samples.images.astype(np.float32), samples.scalars))
    network, varieties = load_network(first / "network.safetensors")
    np.testing.assert_allclose(raw, predict(network, samples.images, samples.scalars)[0].numpy(), atol=1e-4)
    assert varieties == samples.varieties
    logits, embedding = compute_logits(classifier.logits, samples)
    assert (logits.shape, embedding.shape) == ((40, len(CLASSES)), (40, 32))
    assert load(first).card.good_scores[50] == pytest.approx(np.median(load(first).card.good_scores), abs=0.5)


def test_a_retrained_model_is_whole(trained) -> None:
    report, out, said = trained
    model = load(out)
    card, own = model.card, model.for_machine("A/AXI-2")
    assert own is not model
    assert {"model.onnx", "quick.onnx", "network.safetensors", "calibration.parquet", "report.json", "README.md"} == set(
        card.files
    )
    assert {"model.onnx", "quick.onnx", "network.safetensors", "calibration.parquet", "README.md"} == set(own.card.files)
    assert card.metrics["joints"] == 88 * len(report.split.golden)
    assert card.data["golden boards"] == list(report.split.golden)
    assert card.data["began with"] == "first 1"
    assert len(card.data[LEARNT_EXPORTS]) == len(report.split.train)
    assert card.recipe["digest"] == AGAIN.digest
    assert not (out / ".work").exists()
    assert any("labelled joints on 5 boards" in line for line in said)
    assert report.split.calibrate == ()
    assert card.data["calibration boards"] == []
    assert any("2 more fits, each without some of them" in line for line in said)
    assert "the same to calibrate, in turn" in "\n".join(report.lines())
    assert set(report.losses) == {"0", "0.5", "1"}
    assert report.share >= float(min(report.losses, key=report.losses.get))


def test_the_boards_that_taught_are_known_by_their_exports(trained, batch: Path, tmp_path: Path) -> None:
    """Also where the card has lost the serials."""
    report, out, _ = trained
    card = load(out).card
    card = card.model_copy(update={"data": {LEARNT_EXPORTS: card.data[LEARNT_EXPORTS]}})
    serials = {board.name for board in (batch / "boards").iterdir()}
    assert find_learnt_boards([batch], card, serials) == list(report.split.train)
    assert find_learnt_boards([batch], card.model_copy(update={"data": {}}), serials) is None


def test_other_machines_keep_the_model_that_training_began_with(trained, first: Path) -> None:
    old, new = load(first), load(trained[1])
    assert (new.network, new.network_8bit) == (old.network, old.network_8bit)
    assert (new.card.calibration, new.card.operating_point) == (old.card.calibration, old.card.operating_point)
    assert list(new.card.machines) == ["A/AXI-2"]
    assert "before)" in new.for_machine("A/AXI-2").card.operating_point.source


def test_old_and_new_are_judged_on_the_same_boards(trained) -> None:
    report, _, _ = trained
    assert set(report.new["by"]["serial"]) == set(report.old["by"]["serial"]) == set(report.split.golden)
    assert report.old["model"]["name"] == "first"
    assert any(gate.name == "recall of good" for gate in report.gates)


def test_few_boards_are_calibrated_by_networks_that_did_not_see_them(trained, batch: Path, tmp_path: Path) -> None:
    """All of the boards that taught lie in the calibration, with other scores than the final network gives them."""
    report, out, _ = trained
    model = load(out).for_machine("A/AXI-2")
    joints = read_calibration(model)
    assert set(joints.serial) == set(report.split.train)
    assert len(joints.label) == 88 * len(report.split.train)
    final = collect([batch / "boards" / serial for serial in report.split.train], tmp_path / "again").samples
    seen, _ = compute_logits(Classifier(model).logits, final)
    assert np.abs(seen - joints.logits).max() > 1e-3 or report.share == 0


def test_the_report_is_for_people_and_for_programs(trained) -> None:
    report, out, _ = trained
    text = "\n".join(report.lines())
    for words in ("Before, on the golden boards", "Now, on the same boards", "Gates", "What more boards would bring"):
        assert words in text
    kept = json.loads((out / "report.json").read_text())
    assert kept["passed"] is report.passed
    assert kept["labels"]["by_class"]["good"] == 400


def test_an_interrupted_training_ends_in_the_same_model(trained, first: Path, batch: Path, tmp_path: Path) -> None:
    def stop(said: str) -> None:
        if said.startswith("epoch 1 "):
            raise KeyboardInterrupt

    out = tmp_path / "again"
    with pytest.raises(KeyboardInterrupt):
        train([batch], out, config=AGAIN, start_from=first, gates=LENIENT, now=NOW, progress=stop)
    with pytest.raises(ModelFault):
        load(out)
    said: list[str] = []
    report = train([batch], out, config=AGAIN, start_from=first, gates=LENIENT, now=NOW, progress=said.append)
    assert not any("reading board" in line for line in said)
    assert sum(line.startswith("epoch 1 ") for line in said) == 2  # of the two folds, which had not begun
    for path in trained[1].rglob("*"):
        if path.is_file() and path.name not in ("report.json", "card.json"):  # which say how long it took
            assert (out / path.relative_to(trained[1])).read_bytes() == path.read_bytes(), path
    assert report.new["confusion"] == trained[0].new["confusion"]


def test_another_label_is_another_training(first: Path, tmp_path: Path) -> None:
    """What was kept of an interrupted training of other labels is not taken up."""
    batch = make_batch(tmp_path / "batch", [f"PB-{k}" for k in range(4)])

    def stop(said: str) -> None:
        if said.startswith("epoch 1 "):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train([batch], tmp_path / "out", config=AGAIN, start_from=first, progress=stop)
    text = (batch / "labels.csv").read_text()
    (batch / "labels.csv").write_text(text.replace(",good,", ",starved,", 1))
    said: list[str] = []

    def listen(line: str) -> None:
        said.append(line)
        stop(line)

    with pytest.raises(KeyboardInterrupt):
        train([batch], tmp_path / "out", config=AGAIN, start_from=first, progress=listen)
    assert any("reading board" in line for line in said)


def test_from_scratch_with_a_replay_set_and_promotion(first: Path, batch: Path, tmp_path: Path) -> None:
    models = tmp_path / "models"
    models.mkdir()
    config = SCRATCH.model_copy(update={"replay_joints": 50, "golden_share": 0.3, "few_boards": 0})
    replay = make_batch(tmp_path / "replay", [f"SIM-{k}" for k in range(6)], line="B")
    report = train(
        [batch], tmp_path / "new", config=config, start_from=first, replay=[replay], gates=LENIENT, models=models, now=NOW
    )
    assert report.new_elsewhere is not None and report.old_elsewhere is not None
    assert set(report.new_elsewhere["by"]["machine"]) == {"B/AXI-2"}
    assert report.curve is None
    refused = [g.name for g in report.gates if not g.passed]
    assert report.passed == (refused == [])
    assert report.promoted_as == ("" if refused else resolve(models).name)
    assert ("Current model from now on" in report.lines()[-1]) == report.passed


def test_simulated_boards_of_other_machines_are_rehearsed(
    first: Path, batch: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are mixed in, and those of them that are held out show old and new elsewhere."""
    made: list[str] = []

    def make(config: DatasetConfig, into: Path, **_: object) -> Samples:
        made.append(config.name)
        save(make_samples(30, 5, machine="random", prefix="SIM-"), into)
        return load_samples(into)

    monkeypatch.setattr("inspect_pop.learn.dataset.make_dataset", make)
    group = {"machine": "random", "product": "tst4", "boards": 30, "defect_rate": 0.1, "seed": 1}
    rehearsal = DatasetConfig.model_validate({"name": "others", "groups": [group]})
    config = AGAIN.model_copy(update={"rehearsal": rehearsal, "replay_joints": 60, "shares": (0.5,)})
    report = train([batch], tmp_path / "out", config=config, start_from=first)
    assert made == ["others"]
    assert report.new_elsewhere is not None and report.old_elsewhere is not None
    assert set(report.new_elsewhere["by"]["machine"]) == {"random"}
    assert report.new_elsewhere["joints"] == report.old_elsewhere["joints"] > 0
    assert load(tmp_path / "out").card.data["joints of other machines"] == 60
    assert "Before, elsewhere" in "\n".join(report.lines())


def test_the_next_training_keeps_the_golden_boards_and_the_gates_keep_it_out(trained, tmp_path: Path) -> None:
    report, out, _ = trained
    models = tmp_path / "models"
    models.mkdir()
    batch = make_batch(tmp_path / "batch", [*(f"PB-{k}" for k in range(5)), *(f"NEW-{k}" for k in range(3))])
    strict = LENIENT.model_copy(update={"least_defects": 10_000})
    again = train([batch], tmp_path / "next", config=AGAIN, start_from=out, gates=strict, models=models)
    assert set(report.split.golden) <= set(again.split.golden)
    assert not set(report.split.train) & set(again.split.golden)
    assert not again.passed
    assert list(models.iterdir()) == []
    assert "STOP  golden defects" in "\n".join(again.lines())


def test_what_cannot_be_trained_on_is_refused(first: Path, tmp_path: Path) -> None:
    two = make_batch(tmp_path / "two", ["PB-0", "PB-1"])
    with pytest.raises(LabelsFault, match="at least 3"):
        train([two], tmp_path / "out", config=AGAIN, start_from=first)
    (two / "labels.csv").unlink()
    with pytest.raises(LabelsFault, match="Label boards first"):
        train([two], tmp_path / "out", config=AGAIN, start_from=first)
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageFault, match="a folder for the new model"):
        train([two], tmp_path / "file", config=AGAIN, start_from=first)
    with pytest.raises(ModelFault):
        train([two], tmp_path / "out", config=AGAIN, start_from=tmp_path / "nowhere")
