"""Look at a machine's folder and write a first map: what was recognised stands in it, what is missing is a comment."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from inspect_pop.convert import dicom, pictures
from inspect_pop.convert.board_path import natural_key
from inspect_pop.convert.map_file import ImageMap
from inspect_pop.convert.sources import HEADER_SUFFIXES, find_suffix, open_planes
from inspect_pop.convert.stacks import FEW_PLANES
from inspect_pop.core.errors import InputFault, UsageFault

__all__ = ["probe_source"]

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
