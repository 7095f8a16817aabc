"""The hook as a client: who proves to be the station, who gets the token, and which answers count."""

import json
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from inspect_pop.core.errors import PopError, StoreFault, UsageFault
from inspect_pop.station.client import (
    NoService,
    ServiceAddress,
    check_record,
    check_serial,
    find_services,
    is_station,
    post_inspection,
    prove,
)
from inspect_pop.station.contract import locate_address_file
from inspect_pop.station.hook import run_hook
from tests.station.conftest import Running
from tests.station.fakes import write_board

PASSED = {"serial": "S", "verdict": "pass", "reason": "", "defects": [], "record": "r1"}


def leave_address(store: Path, url: str, **more: str) -> None:
    file = locate_address_file(str(store))
    assert file is not None
    file.write_text(json.dumps({"url": url, **more}))


def in_s(seconds: float) -> float:
    return time.monotonic() + seconds


class Listener:
    """Any program at a port: it answers `pass`, with a proof of what it believes to be the secret."""

    def __init__(self, secret: str | None) -> None:
        self.secret, self.tokens, self.url = secret, [], ""  # type: ignore[var-annotated]


@contextmanager
def listening(secret: str | None = None) -> Iterator[Listener]:
    listener = Listener(secret)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def reply(self, value: object) -> None:
            listener.tokens.append(self.headers.get("Authorization"))
            body = json.dumps(value).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            self.reply({"proof": prove(listener.secret or "guess", self.headers["X-Challenge"])})

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.reply(PASSED)

        def log_message(self, *_: object) -> None:
            return

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    listener.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield listener
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_a_stranger_at_the_stations_address_gets_no_token_and_its_answer_does_not_count() -> None:
    with listening() as stranger, pytest.raises(NoService, match="not the station"):
        post_inspection(ServiceAddress(stranger.url, "secret"), {"path": "b"}, token="token", store=None, until=in_s(20))
    assert stranger.tokens == [None]


def test_the_station_gets_the_token_after_its_proof() -> None:
    with listening("secret") as station:
        reply = post_inspection(ServiceAddress(station.url, "secret"), {"path": "b"}, token="token", store=None, until=in_s(20))
    assert (reply.answer["verdict"], station.tokens) == ("pass", [None, "Bearer token"])


def test_a_service_proves_itself_by_the_secret_in_its_address_file(plain: Running) -> None:
    (address,) = find_services(None, plain.settings.store)
    assert is_station(address, in_s(20))
    assert not is_station(ServiceAddress(address.url, "another"), in_s(20))
    file = locate_address_file(plain.settings.store)
    assert file is not None
    assert file.stat().st_mode & 0o077 == 0


def test_an_address_without_a_secret_is_not_asked(tmp_path: Path) -> None:
    leave_address(tmp_path / "r.db", "http://127.0.0.1:1")
    assert find_services(None, str(tmp_path / "r.db")) == []
    leave_address(tmp_path / "r.db", "http://127.0.0.1:1", secret="s")
    assert find_services(None, str(tmp_path / "r.db")) == [ServiceAddress("http://127.0.0.1:1", "s")]


def test_a_service_that_is_named_must_prove_itself_where_its_secret_is_known(tmp_path: Path) -> None:
    leave_address(tmp_path / "r.db", "http://127.0.0.1:1", secret="s")
    assert find_services("http://localhost:1/", str(tmp_path / "r.db")) == [ServiceAddress("http://localhost:1/", "s")]
    assert find_services("http://localhost:2", str(tmp_path / "r.db")) == [ServiceAddress("http://localhost:2")]


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_an_address_file_of_another_user_is_no_reason_to_go_round_the_service(tmp_path: Path) -> None:
    leave_address(tmp_path / "r.db", "http://127.0.0.1:1", secret="s")
    (tmp_path / "r.db.service.json").chmod(0)
    with pytest.raises(UsageFault, match="read"):
        find_services(None, str(tmp_path / "r.db"))


def test_an_answer_about_another_board_does_not_count(tmp_path: Path) -> None:
    board = write_board(tmp_path / "b", "MINE")
    with pytest.raises(PopError, match="serial MINE"):
        check_serial(PASSED, str(board))
    check_serial(PASSED | {"serial": "MINE"}, str(board))
    check_serial(PASSED, str(tmp_path / "on another machine"))


@pytest.mark.parametrize("row", [None, ("r1", "OTHER", "pass"), ("r1", "S", "fail"), ("r2", "S", "pass")])
def test_an_answer_without_its_record_in_the_store_does_not_count(tmp_path: Path, row: tuple[str, ...] | None) -> None:
    store = tmp_path / "a b?#%41.db"
    with closing(sqlite3.connect(store)) as database, database:
        database.execute("CREATE TABLE boards (record, serial, verdict)")
        if row is not None:
            database.execute("INSERT INTO boards VALUES (?, ?, ?)", row)
    with pytest.raises(StoreFault, match="record r1"):
        check_record(PASSED, str(store), in_s(1))


def test_an_answer_for_a_store_that_is_not_there_does_not_count(tmp_path: Path) -> None:
    with listening() as stranger:
        status, answer = run_hook(str(write_board(tmp_path / "b", "S")), str(tmp_path / "r.db"), 20, service=stranger.url)
    assert (status, answer["problem"]["about"]) == (3, "store")


def test_a_database_servers_station_that_is_not_known_is_3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may run on another machine or under another account: what it judges by is not known then."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    board = write_board(tmp_path / "boards" / "A", "A")
    status, answer = run_hook(str(board), "postgresql://me:secret@127.0.0.1:1/x", 20)
    assert (status, "nor its setup" in answer["reason"], "--alone" in answer["problem"]["remedy"]) == (3, True, True)
    assert "secret" not in json.dumps(answer)
    _, alone = run_hook(str(board), "postgresql://me:secret@127.0.0.1:1/x", 60, use_service=False)
    assert alone["problem"]["about"] == "store"  # it went on to the store, which is away


def test_a_named_service_that_is_away_and_never_left_its_setup_is_3(tmp_path: Path) -> None:
    status, answer = run_hook(str(write_board(tmp_path / "b", "S")), str(tmp_path / "r.db"), 20, service="http://127.0.0.1:9")
    assert (status, answer["problem"]["about"]) == (3, "usage")
