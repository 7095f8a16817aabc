import json
from pathlib import Path

import numpy as np
import pytest

from inspect_pop.core.columns import CLASSES
from inspect_pop.core.errors import LabelsFault
from inspect_pop.evaluate.label_book import find_label_doubts, predict_out_of_fold, read_book, report_labels
from inspect_pop.evaluate.samples import Samples
from tests.learn.sets import make_samples

HEAD = "serial,refdes,interface,ball,label,labelled_at\n"


def book_of(tmp_path: Path, *files: str):
    for k, text in enumerate(files):
        (tmp_path / f"batch{k}").mkdir()
        (tmp_path / f"batch{k}" / "labels.csv").write_text(HEAD + text)
    return read_book([tmp_path], {})


def test_counts_by_class_and_board(tmp_path: Path) -> None:
    book = book_of(tmp_path, "B1,U1,lower,A1,good,\nB1,U1,lower,A2,open,\nB2,U1,upper,A1,good,\nB9,U1,upper,A1,good,\n")
    report = report_labels(book, ["B1", "B2", "B3"], put_aside=[("boards/B4", "cut short")], not_visible=1)
    assert (report.boards, report.joints) == (2, 3)
    assert report.by_class == dict.fromkeys(CLASSES, 0) | {"good": 2, "open": 1}
    assert report.by_board["B1"]["open"] == 1
    assert report.boards_without_labels == ("B3",)
    assert report.labels_without_board == ("B9",)
    text = "\n".join(report.lines())
    assert "few bridged joints (0)" in text and "excess paste" in text
    assert "B4: cut short" in text
    assert "1 labelled joints have no slices" in text
    json.dumps(report.to_dict())


@pytest.mark.parametrize(
    ("stands_for", "words"),
    [(("1", "40.4"), "1 were drawn from 40 that passed"), (("1", "1"), "what the model lets pass elsewhere is not known")],
)
def test_joints_that_people_chose_to_look_at_are_said_to_be_chosen(
    tmp_path: Path, stands_for: tuple[str, str], words: str
) -> None:
    rows = [f"B1,U1,lower,A{k},good,verification,{n}\n" for k, n in enumerate(stands_for, 1)]
    (tmp_path / "labels.csv").write_text("".join(["serial,refdes,interface,ball,label,source,stands_for\n", *rows]))
    report = report_labels(read_book([tmp_path], {}), ["B1"])
    assert report.bias.startswith("people looked at 2 of these joints") and words in report.bias
    assert report.bias in report.lines()
    assert report_labels(book_of(tmp_path, "B1,U1,lower,A1,good,\n"), ["B2"]).bias == ""


def test_the_last_word_counts_and_is_told(tmp_path: Path) -> None:
    book = book_of(tmp_path, "B1,U1,lower,A1,good,\nB1,U1,lower,A1,open,\nB1,U1,lower,A2,good,\nB1,U1,lower,A2,good,\n")
    assert book.of_board("B1") == {("U1", "lower", "A1"): "open", ("U1", "lower", "A2"): "good"}
    assert book.repeated == 2
    assert len(book.changed) == 1
    assert "good in line 2, open in line 3" in book.changed[0]


@pytest.mark.parametrize(
    ("first", "second", "wins"),
    [
        ("2026-11-21T10:00:00+01:00", "2026-11-22T10:00:00+01:00", "open"),
        ("2026-11-22T10:00:00+01:00", "2026-11-21T10:00:00+01:00", "good"),
        ("2026-11-22T10:00:00+01:00", "2026-11-22T09:30:00+00:00", "open"),
    ],
)
def test_between_files_the_later_decision_counts(tmp_path: Path, first: str, second: str, wins: str) -> None:
    book = book_of(tmp_path, f"B1,U1,lower,A1,good,{first}\n", f"B1,U1,lower,A1,open,{second}\n")
    assert book.of_board("B1")["U1", "lower", "A1"] == wins
    assert "good in" in book.changed[0] and "open in" in book.changed[0]


@pytest.mark.parametrize(("first", "second"), [("", ""), ("2026-11-21T10:00:00", "2026-11-21T10:00:00Z"), ("yesterday", "today")])
def test_files_that_contradict_without_saying_when_are_refused(tmp_path: Path, first: str, second: str) -> None:
    with pytest.raises(LabelsFault, match=r"line 2: B1 U1 lower A1.*say when each was decided"):
        book_of(tmp_path, f"B1,U1,lower,A1,good,{first}\n", f"B1,U1,lower,A1,open,{second}\n")


def test_files_that_agree_need_no_times(tmp_path: Path) -> None:
    book = book_of(tmp_path, "B1,U1,lower,A1,good,\n", "B1,U1,lower,A1,good,\n")
    assert (book.repeated, book.changed) == (1, ())


def test_no_labels_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LabelsFault, match="Label boards first"):
        read_book([tmp_path], {})


def test_many_names_are_cut_short(tmp_path: Path) -> None:
    report = report_labels(book_of(tmp_path, "".join(f"B{k},U1,lower,A1,good,\n" for k in range(30))), ["B1"])
    assert any("and 21 more" in line for line in report.lines())


def features(samples: Samples, spread: float = 0.3, seed: int = 1) -> np.ndarray:
    """What a good network says: the true class, and noise."""
    return np.eye(len(CLASSES))[samples.label] + np.random.default_rng(seed).normal(0, spread, (len(samples), len(CLASSES)))


def test_swapped_labels_are_found_by_name() -> None:
    samples = make_samples(10, 100)
    seen = features(samples)
    swapped = [104, 333, 651]
    label = samples.label.copy()
    label[swapped] = np.where(label[swapped] == 0, 2, 0)
    found = find_label_doubts(samples.replace(label=label), seen)
    names = {(s.serial, s.ball) for s in found}
    assert {("B1", "A5"), ("B3", "A34"), ("B6", "A52")} <= names
    assert len(found) <= 6
    first = found[0]
    assert first.p_label < 0.05 < 0.9 < first.p_suggestion
    assert "labelled" in str(first) and "looks" in str(first)
    assert [s.p_label for s in found] == sorted(s.p_label for s in found)


def test_right_labels_are_left_in_peace() -> None:
    samples = make_samples(10, 100)
    assert len(find_label_doubts(samples, features(samples, spread=0.2))) <= 2


def test_a_joint_does_not_vouch_for_itself() -> None:
    """Features that hold the wrong label itself, but only on that board, do not hide it."""
    samples = make_samples(6, 100)
    seen = features(samples)
    label = samples.label.copy()
    label[4] = 0
    board_alone = np.column_stack([seen, (np.arange(len(samples)) == 4) * 5.0])
    assert ("B0", "A5") in {(s.serial, s.ball) for s in find_label_doubts(samples.replace(label=label), board_alone)}


def test_a_class_of_one_board_alone_accuses_nobody() -> None:
    samples = make_samples(4, 50)
    label = np.zeros(200, np.int8)
    label[:5] = CLASSES.index("open")
    label[60:70] = CLASSES.index("starved")
    p = predict_out_of_fold(features(samples.replace(label=label)), label, samples.serials)
    assert np.isnan(p[:5, 2]).all()
    assert np.isfinite(p[:5, 0]).all()


def test_one_board_has_nobody_to_compare_with() -> None:
    samples = make_samples(1, 50)
    assert find_label_doubts(samples, features(samples)) == []
