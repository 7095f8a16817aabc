"""Find boards below a source by the pattern of their paths, whose names in braces become fields of the record.

`{product}_{serial}_{time:%Y%m%d%H%M%S}` reads a folder's name; `lots/{lot}/{serial}` reads two levels. `{_}` and names that
begin with `_` match text that no field takes.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from fnmatch import translate
from functools import cached_property
from pathlib import Path

from inspect_pop.core.errors import FileFault, PathFault, describe_error
from inspect_pop.ingest.document import expectation
from inspect_pop.ingest.files import resolve_inside

__all__ = [
    "FIELDS",
    "BoardPattern",
    "FoundBoard",
    "check_names",
    "fill_names",
    "find_boards",
    "list_files",
    "natural_key",
    "strip_names",
]

FIELDS = ("serial", "product", "lot", "work_order", "line", "station", "operator", "panel", "position", "time")
_NAME = re.compile(r"\{([^{}:]*)(?::([^{}]*))?\}")
# Directives of strptime that have a fixed width, and their digits.
_DIGITS = {"Y": 4, "m": 2, "d": 2, "H": 2, "M": 2, "S": 2, "y": 2, "j": 3}
_MOST_FILES = 20_000  # of one image: a stack of as many planes has no use


def strip_names(text: str) -> str:
    """Return a pattern with each name in braces replaced by one letter."""
    return _NAME.sub("x", text)


def check_names(text: str) -> str:
    """Return a pattern; raise the error of a map for names in braces that are not known, or braces that do not close."""
    for name, style in _NAME.findall(text):
        if name.startswith("_"):
            continue
        if name not in FIELDS:
            raise expectation(f"names in braces of {', '.join(FIELDS)}, or one that begins with _, not {{{name}}}")
        if style and name != "time":
            raise expectation(f"a format in {{{name}}} only for time, such as {{time:%Y%m%d%H%M%S}}")
    if set("{}") & set(strip_names(text)):
        raise expectation("braces in pairs")
    return text


@dataclass(frozen=True)
class FoundBoard:
    """A board below a source: its folder, the fields that its path gives (`time` in ISO 8601 without an offset), its name.

    `folder` is the folder that all its files must lie in; where a file matched the pattern, the one that holds it. `fault` says
    why the path gives no fields.
    """

    path: Path
    folder: Path
    fields: Mapping[str, str]
    fault: Exception | None = None


@dataclass(frozen=True)
class BoardPattern:
    """The pattern of a board's path below a source, segment by segment."""

    text: str

    def __post_init__(self) -> None:
        names = [name for name in self._all_names if not name.startswith("_")]
        if len(set(names)) < len(names):
            raise expectation("each name in braces once")
        for name, style in _NAME.findall(self.text):
            if name == "time":
                if not style:
                    raise expectation("a format for time, such as {time:%Y%m%d%H%M%S}")
                _compile_time(style)

    @property
    def _all_names(self) -> list[str]:
        return [name for name, _ in _NAME.findall(self.text)]

    @property
    def names(self) -> set[str]:
        """Fields that a path gives."""
        return {name for name in self._all_names if not name.startswith("_")}

    @cached_property
    def segments(self) -> list["_Segment"]:
        """One for each folder level."""
        return [_Segment(part) for part in self.text.replace("\\", "/").split("/") if part not in ("", ".")]


@dataclass(frozen=True)
class _Segment:
    """One level of a pattern."""

    text: str

    @cached_property
    def _parts(self) -> tuple[re.Pattern[str], re.Pattern[str], list[tuple[str, str]]]:
        names: list[tuple[str, str]] = _NAME.findall(self.text)
        lazy = greedy = ""
        at = 0
        for match in _NAME.finditer(self.text):
            fixed = re.escape(self.text[at : match.start()])
            time = _compile_time(match[2]) if match[1] == "time" else ""
            lazy, greedy = lazy + fixed + f"({time or '.+?'})", greedy + fixed + f"({time or '.+'})"
            at = match.end()
        rest = re.escape(self.text[at:])
        return re.compile(lazy + rest), re.compile(greedy + rest), names

    def match(self, name: str) -> dict[str, str] | None:
        """Return the fields of a name, None where it does not match. Raises `PathFault` for a name that reads in two ways."""
        lazy, greedy, names = self._parts
        first, last = lazy.fullmatch(name), greedy.fullmatch(name)
        if first is None or last is None:
            return None
        fields = dict(zip((n for n, _ in names), first.groups(), strict=True))
        others = dict(zip((n for n, _ in names), last.groups(), strict=True))
        if differing := [n for n in fields if fields[n] != others[n] and not n.startswith("_")]:
            found = f"{differing[0]} {fields[differing[0]]!r} or {others[differing[0]]!r}"
            raise PathFault(
                name,
                expected=f"a name that {self.text} reads in one way",
                found=found,
                remedy="Write the fixed part of the name into the pattern.",
            )
        for field, style in names:
            if field == "time":
                try:
                    fields[field] = datetime.strptime(fields[field], style).isoformat()
                except ValueError as error:
                    raise PathFault(name, expected=f"a time of the form {style}", found=str(error)) from error
        return {field: value for field, value in fields.items() if not field.startswith("_")}


def _compile_time(style: str) -> str:
    """Return the regular expression of a time format whose directives have a fixed width."""
    pattern = ""
    for part in re.split(r"(%.)", style):
        if part.startswith("%"):
            if part[1:] not in _DIGITS:
                raise expectation(f"a time of %{', %'.join(_DIGITS)}, not {part}")
            pattern += rf"\d{{{_DIGITS[part[1:]]}}}"
        else:
            pattern += re.escape(part)
    return pattern


def find_boards(source: Path, pattern: BoardPattern) -> list[FoundBoard]:
    """Find the boards below a source in natural order; where there are none, the source itself may be one.

    Hidden files and folders are passed over. A link that leads out of the source is a board with a fault.
    """
    top = source.resolve()
    found = list(_walk(top, top, pattern.segments, {}))
    segments = pattern.segments
    for levels in range(1, len(segments) + 1):
        if found:
            return found
        fields: dict[str, str] = {}
        for segment, name in zip(segments[:levels], top.parts[-levels:], strict=False):
            match = segment.match(name)
            if match is None:
                break
            fields |= match
        else:
            found = list(_walk(top if top.is_dir() else top.parent, top, segments[levels:], fields))
    return found


def _walk(limit: Path, folder: Path, segments: list[_Segment], fields: Mapping[str, str]) -> Iterator[FoundBoard]:
    if not segments:
        yield FoundBoard(folder, folder if folder.is_dir() else folder.parent, fields)
        return
    if not folder.is_dir():
        return
    try:
        names = sorted((path.name for path in folder.iterdir()), key=natural_key)
    except OSError as error:
        fault = FileFault(str(folder), expected="a folder that can be listed", found=describe_error(error))
        yield FoundBoard(folder, folder, fields, fault)
        return
    for name in names:
        if name.startswith("."):
            continue
        try:
            more = segments[0].match(name)
            if more is None or (len(segments) > 1 and not (folder / name).is_dir()):
                continue
            resolve_inside(name, folder, limit, str(folder / name))
        except PathFault as fault:
            yield FoundBoard(folder / name, folder / name, fields, fault)
            continue
        yield from _walk(limit, folder / name, segments[1:], {**fields, **more})


def fill_names(text: str, fields: Mapping[str, str]) -> str:
    """Fill the names in braces of a path with a board's fields, which never add a level to it; what is left matches anything."""

    def fill(match: re.Match[str]) -> str:
        if match[1].startswith("_"):
            return "*"
        value = fields.get(match[1])
        return "*" if value is None else re.sub(r"[/\\\0]", "_", value)

    return _NAME.sub(fill, text)


def list_files(folder: Path, pattern: str, fields: Mapping[str, str]) -> list[Path]:
    """List the files of a board that a map's `files` names, in natural order; a single folder among them is listed itself.

    Upper and lower case are the same. Raises `PathFault` for a link that leaves the board's folder, `FileFault` for too many.
    """
    parts = [part for part in pattern.replace("\\", "/").split("/") if part not in ("", ".")]
    # Fields are text, not patterns: a serial may hold [ or *.
    filled = [fill_names(part, {name: re.sub(r"([*?\[])", r"[\1]", value) for name, value in fields.items()}) for part in parts]
    found = [folder]
    for part in filled:
        matcher = re.compile(translate(part.lower()))
        found = [at / name for at in found if at.is_dir() for name in _list_names(at) if matcher.match(name.lower())]
    if len(found) == 1 and found[0].is_dir():
        found = [found[0] / name for name in _list_names(found[0])]
    files = [path for path in found if not path.is_dir()]
    if len(files) > _MOST_FILES:
        raise FileFault(str(folder / pattern), expected=f"at most {_MOST_FILES:,} files", found=f"{len(files):,}")
    for path in files:
        resolve_inside(path.name, path.parent, folder, str(path))
    return files


def _list_names(folder: Path) -> Iterable[str]:
    return sorted((path.name for path in folder.iterdir() if not path.name.startswith(".")), key=natural_key)


def natural_key(name: str) -> tuple[list[tuple[int, int | str]], str]:
    """Return a sort key in which 2 comes before 10."""
    parts = re.split(r"(\d+)", name)
    return [(0, int(part)) if part.isdecimal() else (1, part.lower()) for part in parts if part], name
