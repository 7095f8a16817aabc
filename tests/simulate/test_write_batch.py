import csv
import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile

from inspect_pop.core.errors import UsageFault
from inspect_pop.ingest.pop_export import READER
from inspect_pop.simulate import board as module
from inspect_pop.simulate.board import simulate_board
from inspect_pop.simulate.catalog import MACHINES, find_recipe

from .conftest import QUICK


@pytest.fixture(scope="module")
def batch(tmp_path_factory):
    out = tmp_path_factory.mktemp("simulated") / "batch"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(MACHINES, "quick", QUICK)
        calls = []
        module.simulate_batch(out, 2, 5, machine="quick", progress=lambda done, total: calls.append((done, total)))
    assert calls == [(1, 2), (2, 2)]
    return out


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def digests(folder: Path) -> dict[str, str]:
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.rglob("*")) if p.is_file()
    }


def test_a_batch_can_be_read_back(batch):
    boards = sorted((batch / "boards").iterdir())
    assert len(boards) == 2
    for folder in boards:
        board = READER.open(folder, batch)
        assert board.serial == folder.name
        assert board.recipe.n_joints == 88
        assert {image.name for image in board.images} == {"U1/lower", "U1/upper", "U1/pre_stack", "U1/post_reflow"}
        for image in board.images:
            image.read()


def test_a_machine_of_ones_own_takes_the_same_pictures_as_one_by_name(batch, tmp_path):
    module.simulate_batch(tmp_path / "given", 2, 5, machine=QUICK)
    assert digests(tmp_path / "given") == digests(batch)


def test_labels_and_truth_have_every_joint_once_and_agree(batch):
    labels, truth = rows(batch / "labels.csv"), rows(batch / "truth.csv")
    key = ("serial", "refdes", "interface", "ball")
    assert len({tuple(r[k] for k in key) for r in labels}) == len(labels) == 176
    assert [r["label"] for r in labels] == [r["label"] for r in truth]
    measured = {
        "volume_ratio",
        "void_area_fraction",
        "standoff_um",
        "diameter_mid_um",
        "dx_um",
        "dy_um",
        "variety",
        "gap_um",
        "web_um",
    }
    assert measured <= set(truth[0])


def test_board_truth_counts_the_defects(batch):
    truth = rows(batch / "truth.csv")
    for row in rows(batch / "truth_boards.csv"):
        assert int(row["n_defects"]) == sum(r["serial"] == row["serial"] and r["label"] != "good" for r in truth)
        assert set(row) == {"serial", "refdes", "warpage_um", "cause", "n_defects"}


def test_the_same_seed_writes_the_same_bytes(batch, tmp_path, monkeypatch):
    monkeypatch.setitem(MACHINES, "quick", QUICK)
    module.simulate_batch(tmp_path / "again", 2, 5, machine="quick")
    assert digests(tmp_path / "again") == digests(batch)


def test_a_folder_that_holds_a_batch_is_left_alone(batch):
    before = digests(batch)
    with pytest.raises(UsageFault, match="batch"):
        module.simulate_batch(batch, 1, 5)
    assert digests(batch) == before


@pytest.mark.parametrize("wrong", [{"machine": "x"}, {"product": "x"}, {"cause": "x"}, {"boards": 0}, {"jobs": 0}])
def test_wrong_arguments_are_refused_before_anything_is_written(tmp_path, wrong):
    arguments = {"boards": 1, "seed": 1, **wrong}
    with pytest.raises(UsageFault):
        module.simulate_batch(tmp_path / "batch", **arguments)
    assert not (tmp_path / "batch").exists()


def test_a_map_in_whole_numbers_comes_back_within_half_a_step(tmp_path):
    board = simulate_board(np.random.default_rng(1), find_recipe("tst4"), QUICK)
    module.write_board(tmp_path, replace(board, machine=MACHINES["line_b"]), "B1", 1)
    entry = json.loads((tmp_path / "export.json").read_text())["images"][-1]
    height = board.heights[1]
    assert entry["file"].endswith(f"{height.stage}.tif")
    raw = tifffile.imread(tmp_path / entry["file"])
    back = raw * entry["scale_um"] + entry["offset_um"]
    lost = np.isnan(height.height_um)
    assert ((raw == 0) == lost).all()
    assert np.abs(back - height.height_um)[~lost].max() <= entry["scale_um"] / 2 + 1e-3


def test_two_processes_write_what_one_does(tmp_path):
    for jobs in (1, 2):
        module.simulate_batch(tmp_path / str(jobs), 2, 3, machine="transmission", jobs=jobs)
    assert digests(tmp_path / "1") == digests(tmp_path / "2")
