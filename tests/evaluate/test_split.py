import pytest
from hypothesis import given
from hypothesis import strategies as st

from inspect_pop.core.errors import LabelsFault
from inspect_pop.evaluate.split import folds, place, split_boards

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
    more = split_boards(SERIALS[:40], kept_golden=four.golden)
    assert four.golden[0] in more.golden


def test_boards_that_a_model_learnt_from_do_not_judge_it() -> None:
    assert not set(split_boards(SERIALS, kept_train=SERIALS[:50]).golden) & set(SERIALS[:50])


def test_four_boards_are_enough() -> None:
    split = split_boards(SERIALS[:4])
    assert min(len(split.train), len(split.calibrate), len(split.golden)) >= 1


@pytest.mark.parametrize(
    ("serials", "options", "message"),
    [
        (SERIALS[:2], {}, "found 2"),
        (SERIALS[:2] * 3, {}, "found 2"),
        (SERIALS[:5], {"kept_train": SERIALS[:5]}, "no earlier training"),
        (SERIALS[:4], {"kept_golden": SERIALS[:3]}, "3 to judge by, 1 others"),
    ],
)
def test_too_few_boards_are_refused(serials: list[str], options: dict, message: str) -> None:
    with pytest.raises(LabelsFault, match=message):
        split_boards(serials, **options)


@given(st.text(max_size=20))
def test_a_place_is_a_share_and_depends_on_its_purpose(serial: str) -> None:
    assert 0 <= place(serial, "golden") < 1
    assert place(serial, "golden") == place(serial, "golden")
    assert place(serial, "golden") != place(serial, "fold")


def test_few_boards_need_not_spare_one_to_calibrate() -> None:
    split = split_boards(SERIALS[:4], calibrate_share=0.0)
    assert split.calibrate == ()
    assert len(split.train) + len(split.golden) == 4
    for first in range(0, 60, 4):  # whatever their serials: of four boards one judges
        assert len(split_boards(SERIALS[first : first + 4], golden_share=0.25, calibrate_share=0.0).golden) == 1


def test_folds_hold_every_board_once() -> None:
    parts = folds(SERIALS, 5)
    assert [len(p) for p in parts] == [20] * 5
    assert sorted(b for p in parts for b in p) == SERIALS
    assert len(folds(SERIALS[:3], 5)) == 3
