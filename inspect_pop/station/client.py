"""Ask a running service: where it is, and one question over HTTP.

Only the standard library: the hook process imports this.

How an inspecting process is started, by the hook and by the service alike. Only the standard library.
"""

import hashlib
import http.client
import json
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path  # the interpreter has it already
from urllib.parse import urlsplit

from inspect_pop.core.errors import PopError
from inspect_pop.station.answer import Answer, checked, could_not

__all__ = [
    "COMMAND",
    "DEFAULT_STORE",
    "DEFAULT_URL",
    "Asked",
    "NoService",
    "address_file",
    "ask",
    "environment",
    "pages_folder",
    "store_identity",
    "urls",
]

# ---- station/client
DEFAULT_URL = "http://127.0.0.1:8737"
DEFAULT_STORE = "records.db"  # in the folder where the command is called
CONNECT_S = 0.25  # a service on this machine or its switch answers in far less; a line must not wait for one that is off
OTHER_STORE = 409
STORE_HEADER = "X-Store"
BUSY = 503
REFUSED = (401, 403, 408, 413)  # it is a service, and says no: another way round would hide that


class NoService(Exception):
    """No service took this board: none runs there, it went away, or it keeps another store."""


@dataclass(frozen=True)
class Asked:
    """What the service said: the HTTP status, the answer, and after how many seconds to come again (busy only)."""

    status: int
    answer: Answer
    retry_after_s: float | None = None


def store_identity(store: str) -> str:
    """Short digest of which store an address means, so that hook and service can see whether they mean the same one."""
    file = _embedded(store)
    if file is not None:
        name = os.path.realpath(file)
    else:
        parts = urlsplit(store)
        name = f"{parts.scheme.split('+')[0]}://{parts.hostname}:{parts.port}{parts.path}"
    return hashlib.sha256(name.encode()).hexdigest()[:16]


def address_file(store: str) -> Path | None:
    """The file beside an embedded store in which a running service leaves its address; None for a database server."""
    file = _embedded(store)
    return None if file is None else Path(f"{file}.service.json")


def pages_folder(store: str) -> str | None:
    """Where the boards' pages lie for an embedded store: beside it; None for a database server."""
    file = _embedded(store)
    return None if file is None else str(Path(file).with_suffix("").absolute()) + "-pages"


def _embedded(store: str) -> str | None:
    """The file of an embedded store, from a plain path or an address as `sqlite:///FILE`."""
    if "://" not in store:
        return store
    return store.partition("///")[2].partition("?")[0] if store.startswith("sqlite") else None


def urls(given: str | None, store: str | None) -> list[str]:
    """Where a service may be, best guess first: what was named, what the store's address file says, the usual port."""
    named = given or os.environ.get("INSPECT_POP_SERVICE")
    if named:
        return [named]
    return list(dict.fromkeys([*_left_address(store), DEFAULT_URL]))


def ask(url: str, body: dict[str, str], *, token: str | None, store: str | None, until: float) -> Asked:
    """Post one inspection; `until` is the monotonic time after which nobody waits any more.

    Raises `NoService` where another way should be tried, TimeoutError when the time is over.
    """
    headers = {"Content-Type": "application/json"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    if store:
        headers[STORE_HEADER] = store_identity(store)
    connection = _connect(url, until)
    try:
        connection.request("POST", urlsplit(url).path.rstrip("/") + "/v1/inspections", json.dumps(body), headers)
        connection.sock.settimeout(max(0.001, until - time.monotonic()))
        response = connection.getresponse()
        return _read(response, url)
    except TimeoutError:
        raise
    except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError) as error:
        raise NoService(f"{url}: {error}") from error
    finally:
        connection.close()


def _connect(url: str, until: float) -> http.client.HTTPConnection:
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    try:
        connection = kind(parts.hostname or "", parts.port, timeout=min(CONNECT_S, max(0.001, until - time.monotonic())))
        connection.connect()
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise NoService(f"{url}: {error}") from error
    return connection


def _read(response: http.client.HTTPResponse, url: str) -> Asked:
    value = json.loads(response.read())
    if response.status == OTHER_STORE:
        raise NoService(f"{url} keeps another store")
    if response.status in REFUSED:
        return Asked(response.status, could_not(PopError(url, expected="to be let in", found=str(value["reason"]))))
    wait = response.headers.get("Retry-After") if response.status == BUSY else None
    answer = checked(value)
    if (response.status == http.client.OK) == (answer["verdict"] == "error"):
        raise NoService(f"{url}: status {response.status} with verdict {answer['verdict']}")
    return Asked(response.status, answer, float(wait) if wait else None)


def _left_address(store: str | None) -> list[str]:
    file = address_file(store) if store else None
    try:
        return [] if file is None else [str(json.loads(file.read_text(encoding="utf-8"))["url"])]
    except (OSError, ValueError, KeyError, TypeError):
        return []  # no service, or one that was killed while it wrote: the usual port is asked next


# ---- station/child
COMMAND = (sys.executable, "-m", "inspect_pop.station.worker")
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def environment() -> dict[str, str]:
    """This process's own, with one thread for the numerical libraries where nothing else is said: processes are many enough."""
    return dict.fromkeys(_THREADS, "1") | dict(os.environ)
