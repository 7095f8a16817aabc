"""Write pages and results as files.

File names are safe for any serial, and a page appears whole or not at all.
"""

import hashlib
import json
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import quote
from xml.etree import ElementTree

from jinja2 import StrictUndefined, TemplateError, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from markupsafe import Markup

from inspect_pop import __version__
from inspect_pop.core.classes import DEFECTS, VERDICTS, joint_class
from inspect_pop.core.columns import list_stored_columns
from inspect_pop.core.errors import StoreFault, UsageFault, describe_error
from inspect_pop.core.inspection import BoardRecord, Inspection
from inspect_pop.core.recipe import Recipe
from inspect_pop.core.statistics import clopper_pearson
from inspect_pop.core.system import write_bytes, write_text
from inspect_pop.core.text import format_csv
from inspect_pop.report.board_page import JointCounts, render_board_page
from inspect_pop.report.page import render
from inspect_pop.store import StoredBoard

if TYPE_CHECKING:
    from inspect_pop.store import Store
    from inspect_pop.yields.selection import GroupKey

__all__ = [
    "SHIPPED",
    "CountedBoard",
    "ResultsTarget",
    "RunTotals",
    "Share",
    "TemplateFault",
    "collect_values",
    "count_totals",
    "find_board_pages",
    "find_report_dir",
    "name_board_file",
    "parse_target",
    "render_run_page",
    "write_board_report",
    "write_lot_report",
    "write_page",
    "write_run_report",
    "write_yield_report",
]

CountedBoard: TypeAlias = tuple[BoardRecord, JointCounts]
_BOARDS = "boards"
_UNSAFE = re.compile(r"[^A-Za-z0-9_-]+")


def name_board_file(serial: str, record: str) -> str:
    """Return a file name for any serial: its plain letters for people, and a digest that makes the name unique.

    The serial itself is never used as a path. Serials that differ only in what a file system cannot tell apart (slashes, case,
    alphabet) still get different names.
    """
    digest = hashlib.sha256(f"{serial}\0{record}".encode("utf-8", "surrogatepass")).hexdigest()[:12]
    return f"{_UNSAFE.sub('_', serial)[:48].strip('_-') or 'board'}-{digest}.html"


def write_board_report(out_dir: Path, inspection: Inspection, recipe: Recipe) -> Path:
    """Write the board's page to `out_dir/boards/` and return its path. Raises `StoreFault` where it cannot be written."""
    board = inspection.board
    path = out_dir / _BOARDS / name_board_file(board.serial, board.record)
    write_page(path, render_board_page(inspection, recipe))
    return path


def write_run_report(
    out_dir: Path,
    boards: Sequence[CountedBoard],
    quarantine: Sequence[tuple[str, str]] = (),
    title: str = "Inspection run",
) -> Path:
    """Write `out_dir/index.html`, which links to the boards' pages that exist there, and return its path.

    Args:
        out_dir: The run's folder.
        boards: The boards and their joints by verdict (`count_joints`), in the order of the list.
        quarantine: (path, reason) of every board that could not be inspected.
        title: The page's title.

    Raises:
        StoreFault: The page cannot be written.
    """
    path = out_dir / "index.html"
    pages = find_board_pages([(b.serial, b.record) for b, _ in boards], out_dir, out_dir)
    write_page(path, render_run_page(boards, quarantine, pages, title))
    return path


def write_yield_report(
    path: Path,
    store: "Store",
    *,
    title: str = "Yield",
    since: str | None = None,
    until: str | None = None,
    only: "Mapping[str, GroupKey] | None" = None,
    runs: Sequence[Path] = (),
) -> Path:
    """Write the yield page of a selection to `path`; its serials link to the boards' pages in the folders of `runs`.

    Args:
        path: The page.
        store: The store.
        title: The page's title.
        since, until, only: Which boards; see `make_selection`.
        runs: Folders of runs, as `inspect-pop run --out` has them, or their folders `report`.

    Raises:
        UsageFault: A bound is no time, or a folder holds no run.
        StoreFault: The store cannot be read, or the page cannot be written.
    """
    from inspect_pop.report.yield_page import read_yield_view, render_yield_page  # matplotlib: half a second to import

    reports = [find_report_dir(run) for run in runs]
    view = read_yield_view(store, title, since=since, until=until, only=only)
    boards = [(b.serial, b.record) for b in view.failed]
    pages = {record: page for run in reports for record, page in find_board_pages(boards, run, path.parent).items()}
    write_page(path, render_yield_page(view, pages))
    return path


def write_lot_report(
    path: Path, store: "Store", lot: str | None, *, since: str | None = None, until: str | None = None, runs: Sequence[Path] = ()
) -> Path:
    """Write one lot's page to `path`, as `write_yield_report` does; None selects the boards without a lot."""
    title = "Boards without a lot" if lot is None else f"Lot {lot}"
    return write_yield_report(path, store, title=title, since=since, until=until, only={"lot": lot}, runs=runs)


def find_report_dir(run: Path) -> Path:
    """Return the folder of a run's pages: `report` in the run's folder, or the folder itself.

    Raises `UsageFault` for a folder that holds no run.
    """
    for folder in (run / "report", run):
        if (folder / _BOARDS).is_dir() or (folder / "index.html").is_file():
            return folder
    found = "neither report/index.html nor boards/" if run.is_dir() else "no such folder"
    remedy = "Give the folder that `inspect-pop run` has as --out."
    raise UsageFault(f"--run {run}", expected="the folder of a run with pages", found=found, remedy=remedy)


def find_board_pages(boards: Iterable[tuple[str, str]], run: Path, page_dir: Path) -> dict[str, str]:
    """Return how a page in `page_dir` links to the boards' pages in the folder of a run.

    Args:
        boards: (serial, record) of boards.
        run: The run's folder.
        page_dir: The folder of the page that links.

    Returns:
        Relative addresses by record, of the pages that exist.
    """
    files = {entry.name for entry in os.scandir(run / _BOARDS)} if (run / _BOARDS).is_dir() else set()
    folder = quote(Path(os.path.relpath(run / _BOARDS, page_dir)).as_posix())
    names = ((record, name_board_file(serial, record)) for serial, record in boards)
    return {record: f"{folder}/{name}" for record, name in names if name in files}


def write_page(path: Path, text: str) -> None:
    """Write a page atomically: a reader sees the old one or the whole new one. Raises `StoreFault`."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, text.encode("utf-8", "backslashreplace"))
    except OSError as error:
        raise StoreFault(
            str(path), expected="a page written there", found=describe_error(error), remedy="Free or unlock the folder."
        ) from error


@dataclass(frozen=True)
class Share:
    """`count` of `total`, with the 95 % interval of the share; (0, 1) where nothing was counted."""

    count: int
    total: int
    low: float
    high: float

    @classmethod
    def of(cls, count: int, total: int) -> "Share":
        """Return the share with its exact interval (Clopper and Pearson)."""
        return cls(count, total, *clopper_pearson(count, total))

    @property
    def value(self) -> float:
        """The share itself; NaN where nothing was counted."""
        return self.count / self.total if self.total else float("nan")


@dataclass(frozen=True)
class RunTotals:
    """Sums over the boards of a run; shares with their 95 % interval. `failed` are the joints that fail, by class."""

    boards: int
    verdicts: dict[str, Share]
    joints: int
    failed: dict[str, Share]
    review: Share
    quarantined: int


def count_totals(boards: Sequence[CountedBoard], quarantined: int = 0) -> RunTotals:
    """Count over all boards; every record counts, a re-inspection too, and each joint once."""
    joints = sum(counts.joints for _, counts in boards)
    return RunTotals(
        boards=len(boards),
        verdicts={v: Share.of(sum(b.verdict == v for b, _ in boards), len(boards)) for v in VERDICTS},
        joints=joints,
        failed={c: Share.of(sum(counts.failed.get(c, 0) for _, counts in boards), joints) for c in DEFECTS},
        review=Share.of(sum(counts.review for _, counts in boards), joints),
        quarantined=quarantined,
    )


def render_run_page(
    boards: Sequence[CountedBoard],
    quarantine: Sequence[tuple[str, str]],
    pages: Mapping[str, str],
    title: str = "Inspection run",
) -> str:
    """Render one self-contained HTML page.

    Args:
        boards: The boards and their joints by verdict, in the order of the list.
        quarantine: (path, reason) of every board that could not be inspected.
        pages: The address of a board's own page, relative to this one, by `BoardRecord.record`; a board may have none.
        title: The page's title.
    """
    return render(
        "run.html",
        title=title,
        boards=boards,
        quarantine=quarantine,
        pages=pages,
        totals=count_totals(boards, len(quarantine)),
    )


# Results as files for the line's neighbours: one template for each neighbour, one file for each record.
#
# A template is Jinja, named by what it writes: `NAME.csv.j2`, `NAME.xml.j2`, `NAME.json.j2` or `NAME.txt.j2`. Values are escaped
# by that kind: cells of CSV, text of XML, values of JSON. XML and JSON that does not parse is refused. A template that renders
# nothing writes no file, so that it may choose boards. The sandbox keeps templates to the values that they are given.


SHIPPED = ("defects.csv", "repair.xml", "board.json")
TEMPLATES = Path(__file__).with_name("result_templates")
KINDS = (".csv", ".xml", ".json", ".txt")
_MOST_TEMPLATE = 1 << 20
_MOST_TEXT = 32 << 20  # a board of 20,000 defects, each with all of its columns, takes 20 MB


class TemplateFault(UsageFault):
    """A template is faulty, or writes for some board what its kind of file may not hold."""

    about = "template"


@dataclass(frozen=True)
class ResultsTarget:
    """Where a neighbour's files go, and the template that writes them. Small enough to send to another process."""

    template: Path
    folder: Path

    @cached_property
    def kind(self) -> str:
        """Which kind of file the template writes, such as `.xml`. Raises `TemplateFault` for another one."""
        kind = Path(self.template.name.removesuffix(".j2")).suffix.lower()
        if not self.template.name.endswith(".j2") or kind not in KINDS:
            expect = f"a name that ends in {', '.join(f'{kind}.j2' for kind in KINDS)}"
            raise TemplateFault(f"template {self.template}", expected=expect, remedy="The name says how values are escaped.")
        return kind

    @cached_property
    def _compiled(self) -> Any:
        try:
            if self.template.stat().st_size > _MOST_TEMPLATE:
                raise TemplateFault(f"template {self.template}", expected="at most 1 MiB", found="more")
            source = self.template.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            found = describe_error(error)
            raise TemplateFault(f"template {self.template}", expected="a text file in UTF-8", found=found) from error
        finalize = {".csv": _to_cell, ".json": _to_json}.get(self.kind)
        environment = ImmutableSandboxedEnvironment(
            autoescape=self.kind == ".xml",
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
            finalize=finalize,
        )
        try:
            return environment.from_string(source)
        except TemplateError as error:
            found = f"line {getattr(error, 'lineno', '?')}: {error}"
            raise TemplateFault(f"template {self.template}", expected="a Jinja template", found=found) from error

    def check(self) -> None:
        """Check that the template can be used. Raises `TemplateFault`."""
        _ = self._compiled

    def render(self, stored: StoredBoard) -> str:
        """Return the text of a record's file; empty for none. Raises `TemplateFault`."""
        name, parts, size = f"template {self.template}, serial {stored.board.serial}", [], 0
        try:
            for part in self._compiled.generate(collect_values(stored)):
                parts.append(part)
                size += len(part)
                if size > _MOST_TEXT:
                    raise TemplateFault(name, expected="at most 32 MiB of text", found="more", remedy="Write fewer fields.")
        except (TemplateError, ArithmeticError, TypeError, ValueError, AttributeError, LookupError, RecursionError) as error:
            raise TemplateFault(name, expected="values that it can show", found=f"{type(error).__name__}: {error}") from error
        text = "".join(parts)
        if not text.strip():
            return ""
        try:
            data = text.encode()  # a template may spell signs that UTF-8 cannot hold
            if self.kind == ".json":
                json.loads(data)
            elif self.kind == ".xml":
                ElementTree.fromstring(data)  # noqa: S314 (made from our own values, escaped)
        except (ValueError, ElementTree.ParseError, RecursionError) as error:
            raise TemplateFault(name, expected=f"valid {self.kind[1:].upper()}", found=str(error)) from error
        return text

    def locate(self, stored: StoredBoard) -> Path:
        """Return where a record's file lies: a later version of it, after a decision, replaces it."""
        return self.folder / (name_board_file(stored.board.serial, stored.board.record).removesuffix(".html") + self.kind)

    def write(self, stored: StoredBoard) -> Path | None:
        """Write a record's file whole or not at all; return where, None where the template renders nothing.

        Raises:
            TemplateFault: The template cannot show this record.
            StoreFault: The folder cannot be written.
        """
        text = self.render(stored)
        if not text:
            return None
        path = self.locate(stored)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_text(path, text)
        except OSError as error:
            remedy = "Free or unlock the folder."
            raise StoreFault(
                str(self.folder), expected="a folder for results", found=describe_error(error), remedy=remedy
            ) from error
        return path


def parse_target(text: str) -> ResultsTarget:
    """Parse `TEMPLATE=FOLDER`; TEMPLATE is a file, or the name of a shipped one. Raises `UsageFault` and `TemplateFault`."""
    name, is_pair, folder = text.partition("=")
    if not is_pair or not name or not folder:
        expect = f"TEMPLATE=FOLDER, such as {SHIPPED[0]}=results"
        raise UsageFault(f"--results {text}", expected=expect, remedy=f"Templates that come along: {', '.join(SHIPPED)}.")
    template = TEMPLATES / f"{name}.j2" if name in SHIPPED else Path(name).resolve()
    target = ResultsTarget(template, Path(folder).resolve())
    target.check()
    return target


def collect_values(stored: StoredBoard) -> dict[str, Any]:
    """Return what a template sees of a record: `board`, `packages`, `interfaces`, `defects`, `decisions`, `software`.

    `board` has all fields of the record, `final` and the number of the inspection. A defect has its joint, label, verdict,
    reason, `code` (the class's CFX code), its measurements, and the latest decision of a person as `state`, `decided_label`,
    `decided_by`, `decided_at` and `note`, empty without one. A joint that passed and that a person calls a defect is among the
    defects. Numbers that could not be measured are None.
    """
    plain = stored.to_dict()
    latest = {(d.refdes, d.interface, d.ball): d for d in stored.decisions}
    defects = [_flatten_defect(asdict(d), latest.pop((d.refdes, d.interface, d.ball), None)) for d in stored.defects]
    for (refdes, interface, ball), decision in latest.items():
        joint = {"refdes": refdes, "interface": interface, "ball": ball, "label": decision.label, "verdict": "pass"}
        defects.append(_flatten_defect({**joint, "reason": "", "flags": 0, "measured": {}}, decision))
    parts = {name: plain.pop(name) for name in ("packages", "interfaces", "decisions")}
    plain.pop("defects")
    return {"board": _to_plain(plain), "defects": defects, "software": f"inspect_pop {__version__}", **_to_plain(parts)}


def _flatten_defect(defect: dict[str, Any], decision: Any) -> dict[str, Any]:
    measured = dict.fromkeys(list_stored_columns()) | defect.pop("measured")
    label = defect["label"]
    decided = {
        "state": decision.state if decision else "",
        "decided_label": (decision.label or "") if decision else "",
        "decided_by": decision.decided_by if decision else "",
        "decided_at": decision.decided_at if decision else "",
        "note": decision.note if decision else "",
    }
    flat: dict[str, Any] = _to_plain({**measured, **defect, **decided})
    return {**flat, "code": joint_class(label).cfx_code if label else "", "p": measured.get(f"p_{label}") if label else None}


def _to_plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _to_plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_to_plain(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _to_cell(value: Any) -> Any:
    """Return a value as a cell of CSV that no spreadsheet computes; text that a template marks as safe stays."""
    if isinstance(value, Markup | Undefined):
        return value
    if value is None or value == "":
        return ""
    cell = value if isinstance(value, str | int | float) else str(value)
    return format_csv((cell,), ()).removesuffix("\n")


def _to_json(value: Any) -> Any:
    if isinstance(value, Markup | Undefined):
        return value
    return json.dumps(value, ensure_ascii=False)
