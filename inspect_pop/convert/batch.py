"""Convert the boards of a machine, or look at its folder and write a first map."""

import hashlib
import json
import multiprocessing
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from inspect_pop.convert import dicom, pictures
from inspect_pop.convert.map_file import (
    FoundBoard,
    ImageMap,
    MachineMap,
    fill_names,
    find_boards,
    list_files,
    load_map,
    natural_key,
)
from inspect_pop.convert.stacks import (
    FEW_PLANES,
    HEADER_SUFFIXES,
    FoundStack,
    VolumeLook,
    find_suffix,
    finish_volumes,
    is_volume,
    look_at_volume,
    open_planes,
    take_pictures,
)
from inspect_pop.convert.surfaces import FoundHeights, take_heights
from inspect_pop.core.errors import FileFault, InputFault, RecipeFault, UsageFault, describe_error
from inspect_pop.core.recipe import Recipe
from inspect_pop.core.system import PART_SUFFIX, write_bytes
from inspect_pop.ingest.document import parse_json
from inspect_pop.ingest.files import BOUNDS, read_bytes, resolve_inside
from inspect_pop.ingest.pop_export import MANIFEST, READER
from inspect_pop.ingest.recipe_file import read_recipe

__all__ = ["Outcome", "convert_batch", "convert_board", "copy_recipe", "make_folder_name", "probe_source", "write_board"]

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


# Convert the boards of a machine: find them, read what the map names, write each in the export format, or say why not.


@dataclass(frozen=True)
class Outcome:
    """What became of one board: `folder` in the batch, or the `reason` why not. `skipped`: it was there already."""

    path: Path
    folder: Path | None
    reason: str = ""
    assumed: tuple[str, ...] = ()
    skipped: bool = False


@dataclass(frozen=True)
class _Task:
    """One board to convert; small enough to send to another process."""

    board: FoundBoard
    map_path: Path
    out: Path
    folder: Path

    def run(self) -> Outcome:
        """Convert the board; a fault of it is its outcome."""
        try:
            if isinstance(self.board.fault, InputFault):
                raise self.board.fault
            return convert_board(self.board, load_map(self.map_path), self.out, self.folder)
        except (InputFault, UsageFault) as fault:
            return Outcome(self.board.path, None, str(fault))


def convert_batch(
    sources: Sequence[Path],
    map_path: Path,
    out: Path,
    *,
    jobs: int = 1,
    progress: Callable[[Outcome], None] | None = None,
) -> list[Outcome]:
    """Convert every board below the sources, in the order in which they are found.

    A board that is in the batch already, from the same files by the same map, is left as it is. Quarantined boards are listed in
    `quarantine.csv` by the caller.

    Args:
        sources: Folders of a machine's boards, or single boards.
        map_path: The map.
        out: The batch; created if missing.
        jobs: Number of processes.
        progress: Called with the outcome of each board.

    Raises:
        MapFault: The map is faulty.
        UsageFault: A source does not exist, or no board was found.
    """
    machine = load_map(map_path)
    boards: dict[Path, FoundBoard] = {}
    for source in sources:
        if not source.exists():
            raise UsageFault(str(source), expected="a file or folder", found="nothing there", remedy="Check its spelling.")
        for board in find_boards(source, machine.pattern):
            boards.setdefault(board.path, board)
    if not boards:
        names = ", ".join(map(str, sources))
        seen = sorted(path.name for path in sources[0].iterdir())[:3] if sources[0].is_dir() else []
        found = f"none, but {', '.join(seen)}" if seen else "none"
        remedy = "Correct path in the map, or name another folder."
        raise UsageFault(names, expected=f"boards named {machine.board.path}", found=found, remedy=remedy)
    out.mkdir(parents=True, exist_ok=True)
    tasks: list[_Task] = []
    taken: set[str] = set()
    for board in boards.values():
        serial = machine.board.serial or board.fields.get("serial") or board.path.name
        name = make_folder_name(serial)
        if name in taken:  # a serial that was inspected several times: its time tells them apart
            time = board.fields.get("time", "").replace(":", "").replace("-", "")
            name = make_folder_name(f"{serial}_{time or board.path}")
        taken.add(name)
        tasks.append(_Task(board, map_path, out.resolve(), out.resolve() / "boards" / name))
    outcomes = []
    with ExitStack() as stack:
        if jobs == 1 or len(tasks) == 1:
            results: Iterator[Outcome] = map(_Task.run, tasks)
        else:
            context = multiprocessing.get_context("spawn")
            pool = stack.enter_context(ProcessPoolExecutor(min(jobs, len(tasks)), mp_context=context))
            results = pool.map(_Task.run, tasks)
        for outcome in results:
            outcomes.append(outcome)
            if progress is not None:
                progress(outcome)
    return outcomes


def convert_board(board: FoundBoard, machine: MachineMap, out: Path, folder: Path) -> Outcome:
    """Convert one board into a folder of the batch `out`. Raises `InputFault`, and `UsageFault` where a library is missing."""
    with _name_system_faults(board.path):
        files = {image.name: list_files(board.folder, image.files, board.fields) for image in machine.image}
    for image in machine.image:
        if not files[image.name] and not image.optional:
            expect = f"{image.name}: files {image.files}"
            remedy = "Correct files in the map, or set optional = true."
            raise FileFault(str(board.path), expected=expect, found="none", remedy=remedy)
    if not any(files.values()):
        raise FileFault(str(board.path), expected="files of at least one image", found="none")
    listed = [[name, path.relative_to(board.folder).as_posix(), path.stat().st_size] for name in files for path in files[name]]
    source: dict[str, Any] = {
        "path": board.path.name,
        "map_sha256": hashlib.sha256(machine.text.encode()).hexdigest(),
        "files_sha256": hashlib.sha256(json.dumps(listed).encode()).hexdigest(),
        "files": {name: [paths[0].name, paths[-1].name, len(paths)] for name, paths in files.items() if paths},
    }
    manifest = folder / MANIFEST
    with suppress(OSError, ValueError, AttributeError):  # whatever else lies there is written anew
        document = json.loads(manifest.read_text(encoding="utf-8"))
        made = manifest.stat().st_mtime_ns
        unchanged = all(path.stat().st_mtime_ns <= made for paths in files.values() for path in paths)
        if document.get("source") == source and unchanged:
            return Outcome(board.path, folder, skipped=True)
    path = machine.folder / fill_names(machine.board.recipe, board.fields)
    recipe = read_recipe(path.resolve(), path.resolve().parent)
    with _name_system_faults(board.path):
        images = _read_images(board, machine, recipe, files)
        fields, assumed = _collect_fields(board, machine, recipe, [path for paths in files.values() for path in paths])
        copied = copy_recipe(path.resolve(), out)
        fields["recipe"] = os.path.relpath(copied, folder).replace(os.sep, "/")
        write_board(folder, fields, images, assumed, source, out)
    noted = (*assumed, *(text for image in images for text in image.assumed))
    return Outcome(board.path, folder, assumed=noted)


@contextmanager
def _name_system_faults(path: Path) -> Iterator[None]:
    """Turn what the system refuses into a fault of the board; a full disk concerns all boards and stays as it is."""
    try:
        yield
    except (PermissionError, FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        where = error.filename or path
        raise FileFault(str(where), expected="a readable file", found=describe_error(error)) from error


def _read_images(
    board: FoundBoard, machine: MachineMap, recipe: Recipe, files: dict[str, list[Path]]
) -> list[FoundStack | FoundHeights]:
    """Read all images of a board; a volume that several of them show is looked at once."""
    found: dict[str, FoundStack | FoundHeights] = {}
    volumes: dict[tuple[Path, ...], list[ImageMap]] = {}
    packages = {package.refdes: package for package in recipe.packages}
    for image in machine.image:
        if not files[image.name]:
            continue
        package = packages.get(image.refdes)
        if package is None:
            raise RecipeFault(str(board.path), expected=f"{image.refdes} of the map in the recipe", found=", ".join(packages))
        names = [interface.name for interface in package.interfaces]
        if image.interface is not None and image.interface not in names:
            raise RecipeFault(str(board.path), expected=f"the interface {image.name} in the recipe", found=", ".join(names))
        if image.kind == "height_map":
            found[image.name] = take_heights(files[image.name], board.folder, image, package.refdes)
            continue
        volumes.setdefault((*files[image.name], Path(image.refdes)), []).append(image)
    looks: list[VolumeLook] = []
    for images in volumes.values():
        first = images[0]
        planes = open_planes(files[first.name], board.folder, first)
        shown = packages[first.refdes]
        if is_volume(planes, first):
            looks.append(look_at_volume(planes, images, shown))
        else:
            found |= {image.name: take_pictures(planes, image, shown) for image in images}
    for stack in finish_volumes(looks):
        found[f"{stack.stack.refdes}/{stack.stack.interface}"] = stack
    return [found[image.name] for image in machine.image if image.name in found]


def _collect_fields(
    board: FoundBoard, machine: MachineMap, recipe: Recipe, files: list[Path]
) -> tuple[dict[str, Any], list[str]]:
    """Return the fields of export.json that describe the board, and what was assumed of them."""
    fields: dict[str, Any] = {}
    assumed = []
    for name in ("serial", "panel", "position", "product", "lot", "work_order", "line", "station", "operator"):
        value = board.fields.get(name, getattr(machine.board, name))
        if value is not None:
            fields[name] = value
    if isinstance(fields.get("position"), str):
        if not fields["position"].isdecimal():
            raise FileFault(f"{board.path}: position", expected="a whole number", found=repr(fields["position"]))
        fields["position"] = int(fields["position"])
    fields.setdefault("product", recipe.product)
    if fields["product"] != recipe.product:
        expect = f"{recipe.product!r}, the product of the recipe {machine.board.recipe}"
        remedy = "Correct path or product in the map, or name another recipe."
        raise FileFault(f"{board.path}: product", expected=expect, found=repr(fields["product"]), remedy=remedy)
    if "time" in board.fields:
        naive = datetime.fromisoformat(board.fields["time"])
        if machine.board.utc_offset is None:
            time = naive.astimezone()
            assumed.append(f"inspected_at: {time.isoformat()}, its offset this computer's")
        else:
            sign = -1 if machine.board.utc_offset[0] == "-" else 1
            hours, minutes = map(int, machine.board.utc_offset[1:].split(":"))
            time = naive.replace(tzinfo=timezone(sign * timedelta(hours=hours, minutes=minutes)))
    else:
        time = datetime.fromtimestamp(int(max(path.stat().st_mtime for path in files)), UTC)
        assumed.append(f"inspected_at: {time.isoformat()}, when the newest file was written")
    fields["inspected_at"] = time.isoformat()
    return fields, assumed


# Look at a machine's folder and write a first map: what was recognised stands in it, what is missing is a comment.


_DEPTH = 4
_MOST_GROUPS = 16
_HEIGHT_SUFFIXES = (".x3p", ".sur", ".plux", ".vk4", ".al3d", ".csv", ".asc")
_TIME = re.compile(r"(?<!\d)20\d{12}(?!\d)")
_HEIGHT_WORDS = re.compile(r"height|surface|topo|3d|hoehe", re.IGNORECASE)


@dataclass(frozen=True)
class _Group:
    """Files of a board that belong together: their pattern below the board's folder, and what was recognised."""

    pattern: str
    kind: str
    found: str
    missing: tuple[str, ...]


def probe_source(source: Path) -> str:
    """Return the text of a first map for the boards below a folder. Raises `UsageFault` where nothing is recognised."""
    if not source.exists():
        raise UsageFault(str(source), expected="a file or folder", found="nothing there", remedy="Check its spelling.")
    source = source.resolve()
    top = source if source.is_dir() else source.parent
    folders: list[Path] = []
    for place, below, files in os.walk(top):
        folder = Path(place)
        below[:] = sorted((name for name in below if not name.startswith(".")), key=natural_key)
        if len(folder.relative_to(top).parts) >= _DEPTH:
            below.clear()
        if any(_recognise(folder / file) for file in files):
            folders.append(folder)
    if not folders:
        expect = "pictures, volumes or height maps"
        raise UsageFault(str(source), expected=expect, found="no file of a known kind", remedy="docs/convert.md lists the kinds.")
    # A folder whose name holds a time is a board; otherwise the child of the source that holds the first files, or the source.
    first, parts = folders[0], folders[0].relative_to(top).parts
    timed = [f for f in (first, *first.parents) if _TIME.search(f.name) and f.is_relative_to(top)]
    board = timed[0] if timed else top / parts[0] if parts else top
    groups = [group for folder in folders if folder.is_relative_to(board) for group in _group_files(folder, board)]
    levels = board.relative_to(source).parts if source.is_dir() else ()
    pattern, time = "{serial}", _TIME.search(board.name)
    if time is not None:
        before, after = board.name[: time.start()], board.name[time.end() :]
        separator = before[-1:] if before[-1:] in "_- " else ""
        words = before[:-1].split(separator) if separator else [before]
        head = "".join(f"{{_{k}}}{separator}" for k in range(len(words) - 1))
        pattern = f"{head}{{serial}}{separator}{{time:%Y%m%d%H%M%S}}" + ("{_}" if after else "")
    path = "/".join([*("{_}" for _ in levels[:-1]), pattern])
    lines = [
        f"# {source}: a first map, made by looking at {board.name}. Complete what ? marks.",
        "[board]",
        f'path = "{path}"  # a board\'s folder; names in braces: serial, product, lot, time:%Y%m%d%H%M%S, …; {{_}} for the rest',
        'line = "?"',
        'station = "?"',
        'recipe = "?"  # the product\'s recipe, relative to this file',
    ]
    for number, group in enumerate(groups[:_MOST_GROUPS]):
        slices = group.kind == "xray_slices"
        lines += [
            "",
            "[[image]]",
            f"# {group.found}",
            f'kind = "{group.kind}"',
            f'files = "{group.pattern}"',
            'refdes = "U1"  # ?',
        ]
        lines.append(f'interface = "{("lower", "upper")[number % 2]}"  # ?' if slices else 'stage = "post_reflow"  # ?')
        lines += [f"# {text}" for text in group.missing]
    return "\n".join(lines)


def _recognise(path: Path) -> str:
    suffix = find_suffix(path)
    if suffix in HEADER_SUFFIXES:
        return "volume"
    if suffix in _HEIGHT_SUFFIXES:
        return "height"
    if pictures.is_picture(path):
        return "picture"
    try:
        return "dicom" if dicom.is_dicom(path) else ""
    except InputFault:
        return ""


def _group_files(folder: Path, board: Path) -> Iterator[_Group]:
    """Group the files of one folder: each volume and height map by itself, pictures of one suffix, a DICOM series."""
    files = sorted((path for path in folder.iterdir() if path.is_file()), key=lambda path: natural_key(path.name))
    below = folder.relative_to(board).as_posix()
    prefix = "" if below == "." else f"{below}/"
    many: dict[str, list[Path]] = {}
    for path in files:
        kind = _recognise(path)
        if kind in ("volume", "height"):
            yield _look([path], prefix + path.name, "height_map" if kind == "height" else "xray_slices", board)
        elif kind == "picture" and _HEIGHT_WORDS.search(str(path.relative_to(board))):
            yield _look([path], prefix + path.name, "height_map", board)
        elif kind:
            many.setdefault(path.suffix, []).append(path)
    for suffix, paths in many.items():
        single = len(paths) == 1
        yield _look(paths, prefix + (paths[0].name if single else f"*{suffix}"), "xray_slices", board)


def _look(files: list[Path], pattern: str, kind: str, board: Path) -> _Group:
    """Open the files and say what is known of them, and what the map must say."""
    if kind == "height_map":
        wanted = ("pixel_um = ?", 'unit = "um", or scale_um = ? and no_data = ? for whole numbers')
        return _Group(pattern, kind, f"{len(files)} file", wanted)
    try:
        planes = open_planes(files, board, ImageMap(kind="xray_slices", refdes="U1", interface="lower", files="*"))
        dtype = planes.read(planes.count // 2, range(1)).dtype
    except (InputFault, UsageFault) as fault:
        return _Group(pattern, kind, f"not readable: {fault}", ())
    found = [f"{planes.count} planes of {planes.shape[0]} x {planes.shape[1]}, {dtype}", *planes.notes]
    missing: list[str] = []
    if planes.pixel_um is not None:
        found.append(f"pixels of {planes.pixel_um[0]:g} x {planes.pixel_um[1]:g} um")
    else:
        missing.append("pixel_um = ?  (otherwise found from the pitch of the balls)")
    if planes.step_um is not None:
        found.append(f"planes {planes.step_um:g} um apart")
    elif planes.count > FEW_PLANES:
        missing.append("z_step_um = ?  (otherwise taken to be the pixels' size)")
    elif planes.count > 1:
        missing.append("z_um = [?]  one height for each picture (otherwise evenly from pad to pad)")
    missing += ['polarity = "auto"', 'method = "laminography"  # or ct, transmission: ?']
    return _Group(pattern, kind, "; ".join(found), tuple(missing))
