"""Rewrite exports as a machine's own files, convert them back, and compare the verdicts with those of the exports.

python scripts/studies/measure_conversion.py BOARD… [--kinds png,jpeg,vgi,nrrd,mhd,dicom] [--out DIR]

Volumes have 60 planes, interpolated between the slices; with `-flip` in its name a kind stores the upper interface upside down.
"""

import argparse
import json
import shutil
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from inspect_pop.classify.model import load
from inspect_pop.classify.session import Classifier
from inspect_pop.convert.batch import convert_batch
from inspect_pop.core.limits import Limits
from inspect_pop.ingest import open_export
from inspect_pop.pipeline.board import inspect_board

KINDS = ("png", "jpeg", "vgi", "vgi-flip", "nrrd", "nrrd-flip", "mhd", "mhd-flip", "dicom", "dicom-flip")
PLANES = 60
FILES = {"png": "{}/*.png", "jpeg": "{}/*.jpg", "vgi": "{}/scan.vgi", "nrrd": "{}/scan.nrrd", "mhd": "{}/scan.mhd", "dicom": "{}"}


def interpolate(values: NDArray[Any], z_um: tuple[float, ...], margin_um: float = 0.0) -> tuple[NDArray[Any], float]:
    """Interpolate 60 planes between slices; return them and their distance in um."""
    heights = np.linspace(z_um[0] - margin_um, z_um[-1] + margin_um, PLANES)
    at = np.clip(np.interp(heights, z_um, np.arange(len(z_um))), 0, len(z_um) - 1)
    low = np.minimum(at.astype(int), len(z_um) - 2)
    part = (at - low)[:, None, None]
    planes = values[low] * (1 - part) + values[low + 1] * part
    return np.rint(planes).astype(values.dtype) if values.dtype.kind in "ui" else planes.astype(values.dtype), heights[
        1
    ] - heights[0]


def write_volume(folder: Path, kind: str, planes: NDArray[Any], pixel_um: float, step_um: float) -> None:
    """Write one volume as `kind`."""
    folder.mkdir(parents=True)
    spacing = (pixel_um / 1e3, pixel_um / 1e3, step_um / 1e3)
    if kind == "vgi":
        planes.astype("<u2").tofile(folder / "scan.vol")
        size = " ".join(map(str, planes.shape[::-1]))
        text = (
            f"{{volume1}}\n[file1]\nSize = {size}\nName = D:\\scans\\scan.vol\nDatatype = unsigned integer\nBitsPerElement = 16\n"
        )
        text += f"{{volumeprimitive1}}\n[geometry]\nresolution = {' '.join(map(repr, map(float, spacing)))}\nunit = mm\n"
        (folder / "scan.vgi").write_text(text)
    elif kind == "nrrd":
        head = "NRRD0004\ntype: uint16\ndimension: 3\nsizes: {2} {1} {0}\nendian: little\nencoding: raw\n".format(*planes.shape)
        head += f"spacings: {' '.join(map(str, spacing))}\n\n"
        (folder / "scan.nrrd").write_bytes(head.encode() + planes.astype("<u2").tobytes())
    elif kind == "mhd":
        planes.astype("<u2").tofile(folder / "scan.raw")
        head = f"ObjectType = Image\nNDims = 3\nDimSize = {' '.join(map(str, planes.shape[::-1]))}\nElementType = MET_USHORT\n"
        head += f"ElementSpacing = {' '.join(map(str, spacing))}\nElementDataFile = scan.raw\n"
        (folder / "scan.mhd").write_text(head)
    else:
        write_dicom(folder, planes, spacing)


def write_dicom(folder: Path, planes: NDArray[Any], spacing_mm: tuple[float, float, float]) -> None:
    """Write one file a plane, under names in another order than their positions."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

    for k, plane in enumerate(planes):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
        meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[str(k)])
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        data = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
        data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
        data.Rows, data.Columns = plane.shape
        data.BitsAllocated = data.BitsStored = 16
        data.HighBit, data.PixelRepresentation, data.SamplesPerPixel = 15, 0, 1
        data.PhotometricInterpretation = "MONOCHROME2"
        data.PixelSpacing = [f"{spacing_mm[1]:.6g}", f"{spacing_mm[0]:.6g}"]
        data.ImagePositionPatient = ["0", "0", f"{k * spacing_mm[2]:.6g}"]
        data.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        data.PixelData = plane.astype("<u2").tobytes()
        data.save_as(folder / f"{(k * 37) % 1000:04d}.dcm", enforce_file_format=True)


def rewrite(board: Path, out: Path, kind: str) -> Path:
    """Write a board as a machine would; return the map that reads it."""
    export = open_export(board)
    name, _, flip = kind.partition("-")
    time = datetime.fromisoformat(export.inspected_at)
    folder = out / "scans" / f"{export.serial}_{time:%Y%m%d%H%M%S}"
    lines = [
        "[board]",
        'path = "{serial}_{time:%Y%m%d%H%M%S}"',
        f'utc_offset = "{time:%z}"'.replace('00"', ':00"'),
        f'line = "{export.line}"',
    ]
    recipe = board.parents[1] / "recipes"
    file = json.loads((board / "export.json").read_text())["recipe"].rpartition("/")[2]
    shutil.copytree(recipe, out / "recipes", dirs_exist_ok=True)
    lines += [f'station = "{export.station}"', f'recipe = "recipes/{file}"']
    for source in export.slices:
        stack = source.read()
        place = folder / source.interface
        lines += [
            "[[image]]",
            f'kind = "xray_slices"\nrefdes = "{source.refdes}"\ninterface = "{source.interface}"',
        ]
        lines.append(f'files = "{FILES[name].format(source.interface)}"')
        if name in ("png", "jpeg"):
            place.mkdir(parents=True)
            values = stack.values
            if name == "jpeg":
                low, high = float(values.min()), float(values.max())
                values = np.rint((values - low) / (high - low) * 255).astype(np.uint8)
            for k, page in enumerate(values):
                options = [cv2.IMWRITE_JPEG_QUALITY, 95] if name == "jpeg" else []
                cv2.imwrite(str(place / f"slice{k + 8}.{'jpg' if name == 'jpeg' else 'png'}"), page, options)
            lines += [f"pixel_um = {stack.grid.pixel_um}", f"z_um = {list(stack.z_um)}"]
        else:
            planes, step_um = interpolate(stack.values, stack.z_um)
            planes = planes[::-1] if flip and source.interface == "upper" else planes
            write_volume(place, name, planes, stack.grid.pixel_um, step_um)
        lines.append(f'method = "{stack.method}"')
    for entry in json.loads((board / "export.json").read_text())["images"]:
        if entry["kind"] == "height_map":
            (folder / "height").mkdir(exist_ok=True, parents=True)
            shutil.copyfile(board / entry["file"], folder / "height" / f"{entry['stage']}.tif")
            lines += ["[[image]]", 'kind = "height_map"', f'refdes = "{entry["refdes"]}"', f'stage = "{entry["stage"]}"']
            lines += [f'files = "height/{entry["stage"]}.tif"', f"pixel_um = {entry['pixel_um']}"]
            if entry["no_data"] is None:
                lines.append('unit = "um"')
            else:
                lines += [f"{key} = {entry[key]}" for key in ("scale_um", "offset_um", "no_data")]
    path = out / "map.toml"
    path.write_text("\n".join(lines) + "\n")
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description="Convert rewritten exports and compare the verdicts.")
    parser.add_argument("boards", nargs="+", type=Path)
    parser.add_argument("--kinds", default=",".join(KINDS))
    options = parser.parse_args()
    classifier, now = Classifier(load(None)), datetime.now(UTC).isoformat()
    for board in options.boards:
        want = inspect_board(open_export(board), classifier, Limits(), started_at=now).joints
        for kind in options.kinds.split(","):
            with tempfile.TemporaryDirectory() as name:
                out = Path(name)
                (outcome,) = convert_batch([out / "scans"], rewrite(board, out, kind), out / "batch")
                if outcome.folder is None:
                    print(f"{board.name} {kind}: {outcome.reason}")
                    continue
                got = inspect_board(open_export(outcome.folder), classifier, Limits(), started_at=now).joints
                same = want["verdict"] == got["verdict"]
                lost = int(((want["verdict"] == "fail") & (got["verdict"] == "pass")).sum())
                turned = sum("first_plane: top" in text for text in outcome.assumed)
                print(
                    f"{board.name} {kind}: {same.mean():.2%} of {len(same)} equal, {lost} fail to pass, {turned} turned",
                    flush=True,
                )


if __name__ == "__main__":
    main()
