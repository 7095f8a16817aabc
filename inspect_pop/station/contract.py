"""What hook, service and inspecting process share: the answer for one board, the service's address, the worker's command.

This module imports the standard library only: the hook process, which starts once per board, imports it.
"""

import hashlib
import json
import os
import sys
from collections import Counter
from pathlib import Path  # the interpreter has loaded it already
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from inspect_pop.core.errors import PopError

if TYPE_CHECKING:
    from inspect_pop.core.inspection import Inspection

__all__ = [
    "DEFAULT_FACTORY",
    "DEFAULT_HANDLE",
    "DEFAULT_STORE",
    "DEFAULT_URL",
    "EXIT_STATUS",
    "STORE_HEADER",
    "WORKER_COMMAND",
    "Answer",
    "build_worker_environment",
    "check_answer",
    "identify_store",
    "locate_address_file",
    "locate_pages",
    "make_answer",
    "make_error_answer",
    "to_json",
]

Answer = dict[str, Any]

EXIT_STATUS = {"pass": 0, "fail": 1, "review": 2, "error": 3}
DEFAULT_URL = "http://127.0.0.1:8737"
DEFAULT_STORE = "records.db"  # in the current folder
DEFAULT_HANDLE = "inspect_pop"  # the station's name in CFX messages
DEFAULT_FACTORY = "inspect_pop.station.worker:load_inspector"
STORE_HEADER = "X-Store"  # the hook names its store here; a service with another store answers 409
WORKER_COMMAND = (sys.executable, "-m", "inspect_pop.station.worker")

_MAX_NAMED_JOINTS = 3  # joints that a reason names; `defects` lists all
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_JOINT_COLUMNS = ("refdes", "interface", "ball")


def make_error_answer(fault: PopError, *, elapsed_ms: float = 0.0) -> Answer:
    """Return the answer for a board that could not be inspected: verdict `error`, the reason, the fault's parts in `problem`."""
    return {
        "serial": None,
        "verdict": "error",
        "reason": str(fault),
        "defects": [],
        "record": None,
        "report": None,
        "elapsed_ms": round(elapsed_ms, 1),
        "problem": {part: getattr(fault, part) for part in ("about", "thing", "expected", "found", "remedy")},
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
    file = _find_embedded_file(store)
    if file is not None:
        name = os.path.realpath(file)
    else:
        parts = urlsplit(store)
        name = f"{parts.scheme.split('+')[0]}://{parts.hostname}:{parts.port}{parts.path}"
    return hashlib.sha256(name.encode()).hexdigest()[:16]


def locate_address_file(store: str) -> Path | None:
    """Return the file next to an embedded store in which a running service leaves its address; None for a database server."""
    file = _find_embedded_file(store)
    return None if file is None else Path(f"{file}.service.json")


def locate_pages(store: str) -> str | None:
    """Return the folder next to an embedded store that holds the boards' pages; None for a database server."""
    file = _find_embedded_file(store)
    return None if file is None else str(Path(file).with_suffix("").absolute()) + "-pages"


def build_worker_environment() -> dict[str, str]:
    """Return this process's environment with one thread for numerical libraries, unless it sets another number.

    The machine's cores are used by several inspecting processes, not by threads within one.
    """
    return dict.fromkeys(_THREADS, "1") | dict(os.environ)


def _find_embedded_file(store: str) -> str | None:
    """Return the file of an embedded store, from a path or an address such as `sqlite:///FILE`."""
    if "://" not in store:
        return store
    return store.partition("///")[2].partition("?")[0] if store.startswith("sqlite") else None
