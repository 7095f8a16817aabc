"""What the line calls for one board: one JSON object on standard output, and an exit status.

0 pass, 1 fail, 2 review, 3 could not inspect. It asks the service when one runs and inspects by itself, in a child process
that is killed at the deadline, when none does. Anything unexpected is 3, never a pass.

Only the standard library is imported here: with a service, this process must be over in a fraction of a second.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from inspect_pop.core.errors import DeadlinePassed, PopError, UsageFault
from inspect_pop.station.answer import Answer, checked, could_not, exit_status, to_json
from inspect_pop.station.client import COMMAND, DEFAULT_STORE, NoService, ask, environment, pages_folder, urls

__all__ = ["Alone", "hook", "main"]

DEADLINE_S = 30.0
COULD_NOT = 3
REAP_S = 0.1
ANSWER_S = 0.15  # kept back from the deadline to kill the child, and to print


_LEFT: list["subprocess.Popen[bytes]"] = []  # they write their board's page; nobody waits for them


class _Parser(argparse.ArgumentParser):
    """An argument parser that never prints to standard output and never exits: both mean something to the line."""

    def error(self, message: str) -> NoReturn:
        raise UsageFault("arguments", found=message)

    def print_help(self, file: object = None) -> None:  # noqa: ARG002 (argparse's signature)
        super().print_help(sys.stderr)

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:  # noqa: ARG002 (argparse's signature)
        raise UsageFault("arguments", found=message or "a question for help; nothing was inspected")


@dataclass(frozen=True)
class Alone:
    """How to inspect without a service: which root, model and limits; `maker` builds the inspector in the child."""

    root: str | None = None
    model: str | None = None
    limits: str | None = None
    maker: str | None = None


def hook(
    export: str,
    store: str | None,
    deadline_s: float = DEADLINE_S,
    *,
    service: str | None = None,
    token: str | None = None,
    alone: Alone | None = None,
    only_alone: bool = False,
) -> tuple[int, Answer]:
    """Inspect one board within `deadline_s` seconds from now; returns the exit status and the answer.

    `store` is where the record belongs; a service that keeps another store is not used. `only_alone` asks no service.
    """
    started = time.monotonic()
    until = started + deadline_s - ANSWER_S
    path = os.path.abspath(export)  # noqa: PTH100 (asks no file system, which may hang)
    try:
        answer = None if only_alone else _from_service(path, store, service, token, until)
        answer = answer or _by_itself(path, store, alone or Alone(), until)
    except TimeoutError:
        answer = could_not(_too_late(deadline_s))
    answer["elapsed_ms"] = round((time.monotonic() - started) * 1000, 1)
    return exit_status(answer), answer


def main(argv: Sequence[str] | None = None) -> int:
    """The command `inspect-pop hook`: prints the answer and returns the exit status."""
    only_once = threading.Lock()
    try:
        options = _parse(sys.argv[1:] if argv is None else argv)
        _watch_over(options.deadline, only_once)
        status, answer = hook(
            options.export,
            options.store,
            options.deadline,
            service=options.service,
            token=_token(options.token_file),
            alone=Alone(options.root, options.model, options.limits),
            only_alone=options.alone or any((options.root, options.model, options.limits)),
        )
        line = to_json(answer)
    except PopError as fault:
        status, line = COULD_NOT, to_json(could_not(fault))
    except Exception as error:  # noqa: BLE001 (the interpreter's own exit status for it is 1, which is a verdict here)
        sys.excepthook(type(error), error, error.__traceback__)
        status, line = COULD_NOT, to_json(could_not(PopError("the hook", found=f"{type(error).__name__}: {error}")))
    if not only_once.acquire(blocking=False):
        threading.Event().wait()  # the watchdog is answering, and ends the process
    return _say(line, status)


def _watch_over(deadline_s: float, only_once: threading.Lock) -> None:
    """Answer at the deadline even where this process hangs: in a name that is looked up, in a disk that went away."""

    def late() -> None:
        if only_once.acquire(blocking=False):
            _say(to_json(could_not(_too_late(deadline_s))), COULD_NOT)
            os._exit(COULD_NOT)

    timer = threading.Timer(deadline_s, late)
    timer.daemon = True
    timer.start()


def _too_late(deadline_s: float) -> DeadlinePassed:
    return DeadlinePassed("the board", expected=f"an answer within {deadline_s:g} s", found="none")


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = _Parser(prog="inspect-pop hook", description="Inspect one board; 0 pass, 1 fail, 2 review, 3 could not inspect.")
    parser.add_argument("export", help="the board's folder")
    parser.add_argument("--store", default=os.environ.get("INSPECT_POP_STORE"), help="where the record goes")
    parser.add_argument("--deadline", type=float, default=DEADLINE_S, metavar="S", help="seconds after which to give up")
    parser.add_argument("--service", metavar="URL", help="address of the service; found by itself where it runs here")
    parser.add_argument("--token-file", metavar="FILE", help="file that holds the token; or INSPECT_POP_TOKEN")
    parser.add_argument("--root", metavar="DIR", help="inspect alone, within this folder")
    parser.add_argument("--model", metavar="DIR", help="inspect alone, by this model")
    parser.add_argument("--limits", metavar="FILE", help="inspect alone, by these limits")
    parser.add_argument("--alone", action="store_true", help="inspect here, and ask no service")
    options = parser.parse_args(list(argv))
    if not 0 < options.deadline <= 86400:
        raise UsageFault("--deadline", expected="seconds, more than 0 and at most 86400", found=f"{options.deadline:g}")
    return options


def _token(file: str | None) -> str | None:
    if file is None:
        return os.environ.get("INSPECT_POP_TOKEN")
    with open(file, encoding="utf-8") as text:  # noqa: PTH123 (pathlib is not imported in this process)
        return text.read().strip()


def _from_service(path: str, store: str | None, service: str | None, token: str | None, until: float) -> Answer | None:
    """The service's answer, waiting where it is busy; None when there is no service for this board."""
    for url in urls(service, store):
        try:
            return _patiently(url, path, store, token, until)
        except NoService:
            continue
    return None


def _patiently(url: str, path: str, store: str | None, token: str | None, until: float) -> Answer:
    while True:
        asked = ask(url, {"path": path}, token=token, store=store, until=until)
        if asked.retry_after_s is None or time.monotonic() + asked.retry_after_s >= until:
            return asked.answer
        time.sleep(asked.retry_after_s)


def _by_itself(path: str, store: str | None, alone: Alone, until: float) -> Answer:
    """Inspect in a child process, which is killed when the time is over; it writes the board's page after this one is gone."""
    where = store or DEFAULT_STORE
    hello = {"store": where, "pages": pages_folder(where), "once": True, "limit_s": max(1.0, until - time.monotonic())}
    hello |= {"model": alone.model, "limits": alone.limits, "maker": alone.maker}
    job = {"kind": "inspect", "path": path, "root": alone.root}
    talk = "".join(json.dumps(line) + "\n" for line in (hello, job))
    child = subprocess.Popen(COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True, env=environment())
    said: list[bytes] = []
    reader = threading.Thread(target=_talk, args=(child, talk.encode(), said), daemon=True)
    reader.start()
    reader.join(max(0.001, until - time.monotonic()))
    _LEFT[:] = [*(left for left in _LEFT if left.poll() is None), child]
    if reader.is_alive():
        child.kill()
        reader.join(REAP_S)
        raise TimeoutError
    return _child_answer(b"".join(said).decode("utf-8", "replace").splitlines())


def _talk(child: "subprocess.Popen[bytes]", talk: bytes, said: list[bytes]) -> None:
    """Say everything, and hear what comes until the child has no more to say: it lets go before it ends."""
    with child.stdin as tells, child.stdout as hears:  # type: ignore[union-attr]
        with contextlib.suppress(BrokenPipeError):
            tells.write(talk)
            tells.flush()
        said.append(hears.read())


def _child_answer(lines: list[str]) -> Answer:
    """The child's last word: a ready line, then the answer. Half of it is none."""
    try:
        said = [json.loads(line) for line in lines]
        if said and not said[0]["ready"]:
            return checked(said[0]["answer"])
        return checked(said[1]["answer"])
    except (ValueError, LookupError, TypeError):
        found = "half of one" if lines[1:] else "it ended without one"
        remedy = "Its log, on standard error, tells why."
        return could_not(PopError("the inspecting process", expected="an answer", found=found, remedy=remedy))


def _say(line: str, status: int) -> int:
    try:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
    except OSError:
        return COULD_NOT  # nobody could read the answer
    return status
