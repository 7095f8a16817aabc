"""Readers of volumes, each against the bytes that another program wrote, and what they refuse."""

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inspect_pop.convert.map_file import ImageMap
from inspect_pop.convert.stacks import open_planes
from inspect_pop.core.errors import FileFault, ImageFault, InputFault, PathFault
from tests.convert.boards import write_vgi

VOLUME = np.random.default_rng(0).integers(0, 60000, (9, 20, 31), dtype=np.uint16)
IMAGE = ImageMap(kind="xray_slices", refdes="U1", interface="lower", files="*")


def read_all(path: Path, **declared: Any) -> Any:
    planes = open_planes([path], path.parent, IMAGE.model_copy(update=declared))
    assert np.array_equal(planes.read(3, range(1, planes.shape[0], 4)), planes.read_plane(3)[1::4])
    return np.stack([planes.read_plane(k) for k in range(planes.count)])


@pytest.mark.parametrize("name", ["a.mhd", "a.mha", "a.nrrd", "a.nhdr", "a.nii", "a.nii.gz", "a.hdr"])
@pytest.mark.parametrize("packed", [False, True])
def test_what_simpleitk_wrote_is_read(tmp_path: Path, name: str, packed: bool) -> None:
    sitk = pytest.importorskip("SimpleITK")
    image = sitk.GetImageFromArray(VOLUME)
    image.SetSpacing((0.012, 0.012, 0.005))
    sitk.WriteImage(image, str(tmp_path / name), packed)
    assert np.array_equal(read_all(tmp_path / name), VOLUME)
    planes = open_planes([tmp_path / name], tmp_path, IMAGE)
    assert planes.pixel_um == pytest.approx((12, 12)) and planes.step_um == pytest.approx(5)


@pytest.mark.parametrize("name", ["a.mhd", "a.mha", "a.nrrd", "a.nii.gz"])
@pytest.mark.parametrize("signs", [(-1, 1, 1), (1, -1, 1), (1, 1, -1), (-1, -1, 1), (-1, 1, -1), (-1, -1, -1)])
def test_an_axis_that_runs_backwards_is_turned_round(tmp_path: Path, name: str, signs: tuple[int, ...]) -> None:
    sitk = pytest.importorskip("SimpleITK")
    image = sitk.GetImageFromArray(VOLUME[:: signs[2], :: signs[1], :: signs[0]])
    image.SetDirection(np.diag(signs).astype(float).ravel().tolist())
    sitk.WriteImage(image, str(tmp_path / name))
    found = read_all(tmp_path / name)
    if name == "a.nii.gz":  # its x and y run either way in a plain volume: it is not mirrored, but may be turned by 180 degrees
        found = found if np.array_equal(found, VOLUME) else found[:, ::-1, ::-1]
    assert np.array_equal(found, VOLUME)
    assert any("turned round" in note for note in open_planes([tmp_path / name], tmp_path, IMAGE).notes) or name == "a.nii.gz"


def test_a_volume_that_lies_askew_is_taken_as_it_is_unless_it_is_mirrored(tmp_path: Path) -> None:
    sitk = pytest.importorskip("SimpleITK")
    image = sitk.GetImageFromArray(VOLUME)
    image.SetDirection((0, 1, 0, 0, 0, 1, 1, 0, 0))
    sitk.WriteImage(image, str(tmp_path / "a.nrrd"))
    assert np.array_equal(read_all(tmp_path / "a.nrrd"), VOLUME)
    image.SetDirection((0, 1, 0, 1, 0, 0, 0, 0, 1))
    sitk.WriteImage(image, str(tmp_path / "a.nrrd"))
    with pytest.raises(ImageFault, match="a mirrored one"):
        open_planes([tmp_path / "a.nrrd"], tmp_path, IMAGE)


@pytest.mark.parametrize("encoding", ["raw", "gzip", "bzip2"])
def test_what_pynrrd_wrote_is_read(tmp_path: Path, encoding: str) -> None:
    nrrd = pytest.importorskip("nrrd")
    nrrd.write(str(tmp_path / "a.nrrd"), VOLUME, {"encoding": encoding, "spacings": [0.012, 0.012, 0.005]}, index_order="C")
    assert np.array_equal(read_all(tmp_path / "a.nrrd"), VOLUME)


def test_a_vgi_pair_is_read_by_the_last_part_of_its_name(tmp_path: Path) -> None:
    path = write_vgi(tmp_path, VOLUME)
    assert np.array_equal(read_all(path), VOLUME)
    path.write_text(path.read_text().replace("Size =", "size = ").replace("BitsPerElement = 16\n", ""))  # as Omron writes it
    (tmp_path / "scan.vol").rename(tmp_path / "scan.rec")
    assert np.array_equal(read_all(path), VOLUME)


def test_a_pcr_pair_is_read(tmp_path: Path) -> None:
    VOLUME.astype("<u2").tofile(tmp_path / "a.vol")
    text = "[ReconstructionData]\nVolume_SizeX=31\nVolume_SizeY=20\nVolume_SizeZ=9\nVoxelSizeRec=0.012\n[VolumeData]\nFormat=5\n"
    (tmp_path / "a.pcr").write_text(text)
    assert np.array_equal(read_all(tmp_path / "a.pcr"), VOLUME)
    assert open_planes([tmp_path / "a.pcr"], tmp_path, IMAGE).step_um == pytest.approx(12)


def test_declared_raw_pixels_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.raw").write_bytes(b"headhead" + VOLUME.astype(">u2").tobytes())
    declared = {"shape": [9, 20, 31], "dtype": "uint16", "byte_order": "big", "skip_bytes": 8}
    assert np.array_equal(read_all(tmp_path / "a.raw", **declared), VOLUME)


def write_head(folder: Path, name: str, text: str, data: bytes = b"") -> Path:
    (folder / name).write_bytes(text.encode() + data)
    return folder / name


NRRD = "NRRD0004\ntype: uint16\ndimension: 3\nsizes: 31 20 9\nendian: little\nencoding: {}\n{}\n"
MHD = "NDims = 3\nDimSize = 31 20 9\nElementType = MET_USHORT\nElementDataFile = {}\n"


@pytest.mark.parametrize("missing", [1, 31 * 2, 31 * 20 * 2])
def test_a_volume_whose_size_disagrees_with_its_header_is_refused(tmp_path: Path, missing: int) -> None:
    data = VOLUME.astype("<u2").tobytes()[:-missing]
    paths = [
        write_vgi(tmp_path, VOLUME, Size="31 20 10"),
        write_head(tmp_path, "a.nrrd", NRRD.format("raw", ""), data),
        write_head(tmp_path, "b.nrrd", NRRD.format("gzip", ""), gzip.compress(data)),
        write_head(tmp_path, "a.mha", MHD.format("LOCAL"), data),
    ]
    for path in paths:
        with pytest.raises(FileFault):
            read_all(path)


def test_a_volume_that_is_longer_than_its_header_says_is_of_another_type(tmp_path: Path) -> None:
    data = VOLUME.astype("<u2").tobytes()
    for path in (
        write_vgi(tmp_path, VOLUME, BitsPerElement="8"),
        write_head(tmp_path, "a.nrrd", NRRD.format("raw", "").replace("uint16", "uint8"), data),
        write_head(tmp_path, "a.mha", MHD.format("LOCAL").replace("MET_USHORT", "MET_UCHAR"), data),
    ):
        with pytest.raises(FileFault, match="describes another volume or type"):
            read_all(path)


def test_a_bomb_unpacks_to_no_more_than_its_header_says(tmp_path: Path) -> None:
    path = write_head(tmp_path, "a.nrrd", NRRD.format("gzip", ""), gzip.compress(b"\0" * 50_000_000))
    with pytest.raises(FileFault, match="more than"):
        read_all(path)
    huge = NRRD.replace("31 20 9", "60000 3000 9000")
    with pytest.raises(InputFault, match="at most"):
        read_all(write_head(tmp_path, "b.nrrd", huge.format("gzip", ""), gzip.compress(b"\0")))


@pytest.mark.parametrize("name", ["../secret.raw", "/etc/passwd", "..\\secret.raw", "link.raw"])
def test_a_data_file_never_lies_outside_the_board(tmp_path: Path, name: str) -> None:
    board = tmp_path / "board"
    board.mkdir()
    VOLUME.tofile(tmp_path / "secret.raw")
    (board / "link.raw").symlink_to(tmp_path / "secret.raw")
    for path in (
        write_head(board, "a.mhd", MHD.format(name)),
        write_head(board, "a.nhdr", NRRD.format("raw", f"data file: {name}")),
        write_vgi(board, VOLUME[:1], Name=name, Size="31 20 9"),
    ):
        (board / "scan.vol").unlink(missing_ok=True)
        with pytest.raises((PathFault, FileFault)):
            read_all(path)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.nrrd", "nothing of the kind"),
        ("a.nrrd", NRRD.replace("uint16", "block").format("raw", "")),
        ("a.nrrd", NRRD.replace("31 20 9", "31 20").format("raw", "")),
        ("a.nrrd", NRRD.replace("31 20 9", "31 -20 9").format("raw", "")),
        ("a.nrrd", NRRD.format("hex", "")),
        ("a.mhd", "NDims = 3\n"),
        ("a.mhd", MHD.replace("NDims = 3", "NDims = three").format("a.raw")),
        ("a.vgi", "[file1]\n"),
        ("a.pcr", "[x]\n"),
        ("a.nii", "nothing of the kind"),
        ("a.dcm", "nothing of the kind"),
        ("a.txrm", "nothing of the kind"),
        ("a.unknown", "x"),
    ],
)
def test_a_damaged_header_is_a_declared_fault(tmp_path: Path, name: str, text: str) -> None:
    with pytest.raises((FileFault, ImageFault)):
        read_all(write_head(tmp_path, name, text))


def test_volumes_of_other_tools_are_read(shared: Path) -> None:
    folder = shared / "formats" / "volumes"
    want = np.fromfile(folder / "BallBinary30x30x30.raw", "<i2").reshape(30, 30, 30)
    for path in [*folder.glob("*.nrrd"), *folder.glob("*.nhdr"), *folder.glob("*.nii.gz")]:
        assert np.array_equal(read_all(path), want), path.name


def test_dicom_of_other_tools_is_read(shared: Path) -> None:
    pydicom = pytest.importorskip("pydicom")
    folder = shared / "formats" / "dicom"
    plane = open_planes([folder / "CT_small.dcm"], folder, IMAGE).read_plane(0)
    head = pydicom.dcmread(folder / "CT_small.dcm")
    assert np.array_equal(plane, head.pixel_array + float(head.RescaleIntercept))
    packed = open_planes([folder / "J2K_pixelrep_mismatch.dcm"], folder, IMAGE).read_plane(0)
    assert (packed.dtype, packed.min(), packed.max()) == (np.int16, -2000, 1896)  # as its header has it, not its codestream


def test_projections_of_a_tomography_are_said_to_be_no_volume(shared: Path) -> None:
    pytest.importorskip("olefile")
    folder = shared / "formats" / "txrm"
    planes = open_planes([folder / "txrm_test_chip_tomo.txrm"], folder, IMAGE)
    assert (planes.count, planes.shape, planes.step_um) == (7, (256, 256), None)
    assert "projections" in planes.notes[0]
    assert planes.read_plane(6).std() > 0


def test_a_dicom_series_is_ordered_by_position_not_by_name(tmp_path: Path) -> None:
    pytest.importorskip("pydicom")
    from tests.tools import load_script

    load_script("studies/measure_conversion.py").write_dicom(tmp_path, VOLUME, (0.012, 0.012, 0.005))
    files = sorted(tmp_path.glob("*.dcm"))
    planes = open_planes(files, tmp_path, IMAGE)
    assert np.array_equal(np.stack([planes.read_plane(k) for k in range(9)]), VOLUME)
    assert (planes.pixel_um, planes.step_um) == (pytest.approx((12, 12)), pytest.approx(5))
    with pytest.raises(ImageFault, match="one distance"):
        open_planes([f for f in files if f != files[4]], tmp_path, IMAGE)


@pytest.mark.parametrize(("columns", "rows"), [(-1, 1), (1, -1), (-1, -1)])
def test_a_dicom_series_with_rows_or_columns_backwards_is_turned_round(tmp_path: Path, columns: int, rows: int) -> None:
    pydicom = pytest.importorskip("pydicom")
    from tests.tools import load_script

    stored = VOLUME[:, ::rows, ::columns]
    load_script("studies/measure_conversion.py").write_dicom(tmp_path, stored, (0.012, 0.012, 0.005))
    files = sorted(tmp_path.glob("*.dcm"))
    for file in files:
        head = pydicom.dcmread(file)
        head.ImageOrientationPatient = [columns, 0, 0, 0, rows, 0]
        head.save_as(file)
    planes = open_planes(files, tmp_path, IMAGE)
    assert np.array_equal(np.stack([planes.read_plane(k) for k in range(9)]), VOLUME)
    assert np.array_equal(planes.read(2, range(1, 20, 3)), VOLUME[2, 1:20:3])
