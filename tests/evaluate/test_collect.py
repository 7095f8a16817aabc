"""Training sets from the simulator: the same recipe gives the same set, with everything the simulator knows."""

import json
from pathlib import Path

import numpy as np
import pytest

from inspect_pop.classify.inputs import CHANNELS
from inspect_pop.core.columns import CLASSES
from inspect_pop.core.errors import LabelsFault, LimitsFault
from inspect_pop.core.limits import Limits
from inspect_pop.evaluate.collect import BoardGroup, DatasetConfig, collect, extract_samples, load_dataset_config, make_dataset
from inspect_pop.ingest import open_export
from inspect_pop.pipeline.board import measure_board
from tests.learn.conftest import make_batch


def test_every_labelled_joint_is_there_once(batch: Path, tmp_path: Path) -> None:
    found = collect([batch], tmp_path / "set")
    assert len(found.samples) == 5 * 88
    assert found.samples.boards == tuple(f"PB-{k}" for k in range(5))
    assert found.samples.images.shape[1] == CHANNELS
    assert np.isfinite(found.samples.images.astype(np.float32)).all()
    counted = dict.fromkeys(CLASSES, 0) | {"good": 400, "bridged": 20, "open": 10, "head_in_pillow": 10}
    assert {name: int((found.samples.label == k).sum()) for k, name in enumerate(CLASSES)} == counted
    assert found.report.by_class["bridged"] == 20
    assert set(found.samples.machine) == {"A/AXI-2"}
    assert "starved" in found.report.rare


def test_what_training_sees_is_what_the_line_sees(small_board: Path, tmp_path: Path) -> None:
    prepared = measure_board(open_export(small_board), Limits())
    lower = prepared.packages[0].interfaces[0]
    samples = collect([small_board], tmp_path / "set").samples
    rows = samples.interface == "lower"
    assert samples.ball[rows].tolist() == list(lower.interface.ball)
    np.testing.assert_array_equal(samples.images[rows], lower.inputs.images.astype(np.float16))
    np.testing.assert_array_equal(samples.scalars[rows], lower.inputs.scalars)


def test_several_processes_give_the_same_set(batch: Path, tmp_path: Path) -> None:
    alone = collect([batch], tmp_path / "alone").samples
    together = collect([batch], tmp_path / "together", processes=2).samples
    np.testing.assert_array_equal(alone.images, together.images)
    assert alone.boards == together.boards


def test_truth_of_a_simulated_batch_is_kept(tmp_path: Path) -> None:
    batch = make_batch(tmp_path / "batch", ["PB-1"])
    rows = ["serial,refdes,interface,ball,variety,volume_ratio,web_um,gap_um", "PB-1,U1,lower,A2,big_void,1.25,,"]
    (batch / "truth.csv").write_text("\n".join(rows))
    samples = collect([batch], tmp_path / "set").samples
    at = np.flatnonzero((samples.interface == "lower") & (samples.ball == "A2"))[0]
    assert samples.varieties[samples.variety[at]] == "big_void"
    assert samples.volume_ratio[at] == 1.25
    assert np.isnan(samples.web_um).all()
    assert (samples.variety >= 0).sum() == 1


def test_truth_without_its_columns_is_refused(tmp_path: Path) -> None:
    batch = make_batch(tmp_path / "batch", ["PB-1"])
    (batch / "truth.csv").write_text("serial,refdes\n")
    with pytest.raises(LabelsFault, match=r"truth.csv.*gap_um"):
        collect([batch], tmp_path / "set")


def test_a_board_that_cannot_be_used_is_put_aside(tmp_path: Path) -> None:
    batch = make_batch(tmp_path / "batch", ["PB-1", "PB-2", "PB-3"])
    (batch / "boards" / "PB-2" / "xray" / "U1_lower.tif").write_bytes(b"II*\0cut")
    (batch / "boards" / "PB-3" / "export.json").write_text("{")
    found = collect([batch], tmp_path / "set")
    assert found.samples.boards == ("PB-1",)
    assert [Path(path).name for path, _ in found.report.put_aside] == ["PB-2", "PB-3"]
    assert found.report.labels_without_board == ("PB-3",)


def test_an_interface_without_slices_teaches_nothing(tmp_path: Path) -> None:
    batch = make_batch(tmp_path / "batch", ["PB-1"])
    manifest = batch / "boards" / "PB-1" / "export.json"
    about = json.loads(manifest.read_text())
    about["images"] = [i for i in about["images"] if i.get("interface") != "upper"]
    manifest.write_text(json.dumps(about))
    found = collect([batch], tmp_path / "set")
    assert set(found.samples.interface) == {"lower"}
    assert found.report.not_visible == 28


def test_joints_without_labels_are_left_out(tmp_path: Path) -> None:
    batch = make_batch(tmp_path / "batch", ["PB-1", "PB-2"])
    labels = batch / "labels.csv"
    labels.write_text("\n".join(labels.read_text().splitlines()[:11]))
    found = collect([batch], tmp_path / "set")
    assert len(found.samples) == 10
    assert found.report.boards_without_labels == ("PB-2",)
    labels.write_text("serial,refdes,interface,ball,label\n")
    with pytest.raises(LabelsFault, match="expected labelled joints"):
        collect([batch], tmp_path / "set")


def test_a_label_of_a_joint_that_is_not_there_is_refused(tmp_path: Path) -> None:
    batch = make_batch(tmp_path / "batch", ["PB-1"])
    with (batch / "labels.csv").open("a") as file:
        file.write("PB-1,U1,lower,ZZ9,good,,,,\n")
    with pytest.raises(LabelsFault, match="line 90"):
        collect([batch], tmp_path / "set")


def test_a_prepared_board_without_labels(small_board: Path) -> None:
    samples = extract_samples(measure_board(open_export(small_board), Limits()))
    assert len(samples) == 88
    assert (samples.label == -1).all()


CONFIGS = Path(__file__).parents[2] / "datasets" / "configs"
SMALL = DatasetConfig(name="small", groups=(BoardGroup(machine="line_a", product="tst4", boards=1, defect_rate=0.3, seed=5),))


def test_a_set_knows_what_the_simulator_knows(tmp_path: Path) -> None:
    samples = make_dataset(SMALL, tmp_path / "one")
    assert len(samples) == 88
    assert set(samples.label) >= {0, 1}
    assert "plain" in samples.varieties
    assert np.isfinite(samples.volume_ratio).all()
    assert np.isnan(samples.web_um[samples.label == 0]).all()
    again = make_dataset(SMALL, tmp_path / "two")
    assert np.array_equal(samples.images, again.images)
    assert np.array_equal(samples.label, again.label)


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.toml")), ids=lambda p: p.stem)
def test_committed_recipes_can_be_read(path: Path) -> None:
    assert load_dataset_config(path).groups


def test_an_unknown_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text('name = "x"\ncolour = 3\ngroups = []\n')
    with pytest.raises(LimitsFault, match="colour"):
        load_dataset_config(path)


def test_held_boards_are_others(tmp_path: Path) -> None:
    teach, held = (load_dataset_config(CONFIGS / f"release-1{part}.toml") for part in ("", "-held"))
    assert not {g.seed for g in teach.groups} & {g.seed for g in held.groups}
