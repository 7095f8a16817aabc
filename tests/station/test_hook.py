"""The hook as the line calls it: one object on standard output, an exit status, and never a pass by accident."""

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from inspect_pop.core.errors import UsageFault
from inspect_pop.station.hook import StandaloneOptions, _read_token, main, run_hook
from inspect_pop.store import open_store
from tests.station.conftest import FACTORY, REPO, Running
from tests.station.fakes import write_board

FAKE = StandaloneOptions(inspector_factory=FACTORY)


def alone(tmp_path: Path, serial: str, deadline_s: float = 120, **content: object) -> tuple[int, dict[str, object]]:
    board = write_board(tmp_path / "batch" / "boards" / serial, serial, **content)
    return run_hook(str(board), str(tmp_path / "records.db"), deadline_s, standalone=FAKE)


@pytest.mark.parametrize(
    ("content", "status", "verdict"),
    [
        ({}, 0, "pass"),
        ({"defects": {"U1.lower.A1": "open"}}, 1, "fail"),
        ({"reviews": {"U1.lower.A1": "unsure"}}, 2, "review"),
        ({"refuse": "odd"}, 3, "error"),
    ],
)
def test_inspects_standalone_and_the_record_is_in_the_store(
    tmp_path: Path, content: dict[str, object], status: int, verdict: str
) -> None:
    got, answer = alone(tmp_path, "S", **content)
    assert (got, answer["verdict"]) == (status, verdict)
    with open_store(tmp_path / "records.db") as store:
        assert [b.board.record for b in store.board("S")] == ([answer["record"]] if status < 3 else [])
        assert len(store.list_quarantine()) == (status == 3)
        assert store.waiting()[0] == (4 if status < 3 else 1)


@pytest.mark.parametrize("content", [{"raise": "boom"}, {"die": True}])
def test_an_inspection_that_crashes_is_no_pass(tmp_path: Path, content: dict[str, object]) -> None:
    status, answer = alone(tmp_path, "S", **content)
    assert (status, answer["verdict"], answer["record"]) == (3, "error", None)
    assert "ended" in str(answer["reason"])


def test_an_inspection_that_hangs_is_answered_at_the_deadline(tmp_path: Path) -> None:
    status, answer = alone(tmp_path, "S", deadline_s=1.0, seconds=600)
    assert (status, answer["verdict"]) == (3, "error")
    assert "1 s" in str(answer["reason"])


def test_with_a_service_it_gives_the_same_object_as_alone(plain: Running, tmp_path: Path) -> None:
    content = {"defects": {"U1.lower.A1": "open"}}
    path = plain.board("SAME", **content)
    status, by_service = run_hook(path, plain.settings.store, 30)
    alone_status, standalone = alone(tmp_path, "SAME", **content)
    assert status == alone_status == 1
    assert {**by_service, "elapsed_ms": 0} == {**standalone, "elapsed_ms": 0}


def test_finds_the_service_by_the_address_beside_the_store(plain: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inspect_pop.station.hook._inspect_standalone", lambda *_: pytest.fail("a service runs"))
    assert run_hook(plain.board("FOUND"), plain.settings.store, 30)[0] == 0


def test_a_service_with_another_store_is_not_used(plain: Running, tmp_path: Path) -> None:
    mine = str(tmp_path / "mine.db")
    status, answer = run_hook(plain.board("MINE"), mine, 30, service=plain.url, standalone=FAKE)
    assert (status, answer["problem"]["about"]) == (3, "usage")  # nobody knows how that service would judge
    assert run_hook(plain.board("MINE"), mine, 30, standalone=FAKE)[0] == 0
    with open_store(mine) as store, plain.store() as theirs:
        assert (len(store.board("MINE")), len(theirs.board("MINE"))) == (1, 0)


def test_a_refusal_by_the_service_is_an_error_with_its_reason(plain: Running, tmp_path: Path) -> None:
    outside = write_board(tmp_path / "elsewhere", "OUT")
    status, answer = run_hook(str(outside), plain.settings.store, 30)
    assert (status, answer["verdict"]) == (3, "error")
    assert "roots" in str(answer["reason"])


def test_a_service_that_does_not_let_in_is_an_error_and_not_a_reason_to_go_round_it(tmp_path: Path) -> None:
    with answering([(401, b'{"verdict": "error", "reason": "a known token is needed"}', None)]) as url:
        status, answer = run_hook(str(tmp_path), None, 10, service=url, standalone=FAKE)
    assert status == 3
    assert "token" in str(answer["reason"])


def test_waits_while_the_service_is_busy_and_not_longer_than_the_deadline(tmp_path: Path) -> None:
    busy = b'{"serial": null, "verdict": "error", "reason": "busy", "defects": [], "record": null}'
    passed = b'{"serial": "S", "verdict": "pass", "reason": "", "defects": [], "record": "r1"}'
    with answering([(503, busy, "0"), (503, busy, "0"), (200, passed, None)]) as url:
        assert run_hook(str(tmp_path), None, 10, service=url, standalone=FAKE)[0] == 0
    with answering([(503, busy, "60")]) as url:
        assert run_hook(str(tmp_path), None, 1, service=url, standalone=FAKE)[1]["reason"] == "busy"


@pytest.mark.parametrize(
    "body",
    [
        b'{"serial": "S", "verdict": "pass", "reason": "", "defects": [], "record": "r1"',
        b'{"serial": "S", "verdict": "pass", "reason": "", "defects": [], "record": null}',
        b'{"serial": "S", "verdict": "pass", "reason": "", "defects": [{}], "record": "r"}',
        b'{"serial": "S", "verdict": "Pass", "reason": "", "defects": [], "record": "r"}',
        b'{"verdict": "pass"}',
        b'"pass"',
        b"pass",
        b"",
        b"\xff\xfe",
    ],
)
def test_half_an_answer_is_none_and_the_board_is_inspected_here(
    tmp_path: Path, body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inspect_pop.station.hook._inspect_standalone", lambda *_: {"verdict": "fail"})
    with answering([(200, body, None)]) as url:
        assert run_hook(str(tmp_path), str(tmp_path / "r.db"), 30, service=url, standalone=FAKE)[0] == 1


def test_a_pass_with_a_wrong_status_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inspect_pop.station.hook._inspect_standalone", lambda *_: {"verdict": "fail"})
    passed = b'{"serial": "S", "verdict": "pass", "reason": "", "defects": [], "record": "r1"}'
    with answering([(422, passed, None)]) as url:
        assert run_hook(str(tmp_path), None, 30, service=url, standalone=FAKE)[0] == 1


def test_a_service_that_says_nothing_is_an_error_at_the_deadline(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        status, answer = run_hook(str(tmp_path), None, 0.6, service=url, standalone=FAKE)
    assert (status, answer["verdict"]) == (3, "error")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--help"],
        ["a", "b"],
        ["a", "--deadline", "soon"],
        ["a", "--deadline", "0"],
        ["a", "--deadline", "nan"],
        ["a", "--what"],
    ],
)
def test_wrong_arguments_are_3_with_one_object(arguments: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 3
    answer = json.loads(capfd.readouterr().out)
    assert (answer["verdict"], answer["record"]) == ("error", None)


def test_a_token_file_that_is_not_there_is_3(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main([str(tmp_path), "--token-file", str(tmp_path / "none")]) == 3
    assert json.loads(capfd.readouterr().out)["verdict"] == "error"


def test_an_unexpected_error_is_3_and_not_the_interpreters_1(tmp_path: Path) -> None:
    breaks = "import inspect_pop.station.hook as h; h.run_hook = lambda *a, **k: 1 // 0; h.sys.exit(h.main())"
    done = subprocess.run([sys.executable, "-c", breaks, str(tmp_path)], capture_output=True, timeout=60, cwd=REPO, check=False)
    assert (done.returncode, json.loads(done.stdout)["verdict"]) == (3, "error")
    assert b"ZeroDivisionError" in done.stderr


def test_the_command_prints_one_line_and_nothing_else(plain: Running) -> None:
    done = call(plain.board("ALONE-ON-STDOUT", print="noise"), "--store", plain.settings.store)
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 1
    assert json.loads(done.stdout)["serial"] == "ALONE-ON-STDOUT"


def test_an_answer_that_is_not_read_is_no_pass(plain: Running) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = call(plain.board("UNREAD"), "--store", plain.settings.store, stdout=writing)
    os.close(writing)
    assert done.returncode != 0


def test_a_hook_that_hangs_anywhere_ends_at_its_deadline(tmp_path: Path) -> None:
    hangs = "import time, inspect_pop.station.hook as h; h.run_hook = lambda *a, **k: time.sleep(600); h.sys.exit(h.main())"
    done = subprocess.run(
        [sys.executable, "-c", hangs, str(tmp_path), "--deadline", "0.3"], capture_output=True, timeout=60, cwd=REPO, check=False
    )
    assert done.returncode == 3
    assert json.loads(done.stdout)["problem"]["about"] == "deadline"


def test_the_hook_process_imports_the_standard_library_alone() -> None:
    code = (
        "import sys, inspect_pop.station.hook; "
        "print([m for m in ('numpy', 'pydantic', 'typer', 'sqlalchemy', 'httpx', 'fastapi') if m in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], cwd=REPO, text=True).strip() == "[]"


def call(*arguments: str, stdout: int = subprocess.PIPE) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-c", "import sys; from inspect_pop.station.hook import main; sys.exit(main())", *arguments]
    return subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, timeout=60, cwd=REPO, check=False)


@contextmanager
def answering(replies: list[tuple[int, bytes, str | None]]) -> Iterator[str]:
    """A server that gives these replies in turn."""
    left = iter(replies)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            status, body, wait = next(left)
            self.send_response(status)
            if wait:
                self.send_header("Retry-After", wait)
            self.send_header("Content-Length", str(len(body) + (0 if body.endswith(b"}") or b"{" not in body else 1)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_a_store_that_cannot_be_written_is_no_verdict(tmp_path: Path) -> None:
    board = write_board(tmp_path / "batch" / "boards" / "S", "S")
    (tmp_path / "file").write_text("in the way")
    status, answer = run_hook(str(board), str(tmp_path / "file" / "r.db"), 30, standalone=FAKE)
    assert (status, answer["problem"]["about"]) == (3, "store")


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-16"])
def test_the_answer_is_utf_8_whatever_the_streams_encoding_is(
    plain: Running, encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", encoding)
    done = call(plain.board("検査-001", f"odd-{encoding}"), "--store", plain.settings.store)
    assert (done.returncode, json.loads(done.stdout.decode("utf-8"))["serial"]) == (0, "検査-001")


@pytest.mark.parametrize(("closed", "status"), [("0<&-", 0), ("2>&-", 0), ("0<&- 2>&-", 0), (">&-", 3), ("0<&- >&- 2>&-", 3)])
def test_closed_streams_cost_no_verdict_but_an_answer_that_cannot_be_written(plain: Running, closed: str, status: int) -> None:
    code = "import sys; from inspect_pop.cli import main; sys.exit(main())"
    board = plain.board(f"CLOSED-{abs(hash(closed))}")
    command = [
        "sh",
        "-c",
        f'exec "$@" {closed}',
        "sh",
        sys.executable,
        "-c",
        code,
        "hook",
        board,
        "--store",
        plain.settings.store,
    ]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=120, cwd=REPO, check=False)
    assert done.returncode == status
    assert [json.loads(line)["verdict"] for line in done.stdout.splitlines()] == ["pass"] * (status == 0)


def test_a_program_that_cannot_be_loaded_is_3_with_one_object() -> None:
    code = "import sys; sys.modules['inspect_pop.station.hook'] = None; import inspect_pop.cli as c; sys.exit(c.main(['hook']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, cwd=REPO, check=False)
    assert (done.returncode, json.loads(done.stdout)["verdict"]) == (3, "error")


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_a_hook_that_is_asked_to_end_says_so(tmp_path: Path, name: str) -> None:
    waits = (
        "import os, signal, sys, time, inspect_pop.station.hook as h\n"
        f"h.run_hook = lambda *a, **k: (os.kill(os.getpid(), signal.{name}), time.sleep(600))\n"
        "sys.exit(h.main())"
    )
    done = subprocess.run([sys.executable, "-c", waits, str(tmp_path)], capture_output=True, timeout=60, cwd=REPO, check=False)
    assert (done.returncode, name in json.loads(done.stdout)["reason"]) == (3, True)


@pytest.mark.parametrize("text", [b"\xef\xbb\xbfa-token\r\n", b"a-token", b" a-token\n"])
def test_a_token_file_may_have_a_byte_order_mark(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "token").write_bytes(text)
    assert _read_token(str(tmp_path / "token")) == "a-token"


@pytest.mark.parametrize("text", [b"", b"two tokens", "Schlüssel".encode(), b"\xff\xfea\x00", b"a\x00b"])
def test_what_cannot_be_a_token_is_no_reason_to_go_round_the_service(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "token").write_bytes(text)
    with pytest.raises(UsageFault, match="token"):
        _read_token(str(tmp_path / "token"))
