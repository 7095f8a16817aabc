import json
from pathlib import Path

import numpy as np
import pytest

from inspect_pop.core.errors import FileFault, ModelFault
from inspect_pop.core.joint_table import CLASSES
from inspect_pop.evaluate.samples import SampleWriter, concat, empty, load, save
from tests.learn.sets import make_samples


def test_a_set_comes_back_from_its_folder_unchanged(tmp_path: Path) -> None:
    samples = make_samples(boards=2, joints=6)
    save(samples, tmp_path)
    back = load(tmp_path)
    assert isinstance(back.images, np.memmap)
    assert back.boards == samples.boards
    for name in ("images", "scalars", "label", "variety", "web_um", "board", "machine", "ball", "weight"):
        np.testing.assert_array_equal(getattr(back, name), getattr(samples, name), err_msg=name)


def test_pieces_written_one_by_one_make_one_set(tmp_path: Path) -> None:
    pieces = [make_samples(boards=1, joints=4, seed=k, prefix=p) for k, p in enumerate("XYX")]
    with SampleWriter(tmp_path) as writer:
        for piece in pieces:
            writer.append(piece)
    back = load(tmp_path)
    assert back.boards == ("X0", "Y0")
    assert back.serials.tolist() == ["X0"] * 4 + ["Y0"] * 4 + ["X0"] * 4
    np.testing.assert_array_equal(back.images, concat(pieces).images)


def test_taking_joints_drops_boards_that_are_gone() -> None:
    samples = make_samples(boards=3, joints=5)
    kept = samples.take(samples.board != 1)
    assert kept.boards == ("B0", "B2")
    assert sorted(set(kept.board.tolist())) == [0, 1]
    assert set(samples.of_boards(["B1"]).serials) == {"B1"}


def test_varieties_are_counted_anew_for_another_network() -> None:
    both = concat([make_samples(1, 5, prefix="X"), make_samples(1, 5, prefix="Y")])
    assert both.varieties == tuple(f"{c} {p}" for p in "XY" for c in CLASSES)
    assert both.variety.tolist() == [*both.label[:5].tolist(), *(both.label[5:] + 5).tolist()]
    known = both.with_varieties(["good Y", "elsewhere"])
    assert known.variety.tolist() == [-1] * 5 + [0, 0, 0, 0, -1]


def test_nothing_is_a_set_too(tmp_path: Path) -> None:
    assert len(concat([])) == 0
    with SampleWriter(tmp_path / "none"):
        pass
    assert len(load(tmp_path / "none")) == 0
    assert len(concat([empty(), make_samples(1, 3)])) == 3


def test_an_unfinished_set_is_refused(tmp_path: Path) -> None:
    save(make_samples(1, 3), tmp_path)
    with pytest.raises(RuntimeError, match="power cut"), SampleWriter(tmp_path) as writer:
        writer.append(make_samples(1, 3))
        raise RuntimeError("power cut")
    with pytest.raises(FileFault, match="Collect the set again"):
        load(tmp_path)


def test_a_cut_file_is_refused(tmp_path: Path) -> None:
    save(make_samples(1, 3), tmp_path)
    images = tmp_path / "images.npy"
    images.write_bytes(images.read_bytes()[:-1000])
    with pytest.raises(FileFault):
        load(tmp_path)


def test_a_set_for_other_inputs_is_refused(tmp_path: Path) -> None:
    save(make_samples(1, 3), tmp_path)
    about = json.loads((tmp_path / "samples.json").read_text())
    (tmp_path / "samples.json").write_text(json.dumps(about | {"contract": "joint-inputs/0"}))
    with pytest.raises(ModelFault, match="joint-inputs/0"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": np.zeros(2, np.int8)}, "unequal length"),
        ({"board": np.full(3, 7, np.int32)}, "board must be 0 to 0"),
        ({"label": np.full(3, 9, np.int8)}, "label must be -1 to 4"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_samples(1, 3).replace(**change)
