"""Zips that are broken in ways of their own: each is a declared fault."""

import errno
import zipfile
from io import BytesIO
from pathlib import Path

import pytest

from inspect_pop.core.errors import FileFault, InputFault, PathFault, StoreFault
from inspect_pop.station import uploads
from inspect_pop.station.uploads import ArchiveLimits, unpack

MANIFEST = ("b/export.json", b"{}")


def pack(*members: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = BytesIO()
    with zipfile.ZipFile(out, "w", method) as made:
        for name, data in members:
            made.writestr(name, data)
    return out.getvalue()


def unpack_bytes(data: bytes, tmp_path: Path) -> Path:
    (tmp_path / "into").mkdir()
    (tmp_path / "upload.zip").write_bytes(data)
    return unpack(tmp_path / "upload.zip", tmp_path / "into", ArchiveLimits())


def test_the_folder_of_the_one_board(tmp_path: Path) -> None:
    board = unpack_bytes(pack(MANIFEST, ("b/xray/", b""), ("b/xray/a.tif", b"II")), tmp_path)
    assert board == tmp_path / "into" / "b"
    assert (board / "xray/a.tif").read_bytes() == b"II"


def test_backslashes_separate_folders(tmp_path: Path) -> None:
    board = unpack_bytes(
        pack(("boards\\b\\export.json", b"{}"), ("boards\\b\\xray\\", b""), ("boards/b/xray\\a.tif", b"II")), tmp_path
    )
    assert board == tmp_path / "into/boards/b"
    assert (board / "xray/a.tif").read_bytes() == b"II"


@pytest.mark.parametrize("name", ["..\\out", "a\\..\\..\\out", "\\out", "\\\\server\\out", "C:\\out", "a\\" * 9 + "out", "\\"])
def test_backslashes_lead_nowhere_else(tmp_path: Path, name: str) -> None:
    with pytest.raises(PathFault):
        unpack_bytes(pack(MANIFEST, (name, b"")), tmp_path)
    assert not (tmp_path / "out").exists()


def test_one_name_written_in_two_ways_is_one_name(tmp_path: Path) -> None:
    with pytest.raises(FileFault, match="each name once"):
        unpack_bytes(pack(MANIFEST, ("b/a.tif", b"1"), ("b\\a.tif", b"2")), tmp_path)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compressions_are_refused(tmp_path: Path, method: int) -> None:
    with pytest.raises(FileFault, match="compression method"):
        unpack_bytes(pack(MANIFEST, method=method), tmp_path)


@pytest.mark.parametrize("names", [("a", "a/b"), ("a", "a/b/c"), ("a", "a/b/"), ("a", "a/"), ("a/b", "a")])
def test_a_name_that_is_a_file_and_a_folder(tmp_path: Path, names: tuple[str, str]) -> None:
    with pytest.raises(FileFault, match="each name once"):
        unpack_bytes(pack(MANIFEST, *((name, b"") for name in names)), tmp_path)


def test_a_name_that_is_short_in_letters_and_long_in_bytes(tmp_path: Path) -> None:
    with pytest.raises(PathFault, match="bytes long"):
        unpack_bytes(pack(MANIFEST, ("ü" * 150, b"")), tmp_path)


@pytest.mark.parametrize("cut", range(1, 40))
def test_a_zip_whose_beginning_is_lost(tmp_path: Path, cut: int) -> None:
    """Its directory points before the file's first byte."""
    with pytest.raises(InputFault):
        unpack_bytes(pack(MANIFEST)[cut:], tmp_path)


def test_a_member_that_lies_beyond_any_position(tmp_path: Path) -> None:
    data = bytearray(pack(MANIFEST))
    at = data.rfind(b"PK\x01\x02")
    data[at + 42 : at + 46] = b"\xff\xff\xff\xff"  # the position is in a field of 64 bits
    data[at + 30 : at + 32] = (12).to_bytes(2, "little")
    name_end = at + 46 + len(MANIFEST[0])
    data[name_end:name_end] = b"\x01\x00\x08\x00" + b"\xfe" * 8
    end = data.rfind(b"PK\x05\x06")
    data[end + 12 : end + 16] = (end - at).to_bytes(4, "little")
    with pytest.raises(FileFault):
        unpack_bytes(bytes(data), tmp_path)


def test_a_full_disk_is_not_the_senders_doing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(uploads, "_copy", full)
    with pytest.raises(StoreFault, match="No space"):
        unpack_bytes(pack(MANIFEST), tmp_path)
