"""Sets of labelled joints: written, read, mixed without copying, and split by board."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inspect_pop.core.columns import CLASSES
from inspect_pop.core.errors import FileFault, LabelsFault, ModelFault
from inspect_pop.evaluate.samples import (
    SampleWriter,
    concat,
    empty,
    hash_board,
    load,
    mix_samples,
    save,
    split_boards,
    split_folds,
)
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
    assert both.variety.tolist() == [*both.label[:5].tolist(), *(both.label[5:] + len(CLASSES)).tolist()]
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
        ({"label": np.full(3, len(CLASSES), np.int8)}, f"label must be -1 to {len(CLASSES) - 1}"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_samples(1, 3).replace(**change)


def test_a_mixture_holds_each_set_as_often_as_it_counts() -> None:
    a, b = make_samples(boards=2), make_samples(boards=1, seed=1, prefix="C")
    names = tuple(sorted({*a.varieties, *b.varieties}))
    mixed, copied = mix_samples([a, b], names, [1, 3]), concat([a, b, b, b]).with_varieties(names)
    index = np.random.default_rng(0).permutation(len(mixed))
    assert len(mixed) == len(a) + 3 * len(b)
    np.testing.assert_array_equal(mixed.images[index], copied.images[index])
    for name in ("scalars", "label", "variety", "volume_ratio", "gap_um", "weight"):
        np.testing.assert_array_equal(getattr(mixed, name), getattr(copied, name))


def test_fine_labels_that_a_network_does_not_count_become_unknown() -> None:
    samples = make_samples(boards=1)
    assert set(mix_samples([samples], samples.varieties[:1]).variety.tolist()) == {-1, 0}


SERIALS = [f"PB2411-{k:06d}" for k in range(100)]


def test_every_board_is_in_one_part() -> None:
    split = split_boards(SERIALS)
    parts = [*split.train, *split.calibrate, *split.golden]
    assert sorted(parts) == SERIALS
    assert 10 <= len(split.golden) <= 30
    assert len(split.calibrate) == 20


def test_golden_boards_stay_when_others_join_or_leave() -> None:
    some, all_ = split_boards(SERIALS[:60]), split_boards(SERIALS)
    assert set(some.golden) == set(all_.golden) & set(SERIALS[:60])
    assert split_boards(reversed(SERIALS)) == all_


def test_what_was_golden_once_stays_golden() -> None:
    four = split_boards(SERIALS[:4], golden_share=1e-9)
    assert len(four.golden) == 1
    more = split_boards(SERIALS[:40], earlier_golden=four.golden)
    assert four.golden[0] in more.golden


def test_boards_that_a_model_learnt_from_do_not_judge_it() -> None:
    assert not set(split_boards(SERIALS, earlier_train=SERIALS[:50]).golden) & set(SERIALS[:50])


def test_four_boards_are_enough() -> None:
    split = split_boards(SERIALS[:4])
    assert min(len(split.train), len(split.calibrate), len(split.golden)) >= 1


@pytest.mark.parametrize(
    ("serials", "options", "message"),
    [
        (SERIALS[:2], {}, "found 2"),
        (SERIALS[:2] * 3, {}, "found 2"),
        (SERIALS[:5], {"earlier_train": SERIALS[:5]}, "no earlier training"),
        (SERIALS[:4], {"earlier_golden": SERIALS[:3]}, "3 to judge by, 1 others"),
    ],
)
def test_too_few_boards_are_refused(serials: list[str], options: dict, message: str) -> None:
    with pytest.raises(LabelsFault, match=message):
        split_boards(serials, **options)


@given(st.text(max_size=20))
def test_a_place_is_a_share_and_depends_on_its_purpose(serial: str) -> None:
    assert 0 <= hash_board(serial, "golden") < 1
    assert hash_board(serial, "golden") == hash_board(serial, "golden")
    assert hash_board(serial, "golden") != hash_board(serial, "fold")


def test_few_boards_need_not_spare_one_to_calibrate() -> None:
    split = split_boards(SERIALS[:4], calibrate_share=0.0)
    assert split.calibrate == ()
    assert len(split.train) + len(split.golden) == 4
    for first in range(0, 60, 4):  # whatever their serials: of four boards one judges
        assert len(split_boards(SERIALS[first : first + 4], golden_share=0.25, calibrate_share=0.0).golden) == 1


def test_folds_hold_every_board_once() -> None:
    parts = split_folds(SERIALS, 5)
    assert [len(p) for p in parts] == [20] * 5
    assert sorted(b for p in parts for b in p) == SERIALS
    assert len(split_folds(SERIALS[:3], 5)) == 3
