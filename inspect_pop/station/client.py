"""The hook as a client of the service: where it may run, how it proves that it is the station, and when an answer counts.

A service leaves its address and a secret in a file that only its user can read. The hook first asks the listener for a
proof of that secret, over the connection that it then uses, and sends the token to nobody who has not given it. An answer
counts with this board's serial and a record that the store has.

This module imports the standard library only: with a service, the hook's process must end within a fraction of a second.
"""

import contextlib
import hashlib
import hmac
import http.client
import json
import os
import time
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import SplitResult, urlsplit

from inspect_pop.core.errors import PopError, StoreFault, UsageFault, describe_error
from inspect_pop.station.contract import (
    STORE_HEADER,
    Answer,
    check_answer,
    find_embedded_file,
    identify_store,
    locate_address_file,
    make_error_answer,
)

__all__ = [
    "CHALLENGE_HEADER",
    "PROOF_PATH",
    "NoService",
    "ServiceAddress",
    "ServiceReply",
    "check_record",
    "check_serial",
    "find_services",
    "is_station",
    "post_inspection",
    "prove",
    "read_address",
]

CHALLENGE_HEADER = "X-Challenge"
PROOF_PATH = "/v1/proof"
_CONNECT_S = 0.25  # a service on this machine or its switch answers much faster; the line must not wait for one that is off
_PROOF_S = 10.0  # a service that starts answers when its processes are loaded
_MANIFEST_BYTES = 16 << 20
# The service runs and refuses. Inspecting without it would hide that.
_REFUSALS = (
    HTTPStatus.UNAUTHORIZED,
    HTTPStatus.FORBIDDEN,
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
)


class NoService(Exception):
    """No service took the board: none runs at the address, it is not the station, it stopped, or it uses another store."""


@dataclass(frozen=True)
class ServiceAddress:
    """Where a service may run, and the secret by which it proves that it is the station; empty if the caller named it."""

    url: str
    secret: str = ""


@dataclass(frozen=True)
class ServiceReply:
    """A service's reply: the HTTP status, the answer and, if the service is busy, the seconds to wait before the next try."""

    status: int
    answer: Answer
    retry_after_s: float | None = None


def find_services(service: str | None, store: str) -> list[ServiceAddress]:
    """Return the addresses where the service of a store may run.

    An address that the caller or `INSPECT_POP_SERVICE` names is the only one. Otherwise it is that of the address file.

    Raises:
        UsageFault: There is an address file that this user may not read.
    """
    named = service or os.environ.get("INSPECT_POP_SERVICE")
    try:
        known = read_address(store)
    except PermissionError as error:
        if not named:
            remedy = "Call the hook as the service's user, or name the service with --service."
            file = str(locate_address_file(store))
            raise UsageFault(file, expected="a file that can be read", found=describe_error(error), remedy=remedy) from error
        known = None
    if named:
        is_known = known is not None and _normalize(known.url) == _normalize(named)
        return [ServiceAddress(named, known.secret if known is not None and is_known else "")]
    return [known] if known is not None else []


def read_address(store: str) -> ServiceAddress | None:
    """Read the address file of a store; None if there is none, or half of one. Raises `PermissionError`."""
    file = locate_address_file(store)
    # A service that was killed while it wrote may have left anything, and one of an earlier version has no secret.
    with contextlib.suppress(FileNotFoundError, NotADirectoryError, IsADirectoryError, ValueError, KeyError, TypeError):
        if file is not None:
            value = json.loads(file.read_bytes())
            if isinstance(value["secret"], str) and value["secret"]:
                return ServiceAddress(str(value["url"]), value["secret"])
    return None


def prove(secret: str, challenge: str) -> str:
    """Return what only a program that knows the secret can answer to a challenge."""
    return hmac.new(secret.encode(), b"inspect_pop station " + challenge.encode(), hashlib.sha256).hexdigest()


def is_station(address: ServiceAddress, until: float) -> bool:
    """Return whether a service listens at the address and proves that it is the station, until a time of `time.monotonic`."""
    try:
        _connect(address, until)[0].close()
    except NoService:
        return False
    return True


def post_inspection(
    address: ServiceAddress, body: dict[str, str], *, token: str | None, store: str | None, until: float
) -> ServiceReply:
    """Post one inspection to a service and return its reply.

    Args:
        address: The service.
        body: The request, `{"path": …}`.
        token: Token for the service; None sends none. It is sent after the service's proof.
        store: Store that the record belongs in; None accepts any.
        until: Time of `time.monotonic` at which to stop waiting.

    Raises:
        NoService: The caller should try another way.
        TimeoutError: The time is over.
    """
    headers = {"Content-Type": "application/json"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    if store:
        headers[STORE_HEADER] = identify_store(store)
    connection, parts = _connect(address, until)
    try:
        _set_timeout(connection, until)
        connection.request("POST", parts.path.rstrip("/") + "/v1/inspections", json.dumps(body), headers)
        return _read_reply(connection.getresponse(), address.url)
    except TimeoutError:
        raise
    except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError) as error:
        raise NoService(f"{address.url}: {error}") from error
    finally:
        connection.close()


def check_serial(answer: Answer, export: str) -> None:
    """Check that an answer is about this board, as far as its manifest can be read from here.

    Raises:
        PopError: It is about another one.
    """
    serial = None
    unreadable = contextlib.suppress(OSError, ValueError, LookupError, TypeError, RecursionError)
    with unreadable, open(os.path.join(export, "export.json"), "rb") as file:  # noqa: PTH118, PTH123 (no pathlib here)
        serial = json.loads(file.read(_MANIFEST_BYTES).decode("utf-8-sig"))["serial"]
    if answer["verdict"] != "error" and isinstance(serial, str) and serial.strip() != answer["serial"].strip():
        remedy = "Inspect this board by hand, and report what happened."
        raise PopError("the service's answer", expected=f"serial {serial}", found=f"serial {answer['serial']}", remedy=remedy)


def check_record(answer: Answer, store: str, until: float) -> None:
    """Check that an embedded store has the record that an answer names, with its serial and verdict.

    Raises:
        StoreFault: It has not, or the store cannot be read.
    """
    file = find_embedded_file(store)
    if answer["verdict"] == "error" or file is None:
        return
    import sqlite3  # a tenth of the hook's time, and not needed for a database server

    try:
        uri = f"{_quote_path(os.path.abspath(file))}?mode=ro"  # noqa: PTH100
        with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=max(0.05, until - time.monotonic()))) as database:
            row = database.execute("SELECT serial, verdict FROM boards WHERE record = ?", (answer["record"],)).fetchone()
    except (sqlite3.Error, OSError) as error:
        raise StoreFault(store, expected="the record of the answer", found=describe_error(error)) from error
    if row != (answer["serial"], answer["verdict"]):
        remedy = "Ask again; if it stays, restart the service: its store may have been replaced."
        found = "none" if row is None else f"serial {row[0]}, {row[1]}"
        expected = f"record {answer['record']}: serial {answer['serial']}, {answer['verdict']}"
        raise StoreFault(store, expected=expected, found=found, remedy=remedy)


def _quote_path(path: str) -> str:
    from urllib.parse import quote_from_bytes

    return "file:" + quote_from_bytes(os.fsencode(path))


def _normalize(url: str) -> tuple[str, str, int | None, str]:
    parts = urlsplit(url)
    host = "localhost" if parts.hostname in {"127.0.0.1", "::1", "localhost"} else parts.hostname or ""
    return parts.scheme, host, parts.port, parts.path.rstrip("/")


def _connect(address: ServiceAddress, until: float) -> tuple[http.client.HTTPConnection, SplitResult]:
    """Connect to a service that proves that it is the station, if its secret is known."""
    try:
        parts = urlsplit(address.url)
        connect = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        connection = connect(parts.hostname or "", parts.port, timeout=min(_CONNECT_S, max(0.001, until - time.monotonic())))
    except (http.client.HTTPException, ValueError) as error:
        raise NoService(f"{address.url}: {error}") from error
    try:
        connection.connect()
        connection.auto_open = 0  # what follows goes over this connection or not at all
        if address.secret:
            _set_timeout(connection, min(until, time.monotonic() + _PROOF_S))
            challenge = os.urandom(16).hex()
            connection.request("GET", parts.path.rstrip("/") + PROOF_PATH, headers={CHALLENGE_HEADER: challenge})
            value = json.loads(connection.getresponse().read(1 << 16))
            if not hmac.compare_digest(str(value["proof"]).encode(), prove(address.secret, challenge).encode()):
                raise NoService(f"{address.url}: what listens there is not the station")
    except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError) as error:
        connection.close()
        raise NoService(f"{address.url}: {error}") from error
    except NoService:
        connection.close()
        raise
    return connection, parts


def _set_timeout(connection: http.client.HTTPConnection, until: float) -> None:
    # Not so after a reply that closes the connection; the next request opens it again, or fails.
    if connection.sock is not None:
        connection.sock.settimeout(max(0.001, until - time.monotonic()))


def _read_reply(response: http.client.HTTPResponse, url: str) -> ServiceReply:
    value = json.loads(response.read())
    if response.status == HTTPStatus.CONFLICT:
        raise NoService(f"{url} uses another store")
    if response.status in _REFUSALS:
        fault = PopError(url, expected="access to the service", found=str(value["reason"]))
        return ServiceReply(response.status, make_error_answer(fault))
    answer = check_answer(value)
    if (response.status == HTTPStatus.OK) == (answer["verdict"] == "error"):
        raise NoService(f"{url}: status {response.status} with verdict {answer['verdict']}")
    is_busy = response.status == HTTPStatus.SERVICE_UNAVAILABLE
    retry_after = response.headers.get("Retry-After") if is_busy else None
    return ServiceReply(response.status, answer, float(retry_after) if retry_after else None)
