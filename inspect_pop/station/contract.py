"""What hook, service and inspecting process share: answer, address, worker's command, and the station's setup.

This module imports the standard library only: the hook process, which starts once per board, imports it.
"""

import hashlib
import json
import os
import sys
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path  # the interpreter has loaded it already
from typing import TYPE_CHECKING, Any

from inspect_pop.core.errors import ModelFault, PopError, StoreFault, describe_error
from inspect_pop.core.system import atomic_file
from inspect_pop.core.text import resolve_address

if TYPE_CHECKING:
    from inspect_pop.core.inspection import Inspection

__all__ = [
    "DEFAULT_FACTORY",
    "DEFAULT_HANDLE",
    "DEFAULT_STORE",
    "EXIT_STATUS",
    "PYTHON",
    "STORE_HEADER",
    "WORKER_COMMAND",
    "Answer",
    "JudgingOptions",
    "Rules",
    "StationSetup",
    "build_worker_environment",
    "check_answer",
    "escape_text",
    "find_embedded_file",
    "freeze_limits",
    "identify_store",
    "locate_address_file",
    "locate_pages",
    "locate_setup_file",
    "make_answer",
    "make_error_answer",
    "make_rules_fault",
    "read_setup",
    "show_path",
    "to_json",
    "write_file",
    "write_setup",
]

Answer = dict[str, Any]

EXIT_STATUS = {"pass": 0, "fail": 1, "review": 2, "error": 3}
DEFAULT_STORE = "records.db"  # in the current folder
DEFAULT_HANDLE = "inspect_pop"  # the station's name in CFX messages
DEFAULT_FACTORY = "inspect_pop.station.worker:load_inspector"
STORE_HEADER = "X-Store"  # the hook names its store here; a service with another store answers 409
PYTHON = (sys.executable, "-P")  # whatever lies in the folder where it starts is no module
WORKER_COMMAND = (*PYTHON, "-m", "inspect_pop.station.worker")

_PLACES = ("host", "hostaddr", "port", "dbname", "service")  # parameters of an address that say where the database is
_MAX_NAMED_JOINTS = 3  # joints that a reason names; `defects` lists all
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_JOINT_COLUMNS = ("refdes", "interface", "ball")


@dataclass(frozen=True)
class JudgingOptions:
    """By what boards shall be judged, as options name it; None stands for the default of each.

    Attributes:
        model: Model folder.
        limits: Limits file.
        profile: Name of a profile.
        max_escape_rate: Promised share of defects that pass, at most.
        max_false_call_ppm: Promised good joints that fail, at most, per million.
        qualified: The machines that are qualified, each with the digests of the model and the limits; no option names them.
    """

    model: str | None = None
    limits: str | None = None
    profile: str | None = None
    max_escape_rate: float | None = None
    max_false_call_ppm: float | None = None
    qualified: list[list[str]] | None = None

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "JudgingOptions":
        """Return the options among these values; others are left out."""
        return cls(**{name: values.get(name) for name in cls.__dataclass_fields__})

    def is_given(self) -> bool:
        """Return whether any option was given."""
        return any(value is not None for name, value in asdict(self).items() if name != "qualified")


@dataclass(frozen=True)
class Rules:
    """By what an inspecting process judges, once it is loaded: two processes with the same rules judge alike.

    Attributes:
        model: Digest of the model.
        limits: Digest of the limits.
        profile: Name of the profile; empty for the default.
        pass_below, fail_above: The operating point, in log-odds.
    """

    model: str
    limits: str = ""
    profile: str = ""
    pass_below: float | None = None
    fail_above: float | None = None

    def find_difference(self, expected: dict[str, Any]) -> tuple[str, str, str] | None:
        """Return name, expected and own value of the first rule that differs; None if all that are expected agree."""
        rules = asdict(self)
        return next(((k, str(v), str(rules.get(k))) for k, v in expected.items() if rules.get(k) != v), None)


def make_error_answer(fault: PopError, *, elapsed_ms: float = 0.0) -> Answer:
    """Return the answer for a board that could not be inspected: verdict `error`, the reason, the fault's parts in `problem`."""
    return {
        "serial": None,
        "verdict": "error",
        "reason": escape_text(str(fault)),
        "defects": [],
        "record": None,
        "report": None,
        "elapsed_ms": round(elapsed_ms, 1),
        "problem": {part: escape_text(getattr(fault, part)) for part in ("about", "thing", "expected", "found", "remedy")},
    }


def make_answer(inspection: "Inspection", *, report: str | None, elapsed_ms: float) -> Answer:
    """Return the answer for a board that was inspected and recorded.

    `defects` lists the joints whose verdict is fail, each with the calibrated probability `p` of its label. `review` lists
    the joints that a person must look at, each with the reason.
    """
    board, joints = inspection.board, inspection.joints
    rows: dict[str, list[int]] = {v: (joints["verdict"] == v).nonzero()[0].tolist() for v in ("fail", "review")}

    def describe_joint(row: int) -> dict[str, Any]:
        label = joints["label"][row]
        p = None if label is None else round(float(joints[f"p_{label}"][row]), 4)
        return {**{name: joints[name][row] for name in _JOINT_COLUMNS}, "label": label, "p": p}

    reason = ""
    if board.verdict != "pass":
        suspects = rows[board.verdict]
        column = "label" if board.verdict == "fail" else "reason"
        counts = Counter(str(joints[column][i]) for i in suspects).most_common()
        reason = ", ".join(f"{n} {name}" for name, n in counts) or "the board as a whole"
        if suspects:
            named = [".".join(str(joints[c][i]) for c in _JOINT_COLUMNS) for i in suspects[:_MAX_NAMED_JOINTS]]
            reason += f" ({', '.join(named)}{', …' if len(suspects) > len(named) else ''})"
        if board.missing:
            reason += f"; missing: {', '.join(board.missing)}"
    if board.note:
        reason += f"{'; ' if reason else ''}{board.note}"
    return {
        "serial": board.serial,
        "verdict": board.verdict,
        "reason": reason,
        "defects": [describe_joint(i) for i in rows["fail"]],
        "record": board.record,
        "report": report,
        "elapsed_ms": round(elapsed_ms, 1),
        "review": [describe_joint(i) | {"reason": joints["reason"][i]} for i in rows["review"]],
        "disposition": board.disposition,
        "missing": list(board.missing),
    }


def check_answer(value: object) -> Answer:
    """Return `value` if it is a complete answer.

    Raises:
        ValueError: A field is missing or has an unknown value, a verdict has no serial or record, or a pass has defects.
    """
    if not isinstance(value, dict) or not {"serial", "verdict", "reason", "defects", "record"} <= value.keys():
        raise ValueError("not an answer: fields are missing")
    if value["verdict"] not in EXIT_STATUS or not isinstance(value["defects"], list):
        raise ValueError("not an answer: unknown verdict or defects")
    is_recorded = isinstance(value["serial"], str) and isinstance(value["record"], str) and value["record"] != ""
    if value["verdict"] != "error" and not is_recorded:
        raise ValueError("not an answer: a verdict without serial or record")
    if value["verdict"] == "pass" and value["defects"]:
        raise ValueError("not an answer: a pass with defects")
    return value


def to_json(answer: Answer) -> str:
    """Format an answer as one line of JSON. Raises `ValueError` for a number that JSON cannot hold."""
    return json.dumps(answer, ensure_ascii=False, allow_nan=False)


def identify_store(store: str) -> str:
    """Return a short digest of the store that an address means, the same for every spelling of the address.

    Hook and service compare their digests to see whether they write to the same store.
    """
    file = find_embedded_file(store)
    if file is not None:
        name = os.path.realpath(file)
    else:
        scheme, _, rest = resolve_address(store).partition("://")
        main, _, query = rest.partition("?")
        host, _, database = main.rpartition("@")[2].partition("/")
        place = sorted(part for part in query.split("&") if part.partition("=")[0] in _PLACES)
        name = f"{scheme.partition('+')[0]}://{host.lower()}/{database}?{'&'.join(place)}"
    return hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def locate_address_file(store: str) -> Path | None:
    """Return the file in which a running service leaves its address and a secret, for hooks on this machine.

    It lies next to an embedded store; for a database server in the user's state folder. None where the user has none.
    """
    return _locate_next_to(store, ".service.json")


def locate_setup_file(store: str) -> Path | None:
    """Return the file with the setup of the station that keeps the store (`StationSetup`); see `locate_address_file`."""
    return _locate_next_to(store, ".station.json")


def locate_pages(store: str) -> str | None:
    """Return the folder next to an embedded store that holds the boards' pages; None for a database server."""
    file = find_embedded_file(store)
    if file is None:
        return None
    path = Path(file).absolute()  # line.1 and line.2, records and records.db lie in one folder: each has pages of its own
    name = f"{path.stem}-pages" if path.suffix == ".db" else f"{path.name}{'-' if path.suffix else '.'}pages"
    return str(path.with_name(name))


def build_worker_environment() -> dict[str, str]:
    """Return this process's environment with one thread for numerical libraries, unless it sets another number.

    The machine's cores are used by several inspecting processes, not by threads within one.
    """
    return dict.fromkeys(_THREADS, "1") | dict(os.environ)


def escape_text(text: str) -> str:
    """Return the text as UTF-8 can hold it: what it cannot becomes an escape."""
    return text.encode("utf-8", "backslashreplace").decode()


def show_path(path: str) -> str:
    """Return a path as text that UTF-8 can hold: a byte of its name that is no letter becomes an escape such as `\\xff`."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _locate_next_to(store: str, suffix: str) -> Path | None:
    file = find_embedded_file(store)
    if file is not None:
        return Path(f"{file}{suffix}")
    try:
        state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    except RuntimeError:  # a user without a home folder
        return None
    return Path(state) / "inspect-pop" / f"{identify_store(store)}{suffix}"


def find_embedded_file(store: str) -> str | None:
    """Return the file of an embedded store, from a path or an address such as `sqlite:///FILE`."""
    store = resolve_address(store)
    if "://" not in store:
        return store
    return store.partition("///")[2].partition("?")[0] if store.startswith("sqlite") else None


# The setup of the station that keeps a store: by which model, limits, profile and thresholds it judges, and from which roots.
#
# `serve` and `watch` leave it next to the store when they start, and again when the service takes another model. A hook that
# inspects without the service uses exactly this, or answers 'could not inspect'. A service that starts again goes on with a
# model that it took by request.
#
# This module imports the standard library only: the hook process imports it.


SCHEMA = "inspect-pop-station/1"
_MODE = 0o640
_REMEDY = "Start the service again; it writes the file. To begin anew, delete the file first."


@dataclass(frozen=True)
class StationSetup:
    """How a station judges.

    Attributes:
        options: What an inspecting process loads.
        rules: What it must then judge by (`contract.Rules`): digests of model and limits, profile, operating point.
        roots: Folders that a board's files must lie in; empty: any.
        start_model: The model folder that the service was started with.
        start_digest: The digest of its card at that time.
    """

    options: JudgingOptions
    rules: dict[str, Any]
    roots: tuple[str, ...] = ()
    start_model: str | None = None
    start_digest: str = ""


def read_setup(store: str) -> StationSetup | None:
    """Read the setup of the station that keeps a store; None if no station ever did.

    Raises:
        StoreFault: There is a setup, and it cannot be read. Nothing may be inspected by guess then.
    """
    file = locate_setup_file(store)
    try:
        if file is None:
            return None
        value = json.loads(file.read_bytes())
        if value["schema"] != SCHEMA:
            raise ValueError(f"schema {value['schema']!r}")
        options = JudgingOptions.from_dict(value["options"])
        rules, roots = dict(value["rules"]), tuple(map(str, value["roots"]))
        return StationSetup(options, rules, roots, value["start_model"], str(value["start_digest"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        found = describe_error(error)
        raise StoreFault(str(file), expected=f"the station's setup, {SCHEMA}", found=found, remedy=_REMEDY) from error


def write_setup(store: str, setup: StationSetup) -> None:
    """Write the setup of the station that keeps a store. Raises `StoreFault`."""
    file = locate_setup_file(store)
    if file is None:
        raise StoreFault("the station's setup", expected="a home folder to write it to", remedy="Set XDG_STATE_HOME.")
    try:
        write_file(file, json.dumps({"schema": SCHEMA, **asdict(setup)}, indent=1), _MODE)
    except OSError as error:
        raise StoreFault(str(file), expected="a file that can be written", found=describe_error(error)) from error


def write_file(path: Path, text: str, mode: int) -> None:
    """Write a text file atomically that has its mode from the first byte on. Raises `OSError`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path, durable=True) as part:
        os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode))
        part.write_text(text, encoding="utf-8")


def freeze_limits(store: str, limits: Path) -> Path:
    """Copy a limits file next to the setup, and return the copy: an edit counts from the next start on, for all at once.

    Raises:
        StoreFault: The copy cannot be written, or the file cannot be read.
    """
    file = locate_setup_file(store)
    if file is None:
        return limits.absolute()
    copy = file.with_name(file.name.removesuffix(".json") + "-limits.toml")
    try:
        write_file(copy, limits.read_text(encoding="utf-8"), _MODE)
    except (OSError, UnicodeDecodeError) as error:
        raise StoreFault(
            str(limits), expected="limits that can be copied next to the store", found=describe_error(error)
        ) from error
    return copy.absolute()


def make_rules_fault(name: str, expected: str, found: str) -> ModelFault:
    """Return the fault of a process that would judge by other rules than its station."""
    remedy = "Restart the service to judge by what is there now, or put back what was there."
    return ModelFault(f"the station's {name}", expected=expected or "the default", found=found or "the default", remedy=remedy)
