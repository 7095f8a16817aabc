"""Files at arm's length."""

import os
from pathlib import Path

import pytest

from inspect_pop.core.errors import FileFault, LabelsFault, PathFault
from inspect_pop.ingest import files
from inspect_pop.ingest.files import decode_text, hash_file, measure_file, read_bytes, resolve_inside
from tests.ingest.bounded import within_bounds


def test_bytes_are_read_whole(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(range(256)) * 50)
    assert read_bytes(tmp_path / "a", 12_800) == bytes(range(256)) * 50


def test_a_file_over_the_limit_is_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_bytes(b"123456")
    monkeypatch.setattr(os, "open", None)
    with pytest.raises(FileFault, match="at most 5 bytes, found 6"):
        read_bytes(tmp_path / "a", 5)


@pytest.mark.parametrize(
    ("size", "said"),
    [
        (3, "expected 3 bytes, found 4 or more"),  # it grew after it was measured
        (9, "expected 9 bytes, found 6"),  # it was cut
    ],
)
def test_a_file_that_changes_meanwhile_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, said: str) -> None:
    (tmp_path / "a").write_bytes(b"123456")
    monkeypatch.setattr(files, "measure_file", lambda path, fault: size)
    with pytest.raises(FileFault, match=said):
        read_bytes(tmp_path / "a", 100)


def test_a_file_that_vanishes_meanwhile_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "measure_file", lambda path, fault: 6)
    with pytest.raises(FileFault, match="No such file"):
        read_bytes(tmp_path / "a", 100)


def test_a_pipe_that_takes_a_files_place_does_not_hang(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "a")
    monkeypatch.setattr(files, "measure_file", lambda path, fault: 6)
    with within_bounds(), pytest.raises(FileFault, match="expected 6 bytes, found 0"):
        read_bytes(tmp_path / "a", 100)


def test_a_file_that_may_not_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_bytes(b"123456")

    def forbidden(path: Path, flags: int) -> int:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "open", forbidden)
    with pytest.raises(FileFault, match="found Permission denied"):
        read_bytes(tmp_path / "a", 100)


@pytest.mark.parametrize("name", ["/dev/zero", "/dev/tty", "/", "/nowhere", "/etc/passwd/x", "/tmp/" + "x" * 400, "/a\0b"])
def test_what_is_no_file_is_refused_unopened(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "open", None)
    with pytest.raises(LabelsFault):
        measure_file(Path(name), LabelsFault)
    with pytest.raises(LabelsFault):
        read_bytes(Path(name), 100, LabelsFault)


def test_text_with_and_without_byte_order_mark() -> None:
    assert decode_text(Path("a"), "Prüfung\r\n".encode("utf-8-sig"), FileFault) == "Prüfung\r\n"
    assert decode_text(Path("a"), "Prüfung\r\n".encode(), FileFault) == "Prüfung\r\n"
    assert decode_text(Path("a"), "Prüfung\r\n".encode("utf-16"), FileFault) == "Prüfung\r\n"
    with pytest.raises(FileFault, match="UTF-8 text"):
        decode_text(Path("a"), b"\xfe\xff\x00P\x00", FileFault)  # cut in the middle of a letter


def test_text_of_another_encoding_is_refused_with_the_byte() -> None:
    with pytest.raises(FileFault, match="byte 0xfc at 2"):
        decode_text(Path("a"), "Prüfung".encode("latin-1"), FileFault)


def test_hash(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert hash_file(tmp_path / "a", 3) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, B.1


@pytest.mark.parametrize("name", ["b.tif", "./b.tif", "sub/../b.tif", "link-inside"])
def test_inside(tmp_path: Path, name: str) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "b.tif").write_bytes(b"x")
    (tmp_path / "link-inside").symlink_to("b.tif")
    assert resolve_inside(name, tmp_path, tmp_path, "images[0].file") == (tmp_path / "b.tif").resolve()


@pytest.mark.parametrize(
    "name", ["..", "../b", "sub/../../b", "/etc/passwd", "link-outside", "link-outside/deeper", "circle", "a\0b"]
)
def test_outside(tmp_path: Path, name: str) -> None:
    top = tmp_path / "board"
    (top / "sub").mkdir(parents=True)
    (top / "link-outside").symlink_to(tmp_path)
    (top / "circle").symlink_to("circle")
    with pytest.raises(PathFault, match=r"images\[0\]\.file"):
        resolve_inside(name, top, top, "images[0].file")


def test_a_folder_whose_name_begins_the_same_is_outside(tmp_path: Path) -> None:
    with pytest.raises(PathFault):
        resolve_inside("../board-2/a.tif", tmp_path / "board", tmp_path / "board", "file")


def test_an_absolute_path_is_refused_even_where_it_leads_inside(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(b"x")
    with pytest.raises(PathFault, match="a path relative to"):
        resolve_inside(str(tmp_path / "a.tif"), tmp_path, tmp_path, "file")


def test_a_name_of_other_case_or_form_stands_for_the_one_file_that_has_it(tmp_path: Path) -> None:
    """A Windows machine does not tell them apart, and macOS writes accents as signs of their own."""
    board = tmp_path / "board"
    (board / "XRay").mkdir(parents=True)
    (board / "XRay/L\u00f6t.TIF").touch()
    for name in ("xray/l\u00f6t.tif", "XRAY\\LO\u0308T.tif", "XRay/Lo\u0308t.TIF"):
        assert resolve_inside(name, board, board, "file") == board / "XRay/L\u00f6t.TIF"
    (board / "XRay/l\u00f6t.Tif").touch()
    assert resolve_inside("XRay/l\u00f6t.Tif", board, board, "file") == board / "XRay/l\u00f6t.Tif"
    assert not resolve_inside("XRay/L\u00d6T.tif", board, board, "file").exists()  # which of the two?


def test_a_name_of_other_case_leads_nowhere_else(tmp_path: Path) -> None:
    board = tmp_path / "board"
    board.mkdir()
    (tmp_path / "Secret").touch()
    (board / "Link").symlink_to(tmp_path)
    with pytest.raises(PathFault) as raised:
        resolve_inside("../secret", board, board, "file")
    assert "Secret" not in str(raised.value)
    with pytest.raises(PathFault):
        resolve_inside("link/Secret", board, board, "file")


def test_backslashes_separate_folders(tmp_path: Path) -> None:
    """A machine with Windows writes them; a file that has one in its name is still found."""
    (tmp_path / "board/xray").mkdir(parents=True)
    board = tmp_path / "board"
    for name in ("xray/a.tif", "b\\c.tif"):
        (board / name).touch()
    assert resolve_inside("xray\\a.tif", board, board, "file") == board / "xray/a.tif"
    assert resolve_inside("..\\r\\r.json", board, tmp_path, "file") == tmp_path / "r/r.json"
    assert resolve_inside("b\\c.tif", board, board, "file") == board / "b\\c.tif"
    for name in ("C:\\axi\\a.tif", "\\\\axi\\exports\\a.tif", "\\axi\\a.tif", "..\\..\\a.tif", "C:a.tif"):
        with pytest.raises(PathFault):
            resolve_inside(name, board, tmp_path, "file")
