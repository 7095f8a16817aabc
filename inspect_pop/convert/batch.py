"""Convert the boards of a machine: find them, read what the map names, write each in the export format, or say why not."""

import hashlib
import json
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from inspect_pop.convert.board_path import FoundBoard, fill_names, find_boards, list_files
from inspect_pop.convert.map_file import ImageMap, MachineMap, load_map
from inspect_pop.convert.sources import open_planes
from inspect_pop.convert.stacks import FoundStack, VolumeLook, finish_volumes, is_volume, look_at_volume, take_pictures
from inspect_pop.convert.surfaces import FoundHeights, take_heights
from inspect_pop.convert.write import copy_recipe, make_folder_name, write_board
from inspect_pop.core.errors import FileFault, InputFault, RecipeFault, UsageFault, describe_error
from inspect_pop.core.recipe import Recipe
from inspect_pop.ingest.pop_export import MANIFEST
from inspect_pop.ingest.recipe_file import read_recipe

__all__ = ["Outcome", "convert_batch", "convert_board"]


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
