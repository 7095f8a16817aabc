"""The command that the line calls for one board: one JSON object on standard output, and an exit status.

Exit status: 0 pass, 1 fail, 2 review, 3 could not inspect. The hook asks the service if one runs. Otherwise it inspects in a
child process, which it kills at the deadline. Anything unexpected is 3, never a pass.

This module imports the standard library only: with a service, the process must end within a fraction of a second.
"""

import argparse
import contextlib
import http.client
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import NoReturn
from urllib.parse import urlsplit

from inspect_pop.core.errors import DeadlineFault, PopError, UsageFault
from inspect_pop.station.contract import (
    DEFAULT_STORE,
    DEFAULT_URL,
    EXIT_STATUS,
    STORE_HEADER,
    WORKER_COMMAND,
    Answer,
    build_worker_environment,
    check_answer,
    identify_store,
    locate_address_file,
    locate_pages,
    make_error_answer,
    to_json,
)

__all__ = ["NoService", "ServiceReply", "StandaloneOptions", "list_service_urls", "main", "post_inspection", "run_hook"]

DEFAULT_DEADLINE_S = 30.0
COULD_NOT_INSPECT = EXIT_STATUS["error"]
_MAX_DEADLINE_S = 86_400
_REAP_S = 0.1
_ANSWER_S = 0.15  # reserved before the deadline: to kill the child and to print
_CONNECT_S = 0.25  # a service on this machine or its switch answers much faster; the line must not wait for one that is off
# The service runs and refuses. Inspecting without it would hide that.
_REFUSALS = (
    HTTPStatus.UNAUTHORIZED,
    HTTPStatus.FORBIDDEN,
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
)

_running_children: list["subprocess.Popen[bytes]"] = []  # referenced until they end: they still write their board's page


class NoService(Exception):
    """No service took the board: none runs at the address, it stopped, or it uses another store."""


@dataclass(frozen=True)
class ServiceReply:
    """A service's reply: the HTTP status, the answer and, if the service is busy, the seconds to wait before the next try."""

    status: int
    answer: Answer
    retry_after_s: float | None = None


@dataclass(frozen=True)
class StandaloneOptions:
    """How to inspect without a service; None stands for the default of each.

    Attributes:
        root: Folder that all files of the board must lie in.
        model: Model folder.
        limits: Limits file.
        inspector_factory: `module:function` that builds the inspector in the child process.
    """

    root: str | None = None
    model: str | None = None
    limits: str | None = None
    inspector_factory: str | None = None


class _Parser(argparse.ArgumentParser):
    """An argument parser that neither prints to standard output nor exits: both have a meaning for the line."""

    def error(self, message: str) -> NoReturn:
        raise UsageFault("arguments", found=message)

    def print_help(self, file: object = None) -> None:  # noqa: ARG002 (argparse's signature)
        super().print_help(sys.stderr)

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:  # noqa: ARG002 (argparse's signature)
        raise UsageFault("arguments", found=message or "a request for help; no board was inspected")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command `inspect-pop hook`: print the answer and return the exit status."""
    print_once = threading.Lock()
    try:
        options = _parse_arguments(sys.argv[1:] if argv is None else argv)
        _start_watchdog(options.deadline, print_once)
        token = os.environ.get("INSPECT_POP_TOKEN")
        if options.token_file is not None:
            with open(options.token_file, encoding="utf-8") as file:  # noqa: PTH123 (no pathlib where open does)
                token = file.read().strip()
        status, answer = run_hook(
            options.export,
            options.store,
            options.deadline,
            service=options.service,
            token=token,
            standalone=StandaloneOptions(options.root, options.model, options.limits),
            use_service=not (options.alone or any((options.root, options.model, options.limits))),
        )
        line = to_json(answer)
    except PopError as fault:
        status, line = COULD_NOT_INSPECT, to_json(make_error_answer(fault))
    except Exception as error:  # noqa: BLE001 (the interpreter would exit with 1, which means fail)
        sys.excepthook(type(error), error, error.__traceback__)
        status, line = (
            COULD_NOT_INSPECT,
            to_json(make_error_answer(PopError("the hook", found=f"{type(error).__name__}: {error}"))),
        )
    if not print_once.acquire(blocking=False):
        threading.Event().wait()  # the watchdog is printing its answer and then ends the process
    return _print_answer(line, status)


def run_hook(
    export: str,
    store: str | None,
    deadline_s: float = DEFAULT_DEADLINE_S,
    *,
    service: str | None = None,
    token: str | None = None,
    standalone: StandaloneOptions | None = None,
    use_service: bool = True,
) -> tuple[int, Answer]:
    """Inspect one board within a deadline.

    Args:
        export: The board's folder.
        store: Where the record belongs. A service with another store is not used.
        deadline_s: Seconds from now until the answer must be ready.
        service: Address of the service; None looks for one on this machine.
        token: Token for the service.
        standalone: How to inspect without a service.
        use_service: Whether to ask a service first.

    Returns:
        The exit status and the answer.
    """
    started = time.monotonic()
    until = started + deadline_s - _ANSWER_S
    path = os.path.abspath(export)  # noqa: PTH100 (does not touch the file system, which may hang)
    try:
        answer = _ask_service(path, store, service, token, until) if use_service else None
        answer = answer or _inspect_standalone(path, store, standalone or StandaloneOptions(), until)
    except TimeoutError:
        answer = make_error_answer(_deadline_fault(deadline_s))
    answer["elapsed_ms"] = round((time.monotonic() - started) * 1000, 1)
    return EXIT_STATUS[answer["verdict"]], answer


def list_service_urls(service: str | None, store: str | None) -> list[str]:
    """Return the addresses where a service may run, the most likely one first.

    An address that the caller or `INSPECT_POP_SERVICE` names is the only one. Otherwise the address file next to the store
    comes first, then the default port of this machine.
    """
    named = service or os.environ.get("INSPECT_POP_SERVICE")
    if named:
        return [named]
    urls = [DEFAULT_URL]
    file = locate_address_file(store) if store else None
    if file is not None:
        # Without a service there is no file, and one that was killed while it wrote left half of one: the default port is tried.
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            urls.insert(0, str(json.loads(file.read_text(encoding="utf-8"))["url"]))
    return list(dict.fromkeys(urls))


def post_inspection(url: str, body: dict[str, str], *, token: str | None, store: str | None, until: float) -> ServiceReply:
    """Post one inspection to a service and return its reply.

    Args:
        url: Address of the service.
        body: The request, `{"path": …}`.
        token: Token for the service; None sends none.
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
    parts = urlsplit(url)
    connect = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    try:
        connection = connect(parts.hostname or "", parts.port, timeout=min(_CONNECT_S, max(0.001, until - time.monotonic())))
        connection.connect()
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise NoService(f"{url}: {error}") from error
    try:
        connection.request("POST", parts.path.rstrip("/") + "/v1/inspections", json.dumps(body), headers)
        connection.sock.settimeout(max(0.001, until - time.monotonic()))
        return _read_reply(connection.getresponse(), url)
    except TimeoutError:
        raise
    except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError) as error:
        raise NoService(f"{url}: {error}") from error
    finally:
        connection.close()


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


def _ask_service(path: str, store: str | None, service: str | None, token: str | None, until: float) -> Answer | None:
    """Return the service's answer; None if no service takes the board. Waits and asks again while the service is busy."""
    for url in list_service_urls(service, store):
        with contextlib.suppress(NoService):
            while True:
                reply = post_inspection(url, {"path": path}, token=token, store=store, until=until)
                if reply.retry_after_s is None or time.monotonic() + reply.retry_after_s >= until:
                    return reply.answer
                time.sleep(reply.retry_after_s)
    return None


def _inspect_standalone(path: str, store: str | None, options: StandaloneOptions, until: float) -> Answer:
    """Inspect in a child process, which is killed when the time is over. The child writes the board's page after it answered."""
    store = store or DEFAULT_STORE
    config = {
        "store": store,
        "pages": locate_pages(store),
        "once": True,
        "limit_s": max(1.0, until - time.monotonic()),
        "model": options.model,
        "limits": options.limits,
        "inspector_factory": options.inspector_factory,
    }
    job = {"kind": "inspect", "path": path, "root": options.root}
    request = "".join(json.dumps(line) + "\n" for line in (config, job)).encode()
    child = subprocess.Popen(
        WORKER_COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True, env=build_worker_environment()
    )
    output: list[bytes] = []

    def exchange() -> None:
        """Write the request and read until the child closes its output, which it does before it ends."""
        with child.stdin as stdin, child.stdout as stdout:  # type: ignore[union-attr]
            with contextlib.suppress(BrokenPipeError):
                stdin.write(request)
                stdin.flush()
            output.append(stdout.read())

    reader = threading.Thread(target=exchange, daemon=True)
    reader.start()
    reader.join(max(0.001, until - time.monotonic()))
    _running_children[:] = [*(c for c in _running_children if c.poll() is None), child]
    if reader.is_alive():
        child.kill()
        reader.join(_REAP_S)
        raise TimeoutError
    lines = b"".join(output).decode("utf-8", "replace").splitlines()
    try:  # a line that says whether the process is ready, then the answer
        replies = [json.loads(line) for line in lines]
        is_refused = replies and not replies[0]["ready"]
        return check_answer(replies[0 if is_refused else 1]["answer"])
    except (ValueError, LookupError, TypeError):
        found = "part of an answer" if lines[1:] else "no answer: it ended"
        remedy = "Read its log on standard error."
        return make_error_answer(PopError("the inspecting process", expected="an answer", found=found, remedy=remedy))


def _start_watchdog(deadline_s: float, print_once: threading.Lock) -> None:
    """Answer at the deadline even if this process hangs, for example in a name lookup or on a disk that is gone."""

    def give_up() -> None:
        if print_once.acquire(blocking=False):
            _print_answer(to_json(make_error_answer(_deadline_fault(deadline_s))), COULD_NOT_INSPECT)
            os._exit(COULD_NOT_INSPECT)

    timer = threading.Timer(deadline_s, give_up)
    timer.daemon = True
    timer.start()


def _deadline_fault(deadline_s: float) -> DeadlineFault:
    return DeadlineFault("the board", expected=f"an answer within {deadline_s:g} s", found="none")


def _print_answer(line: str, status: int) -> int:
    try:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
    except OSError:
        return COULD_NOT_INSPECT  # the line could not read the answer
    return status


def _parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = _Parser(prog="inspect-pop hook", description="Inspect one board; 0 pass, 1 fail, 2 review, 3 could not inspect.")
    parser.add_argument("export", help="the board's folder")
    parser.add_argument("--store", default=os.environ.get("INSPECT_POP_STORE"), help="store for the record")
    parser.add_argument("--deadline", type=float, default=DEFAULT_DEADLINE_S, metavar="S", help="seconds until the answer")
    parser.add_argument("--service", metavar="URL", help="address of the service; found automatically on this machine")
    parser.add_argument("--token-file", metavar="FILE", help="file that holds the token; or INSPECT_POP_TOKEN")
    parser.add_argument("--root", metavar="DIR", help="inspect without a service, with files from this folder only")
    parser.add_argument("--model", metavar="DIR", help="inspect without a service, with this model")
    parser.add_argument("--limits", metavar="FILE", help="inspect without a service, with these limits")
    parser.add_argument("--alone", action="store_true", help="inspect without a service")
    options = parser.parse_args(list(argv))
    if not 0 < options.deadline <= _MAX_DEADLINE_S:
        expected = f"seconds, more than 0 and at most {_MAX_DEADLINE_S}"
        raise UsageFault("--deadline", expected=expected, found=f"{options.deadline:g}")
    return options
