"""labels.csv."""

from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inspect_pop.core.columns import CLASSES
from inspect_pop.core.errors import FileFault, LabelsFault
from inspect_pop.core.recipe import Recipe
from inspect_pop.ingest.pop_export import check_labels, read_labels
from inspect_pop.ingest.recipe_file import read_recipe

HEAD = "serial,refdes,interface,ball,label\n"
FULL = "serial,refdes,interface,ball,label,source,labelled_by,labelled_at,note\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "labels.csv"


@pytest.fixture
def recipe(board: Path) -> Recipe:
    return read_recipe(board.parents[1] / "recipes/tiny.json", board.parents[1])


def test_labels_with_all_that_is_known_of_them(path: Path) -> None:
    path.write_text(
        FULL + 'S1,U1,lower,A1,open,review,qa1,2026-11-21T10:00:00+01:00,"seen twice, sure"\nS1,U1,upper,B2,good,,,,\n'
    )
    labels = read_labels(path)
    assert list(labels) == [("S1", "U1", "lower", "A1"), ("S1", "U1", "upper", "B2")]
    joint = labels["S1", "U1", "lower", "A1"]
    assert (joint.label, joint.source, joint.labelled_by) == ("open", "review", "qa1")
    assert (joint.labelled_at, joint.note, joint.line) == ("2026-11-21T10:00:00+01:00", "seen twice, sure", 2)
    assert labels.serials == ("S1",)
    with pytest.raises(FrozenInstanceError):
        joint.label = "good"  # type: ignore[misc]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_either_line_end_with_or_without_byte_order_mark(path: Path, end: str, mark: bytes) -> None:
    path.write_bytes(mark + (HEAD + "Ж-1,U1,lower,A1,good\n").replace("\n", end).encode())
    assert list(read_labels(path)) == [("Ж-1", "U1", "lower", "A1")]


@pytest.mark.parametrize("sign", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_whatever_excel_saves_as_unicode_is_read(path: Path, sign: str, encoding: str) -> None:
    """What it calls "CSV UTF-8" has a byte order mark, and the country's separator; "Unicode Text" is UTF-16 with tabs."""
    path.write_bytes((HEAD + "Ж-1,U1,lower,A1,good\n").replace(",", sign).replace("\n", "\r\n").encode(encoding))
    assert list(read_labels(path)) == [("Ж-1", "U1", "lower", "A1")]


def test_a_later_line_replaces_an_earlier_one(path: Path) -> None:
    path.write_text(HEAD + "S1,U1,lower,A1,open\nS1,U1,lower,A2,good\nS1,U1,lower,A1,good\n")
    labels = read_labels(path)
    assert len(labels) == 2
    assert (labels["S1", "U1", "lower", "A1"].label, labels["S1", "U1", "lower", "A1"].line) == ("good", 4)


def test_columns_in_any_order_with_others_between(path: Path) -> None:
    path.write_text("shift,label,ball,interface,refdes,serial\nnight,starved,A1,upper,U1,S1\n")
    assert read_labels(path)["S1", "U1", "upper", "A1"].label == "starved"


def test_no_rows_are_no_labels(path: Path) -> None:
    path.write_text(HEAD)
    assert len(read_labels(path)) == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (HEAD + "S1,U1,lower,A1,solder_ball\n", "line 2: label.*solder_ball"),
        (HEAD + "S1,U1,lower,A1,good\nS1,U1,lower,A2,\n", "line 3: label"),
        (HEAD + "S1,U1,lower,A1,Good\n", "line 2: label"),
        (HEAD + "S1,U1,lower,A1,good \n", "line 2: label"),
        (HEAD + "S1,U1,middle,A1,good\n", "line 2: expected a joint.*middle"),
        (HEAD + ",U1,lower,A1,good\n", "line 2: expected a joint"),
        (HEAD + "S1,U1,lower,,good\n", "line 2: expected a joint"),
        (HEAD + "S1,U1,lower,A1\n", "line 2: expected 5 values, found 4"),
        ("serial,refdes,interface,label\nS1,U1,lower,good\n", "line 1.*ball"),
        (HEAD.replace(",", ";", 2) + "S1;U1;lower,A1,good\n", "line 1.*commas"),
        (HEAD + 'S1,U1,lower,A1,good\n"S2,U1,lower,A1,good\n', "line 3"),
        (HEAD.encode("utf-16")[:-1], "UTF-8"),
        (HEAD.encode() + b"S\xe41,U1,lower,A1,good\n", "UTF-8.*byte 0xe4"),
    ],
)
def test_a_file_that_is_not_as_it_must_be_is_refused_with_its_line(path: Path, text: str | bytes, said: str) -> None:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(LabelsFault, match=f"labels.csv: (?s:{said})" if "UTF-8" not in said else said):
        read_labels(path)


def test_a_file_that_is_not_there_or_empty(path: Path) -> None:
    with pytest.raises(FileFault, match="No such file"):
        read_labels(path)
    path.write_bytes(b"")
    with pytest.raises(FileFault, match="empty"):
        read_labels(path)


def test_joints_that_the_board_does_not_have_are_refused(path: Path, recipe: Recipe) -> None:
    path.write_text(HEAD + "S1,U1,lower,A1,good\nS1,U1,upper,D4,good\n")
    labels = read_labels(path)
    check_labels(labels, {"S2": recipe})  # nothing is known of S1's board: it is in another batch
    with pytest.raises(LabelsFault, match=r"line 3: .*U1/upper/D4 of S1"):
        check_labels(labels, {"S1": recipe})


def test_boards_of_two_products(path: Path, recipe: Recipe) -> None:
    path.write_text(HEAD + "S1,U1,lower,A1,good\nS2,U1,upper,A1,good\n")
    other = replace(
        recipe, digest="f" * 64, packages=(replace(recipe.packages[0], interfaces=recipe.packages[0].interfaces[1:]),)
    )
    check_labels(read_labels(path), {"S1": recipe, "S2": other})
    with pytest.raises(LabelsFault, match="line 2"):
        check_labels(read_labels(path), {"S1": other, "S2": other})


def test_the_samples(shared: Path) -> None:
    labels = read_labels(shared / "exports/line-a/labels.csv")
    recipe = read_recipe(shared / "exports/line-a/recipes/apx17-pop.json", shared / "exports/line-a")
    assert len(labels) > 1000
    check_labels(labels, {"PB2411-013000": recipe})


FIELD = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=20).filter(lambda t: t.strip("\r\n"))
ROWS = st.lists(
    st.tuples(
        FIELD,
        FIELD,
        st.sampled_from(["lower", "upper"]),
        FIELD,
        st.sampled_from(CLASSES),
        st.text(st.characters(exclude_categories=("Cs",))),
    )
)


@pytest.mark.parametrize(("text", "count"), [("", 1.0), ("1", 1.0), ("41.5", 41.5)])
def test_a_label_may_stand_for_the_joints_it_was_drawn_from(path: Path, text: str, count: float) -> None:
    path.write_text(f"serial,refdes,interface,ball,label,stands_for\nB1,U1,lower,A1,good,{text}\n")
    (joint,) = read_labels(path).values()
    assert joint.stands_for == count


@pytest.mark.parametrize("text", ["0", "-3", "many", "nan", "inf", "1e400", "1_000", "１２"])
def test_a_count_that_is_none_is_refused(path: Path, text: str) -> None:
    path.write_text(f"serial,refdes,interface,ball,label,stands_for\nB1,U1,lower,A1,good,{text}\n")
    with pytest.raises(LabelsFault, match="line 2: stands_for"):
        read_labels(path)


def quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


@given(ROWS)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_written_is_read_back(path: Path, rows: list[tuple[str, ...]]) -> None:
    head = "serial,refdes,interface,ball,label,note\r\n"
    path.write_bytes((head + "".join(",".join(map(quoted, row)) + "\r\n" for row in rows)).encode())
    labels = read_labels(path)
    assert {key: (joint.label, joint.note) for key, joint in labels.items()} == {row[:4]: row[4:] for row in rows}


@given(st.binary(max_size=300))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_read_or_refused(path: Path, data: bytes) -> None:
    path.write_bytes(HEAD.encode() + data)
    try:
        read_labels(path)
    except LabelsFault as fault:
        assert "labels.csv" in str(fault)
