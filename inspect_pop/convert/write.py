"""Write one board in the export format: its folder appears whole, or not at all."""

import hashlib
import json
import re
import secrets
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from inspect_pop.convert.stacks import FoundStack
from inspect_pop.convert.surfaces import FoundHeights
from inspect_pop.core.atomic import PART_SUFFIX, write_bytes
from inspect_pop.core.errors import FileFault, RecipeFault
from inspect_pop.ingest.document import parse_json
from inspect_pop.ingest.files import BOUNDS, read_bytes, resolve_inside
from inspect_pop.ingest.pop_export import MANIFEST, READER

__all__ = ["copy_recipe", "make_folder_name", "write_board"]

_PLAIN = re.compile(r"[^A-Za-z0-9._-]")


def make_folder_name(serial: str) -> str:
    """Return a folder's name for a serial: it never is a path, and no two serials share one."""
    plain = _PLAIN.sub("_", serial)[:100]
    if plain == serial and not plain.startswith("."):
        return plain
    return f"{plain.lstrip('.') or 'board'}-{hashlib.sha256(serial.encode()).hexdigest()[:8]}"


def copy_recipe(path: Path, out: Path) -> Path:
    """Copy a recipe and its tables into the batch, byte for byte; return where it lies. Raises `RecipeFault` and `PathFault`.

    Another recipe of the same name that is there already stays; this one then goes into a folder named by its digest.
    """
    data = read_bytes(path, BOUNDS.recipe_bytes, RecipeFault)
    document = parse_json(path, data, RecipeFault)
    names = [i.get("joints") for p in document.get("packages", []) for i in p.get("interfaces", [])]
    files = {path.name: data}
    for name in names:
        table = resolve_inside(str(name), path.parent, path.parent, f"{path}: joints")
        files[table.relative_to(path.parent.resolve()).as_posix()] = read_bytes(table, BOUNDS.table_bytes, RecipeFault)
    digest = hashlib.sha256(b"".join(files.values())).hexdigest()[:8]
    for folder in (out / "recipes", out / "recipes" / digest):
        if all(not (folder / n).exists() or (folder / n).read_bytes() == content for n, content in files.items()):
            break
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if not (folder / name).exists():
            write_bytes(folder / name, content)
    return folder / path.name


def write_board(
    folder: Path,
    fields: dict[str, Any],
    images: Sequence[FoundStack | FoundHeights],
    assumed: Sequence[str],
    source: dict[str, Any],
    root: Path,
) -> None:
    """Write the folder of a board; an older one there is replaced once the new one is whole.

    Args:
        folder: Where it appears.
        fields: All of export.json but schema, images, `assumed` and `source`.
        images: What it shows.
        assumed: What was found or guessed of the board; that of the images follows.
        source: Where it comes from, kept in export.json.
        root: The batch, in which the recipe lies.

    Raises:
        InputFault: What was written would be refused when it is read.
        OSError: It cannot be written.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = folder.with_name(f".{folder.name[:100]}.{secrets.token_hex(4)}{PART_SUFFIX}")
    try:
        part.mkdir()
        entries = [_write_image(part, image) for image in images]
        document = {
            "schema": "pop-export/1",
            **fields,
            "images": entries,
            "assumed": [*assumed, *(text for image in images for text in image.assumed)],
            "source": source,
        }
        (part / MANIFEST).write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8", newline="\n")
        READER.open(part, root)
        _replace_folder(part, folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _replace_folder(part: Path, folder: Path) -> None:
    """Move a folder to its place. Between the two moves of a replacement the place is empty, never half full."""
    if not folder.exists():
        part.replace(folder)
        return
    if not (folder / MANIFEST).is_file():
        raise FileFault(str(folder), expected="a board, or nothing there", found="something else", remedy="Name another --out.")
    old = folder.with_name(f".{folder.name[:100]}.{secrets.token_hex(4)}{PART_SUFFIX}")
    folder.replace(old)
    part.replace(folder)
    shutil.rmtree(old, ignore_errors=True)


def _write_image(folder: Path, image: FoundStack | FoundHeights) -> dict[str, Any]:
    if isinstance(image, FoundStack):
        stack = image.stack
        file = f"xray/{make_folder_name(stack.refdes)}_{stack.interface}.tif"
        return {
            "kind": "xray_slices",
            "refdes": stack.refdes,
            "interface": stack.interface,
            "file": file,
            "sha256": _write_tiff(folder / file, stack.values),
            "z_um": [float(z) for z in stack.z_um],
            "pixel_um": float(stack.grid.pixel_um),
            "origin_um": [float(v) for v in stack.grid.origin_um],
            "polarity": stack.polarity,
            "method": stack.method,
            "planes": list(image.taken),
        }
    heights = image.heights
    file = f"height/{make_folder_name(heights.refdes)}_{heights.stage}.tif"
    return {
        "kind": "height_map",
        "refdes": heights.refdes,
        "stage": heights.stage,
        "file": file,
        "sha256": _write_tiff(folder / file, heights.height_um),
        "pixel_um": float(heights.grid.pixel_um),
        "origin_um": [float(v) for v in heights.grid.origin_um],
        "scale_um": 1.0,
        "offset_um": 0.0,
        "no_data": None,
    }


def _write_tiff(path: Path, values: NDArray[Any]) -> str:
    """Write the pages of one file and return its sha256."""
    path.parent.mkdir(parents=True, exist_ok=True)
    predictor = values.dtype.kind == "u"
    pages = np.ascontiguousarray(values)
    # zstd packs a plane ten times faster than deflate, and about as small.
    tifffile.imwrite(
        path,
        pages,
        compression="zstd",
        compressionargs={"level": 1},
        predictor=predictor,
        photometric="minisblack",
        metadata=None,
        maxworkers=1,
    )
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
