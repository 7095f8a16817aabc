"""The command that the line calls for one board: one JSON object on standard output, and an exit status.

Exit status: 0 pass, 1 fail, 2 review, 3 could not inspect. The hook asks the service if one runs. Otherwise it inspects in a
child process, which it kills at the deadline: by the setup of the store's station, where it has one. Anything unexpected is 3,
never a verdict.

This module imports the standard library only: with a service, the process must end within a fraction of a second.
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NoReturn

from inspect_pop.core.errors import DeadlineFault, PathFault, PopError, UsageFault, describe_error
from inspect_pop.core.system import open_missing_streams, write_answer_line
from inspect_pop.station.client import NoService, check_record, check_serial, find_services, post_inspection
from inspect_pop.station.contract import (
    DEFAULT_STORE,
    EXIT_STATUS,
    WORKER_COMMAND,
    Answer,
    JudgingOptions,
    StationSetup,
    build_worker_environment,
    check_answer,
    find_embedded_file,
    locate_pages,
    make_error_answer,
    read_setup,
    show_path,
    to_json,
)

__all__ = ["StandaloneOptions", "main", "run_hook"]

DEFAULT_DEADLINE_S = 30.0
COULD_NOT_INSPECT = EXIT_STATUS["error"]
_MAX_DEADLINE_S = 86_400
_REAP_S = 0.1
_TOKEN_BYTES = 4096
_ANSWER_S = 0.15  # reserved before the deadline: to kill the child and to print

_running_children: list["subprocess.Popen[bytes]"] = []  # referenced until they end: they still write their board's page


@dataclass(frozen=True)
class StandaloneOptions:
    """How to inspect without a service.

    Attributes:
        root: Folder that all files of the board must lie in; None: found from the board's place, or a root of the station.
        judging: By what to judge. Where the store has a station, it must come out as the station's.
        inspector_factory: `module:function` that builds the inspector in the child process; None: the product's.
    """

    root: str | None = None
    judging: JudgingOptions = field(default_factory=JudgingOptions)
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
    missing = open_missing_streams()
    print_once = threading.Lock()
    try:
        options = _parse_arguments(sys.argv[1:] if argv is None else argv)
        _answer_if_interrupted(options.deadline, print_once)
        judging = JudgingOptions.from_dict(vars(options))
        status, answer = run_hook(
            options.export,
            options.store,
            options.deadline,
            service=options.service,
            token=_read_token(options.token_file),
            standalone=StandaloneOptions(options.root, judging),
            use_service=not (options.alone or options.root or judging.is_given()),
        )
        line = to_json(answer)
    except PopError as fault:
        status, line = COULD_NOT_INSPECT, to_json(make_error_answer(fault))
    except BaseException as error:  # noqa: BLE001 (the interpreter would exit with 1, which means fail)
        with contextlib.suppress(OSError, ValueError):
            sys.excepthook(type(error), error, error.__traceback__)
        unforeseen = PopError("the hook", expected="an answer", found=f"{type(error).__name__}: {error}")
        status, line = COULD_NOT_INSPECT, to_json(make_error_answer(unforeseen))
    if not print_once.acquire(blocking=False):
        threading.Event().wait()  # the watchdog is printing its answer and then ends the process
    return COULD_NOT_INSPECT if "stdout" in missing else _print_answer(line, status)


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
        store: Where the record belongs; None: `records.db` in the current folder, or the store of the service that is named.
            A service with another store is not used.
        deadline_s: Seconds from now until the answer must be ready.
        service: Address of the service; None: that in the file next to the store.
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
        if answer is None:
            named = (service or os.environ.get("INSPECT_POP_SERVICE")) if use_service else None
            if use_service and named is None and store and find_embedded_file(store) is None:
                named = f"of {store}"  # a database server: its station may run elsewhere, and this user does not see its setup
            answer = _inspect_standalone(path, store or DEFAULT_STORE, standalone or StandaloneOptions(), until, named)
    except TimeoutError:
        answer = make_error_answer(_deadline_fault(deadline_s))
    except PopError as fault:
        answer = make_error_answer(fault)
    answer["elapsed_ms"] = round((time.monotonic() - started) * 1000, 1)
    return EXIT_STATUS[answer["verdict"]], answer


def _ask_service(path: str, store: str | None, service: str | None, token: str | None, until: float) -> Answer | None:
    """Return the service's answer; None if no service takes the board. Waits and asks again while the service is busy.

    Raises:
        PopError: The answer does not count: it is about another board, or the store does not have its record.
    """
    body = {"path": path} if show_path(path) == path else {"path": show_path(path), "path_hex": os.fsencode(path).hex()}
    for address in find_services(service, store or DEFAULT_STORE):
        with contextlib.suppress(NoService):
            expected_store = store if service or store else DEFAULT_STORE
            while True:
                reply = post_inspection(address, body, token=token, store=expected_store, until=until)
                if reply.retry_after_s is None or time.monotonic() + reply.retry_after_s >= until:
                    break
                time.sleep(reply.retry_after_s)
            check_serial(reply.answer, path)
            if expected_store:
                check_record(reply.answer, expected_store, until)
            return reply.answer
    return None


def _configure_worker(path: str, store: str, options: StandaloneOptions, named: str | None) -> dict[str, Any]:
    """Return by what the child process judges: the setup of the store's station, where it has one.

    Raises:
        StoreFault: The setup cannot be read.
        UsageFault: A service was named, and how it judges is not known here.
        PathFault: The board lies outside the station's roots.
    """
    setup = read_setup(store)
    if setup is None and named:
        remedy = "Start the service, name its store with --store, or inspect on purpose without it: --alone."
        raise UsageFault(f"the service {show_path(named)}", expected="an answer", found="none, nor its setup", remedy=remedy)
    if setup is None:
        return {**asdict(options.judging), "root": options.root}
    judging = options.judging if options.judging.is_given() else setup.options
    qualified = {"qualified": setup.options.qualified}
    return {**asdict(judging), **qualified, "expect": setup.rules, "root": _find_station_root(path, setup, options.root)}


def _find_station_root(path: str, setup: StationSetup, narrower: str | None) -> str | None:
    """Return the root that the board's files must lie in: the station's that holds it, or a narrower one. Raises `PathFault`."""
    if not setup.roots:
        return narrower
    inner = path if narrower is None else narrower
    for root in map(os.path.realpath, setup.roots):
        if all(os.path.commonpath([root, os.path.realpath(place)]) == root for place in (path, inner)):
            return narrower or root
    expected = "a path within the roots of the station that keeps the store"
    raise PathFault(show_path(inner), expected=expected, remedy="Export below a root, or start the service with --root.")


def _inspect_standalone(path: str, store: str, options: StandaloneOptions, until: float, named: str | None = None) -> Answer:
    """Inspect in a child process, which is killed when the time is over. The child writes the board's page after it answered."""
    judging = _configure_worker(path, store, options, named)
    config = {
        **judging,
        "store": store,
        "pages": locate_pages(store),
        "once": True,
        "limit_s": max(1.0, until - time.monotonic()),
        "inspector_factory": options.inspector_factory,
    }
    job = {"kind": "inspect", "path": path, "name": show_path(path), "root": judging["root"]}
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


def _answer_if_interrupted(deadline_s: float, print_once: threading.Lock) -> None:
    """Answer at the deadline even if this process hangs, for example on a disk that is gone; and when it is asked to end."""

    def give_up(fault: PopError) -> None:
        if print_once.acquire(blocking=False):
            _print_answer(to_json(make_error_answer(fault)), COULD_NOT_INSPECT)
            os._exit(COULD_NOT_INSPECT)

    def end(number: int, _: object) -> None:
        give_up(PopError("the hook", expected="time to answer", found=f"signal {signal.Signals(number).name}"))

    timer = threading.Timer(deadline_s, lambda: give_up(_deadline_fault(deadline_s)))
    timer.daemon = True
    timer.start()
    for name in ("SIGTERM", "SIGINT", "SIGHUP"):
        with contextlib.suppress(AttributeError, ValueError):  # not every system has it, and only the main thread may
            signal.signal(getattr(signal, name), end)


def _read_token(file: str | None) -> str | None:
    """Return the token of a file, without the byte order mark that some editors write, or of the environment.

    Raises:
        UsageFault: The file cannot be read, or what it holds cannot be a token.
    """
    name = file or "INSPECT_POP_TOKEN"
    token = (os.environ.get(name) or None) if file is None else None
    if file is not None:
        try:
            with open(file, encoding="utf-8-sig") as stream:  # noqa: PTH123 (no pathlib where open does)
                token = stream.read(_TOKEN_BYTES)
        except (OSError, ValueError) as error:
            remedy = "Name the file that holds the token."
            raise UsageFault(
                f"token file {file}", expected="a token in UTF-8", found=describe_error(error), remedy=remedy
            ) from error
    if token is None:
        return None
    token = token.strip("\ufeff \t\r\n")
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        remedy = "Write the token alone into it, as plain text."
        raise UsageFault(name, expected="one token of printable ASCII characters", found="something else", remedy=remedy)
    return token


def _deadline_fault(deadline_s: float) -> DeadlineFault:
    return DeadlineFault("the board", expected=f"an answer within {deadline_s:g} s", found="none")


def _print_answer(line: str, status: int) -> int:
    try:
        write_answer_line(line)
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
    parser.add_argument("--profile", metavar="NAME", help="inspect without a service, by this profile")
    parser.add_argument("--max-escape-rate", type=float, metavar="R", help="inspect without a service, by this promise")
    parser.add_argument("--max-false-call-ppm", type=float, metavar="P", help="inspect without a service, by this promise")
    parser.add_argument("--alone", action="store_true", help="inspect without a service")
    options = parser.parse_args(list(argv))
    if not 0 < options.deadline <= _MAX_DEADLINE_S:
        expected = f"seconds, more than 0 and at most {_MAX_DEADLINE_S}"
        raise UsageFault("--deadline", expected=expected, found=f"{options.deadline:g}")
    return options
