"""Files that appear whole or not at all."""

from pathlib import Path

import pytest

from inspect_pop.core.system import PART_SUFFIX, atomic_file, write_bytes, write_text


@pytest.mark.parametrize("durable", [False, True])
def test_a_file_replaces_the_older_one_whole(tmp_path: Path, durable: bool) -> None:
    path = tmp_path / "a.txt"
    write_bytes(path, b"old")
    write_text(path, "neu\r\nä", durable=durable)
    assert path.read_bytes() == "neu\r\nä".encode()
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_until_the_end_the_older_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with atomic_file(path) as part:
        part.write_text("new")
        assert (path.read_text(), part.parent, part.suffix) == ("old", tmp_path, PART_SUFFIX)
    assert path.read_text() == "new"


def test_an_error_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), atomic_file(path) as part:
        part.write_text("half")
        raise RuntimeError
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
    assert path.read_text() == "old"


def test_a_name_may_be_as_long_as_the_system_allows(tmp_path: Path) -> None:
    write_bytes(tmp_path / ("x" * 250), b"1")
    assert (tmp_path / ("x" * 250)).read_bytes() == b"1"


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError):
        write_bytes(tmp_path / "none" / "a", b"1")
