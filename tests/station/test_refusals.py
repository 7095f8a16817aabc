"""What must be refused, each with its status, and the service goes on."""

import hashlib
import socket
import stat
import struct
import zipfile
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
from starlette.requests import Request

from inspect_pop.station.hook import run_hook
from tests.station.conftest import Running, running
from tests.station.fakes import write_board

Start = Callable[..., Running]
HALF_OPEN = 200


@pytest.fixture(autouse=True)
def _goes_on(request: pytest.FixtureRequest) -> Iterator[None]:
    """After each refusal the service inspects the next board."""
    yield
    name = "guarded" if "guarded" in request.fixturenames else "plain"
    service: Running = request.getfixturevalue(name)
    assert service.goes_on()


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A service that knows its callers; the station of line B may read one folder only."""
    base = tmp_path_factory.mktemp("guarded")
    line_b = base / "exports" / "line-b"
    line_b.mkdir(parents=True)
    (base / "tokens.toml").write_text(
        entry("axi-a", "station", "the-station")
        + entry("axi-b", "station", "the-other-station", f'roots = ["{line_b}"]')
        + entry("rita", "reviewer", "the-reviewer")
        + entry("boss", "admin", "the-admin")
    )
    with running(base, tokens=base / "tokens.toml", model_roots=(base / "models",)) as service:
        yield service


def entry(name: str, role: str, token: str, more: str = "") -> str:
    digest = hashlib.sha256(token.encode()).hexdigest()
    return f'[[token]]\nname = "{name}"\nrole = "{role}"\nsha256 = "{digest}"\n{more}\n'


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


# The hook


@pytest.mark.parametrize(
    ("token", "status", "word"),
    [("the-station", 0, ""), ("wrong", 3, "token"), (None, 3, "token"), ("the-reviewer", 3, "reviewer")],
)
def test_a_hook_is_served_by_its_token_and_never_goes_round_the_service(
    guarded: Running, monkeypatch: pytest.MonkeyPatch, token: str | None, status: int, word: str
) -> None:
    """The service proves itself before it has seen a token; one that refuses the token is no reason to inspect without it."""
    monkeypatch.setattr("inspect_pop.station.hook._inspect_standalone", lambda *_: pytest.fail("it inspected alone"))
    board = guarded.board(f"HOOK-{token}")
    found, answer = run_hook(board, guarded.settings.store, 60, token=token)
    assert (found, answer["verdict"]) == (status, "error" if status else "pass")
    assert word in answer["reason"]


# Paths


def test_a_path_outside_the_roots(plain: Running, tmp_path: Path) -> None:
    outside = write_board(tmp_path / "boards" / "OUT", "OUT")
    answer = plain.post(str(outside))
    assert (answer.status_code, answer.json()["verdict"], answer.json()["problem"]["about"]) == (422, "error", "path")
    assert plain.get("/v1/boards/OUT").status_code == 404


def test_an_answer_does_not_show_what_exists_outside(plain: Running, tmp_path: Path) -> None:
    there, not_there = tmp_path / "there", tmp_path / "not-there"
    there.mkdir()
    reasons = [plain.post(str(p)).json()["reason"].replace(str(p), "P") for p in (there, not_there)]
    assert reasons[0] == reasons[1]


@pytest.mark.parametrize("path", ["{root}/boards/../../secret", "../secret", "boards/../../secret", "..", ""])
def test_dots(plain: Running, path: str) -> None:
    write_board(plain.root.parent / "secret", "SECRET")
    assert plain.post(path.format(root=plain.root)).status_code == 422
    assert plain.get("/v1/boards/SECRET").status_code == 404


def test_a_link_that_leads_out(plain: Running, tmp_path: Path) -> None:
    outside = write_board(tmp_path / "OUT", "LINKED")
    link = plain.root / "boards" / "link"
    link.symlink_to(outside)
    answer = plain.post(str(link))
    assert (answer.status_code, answer.json()["problem"]["about"]) == (422, "path")
    assert plain.get("/v1/boards/LINKED").status_code == 404


def test_a_link_that_stays_inside_is_followed(plain: Running) -> None:
    board = plain.board("INSIDE")
    link = plain.root / "boards" / "inside-link"
    link.symlink_to(board)
    assert plain.post(str(link)).json()["verdict"] == "pass"


@pytest.mark.parametrize("path", ["/etc/passwd\0", "a" * 5000, "\ud800"])
def test_a_path_that_is_none(plain: Running, path: str) -> None:
    import json

    body = json.dumps({"path": path})
    headers = {"Content-Type": "application/json"}
    assert httpx.post(f"{plain.url}/v1/inspections", content=body, headers=headers).status_code == 422


# Callers


def test_no_token(guarded: Running) -> None:
    answer = guarded.post(guarded.board("NONE"))
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")


@pytest.mark.parametrize("header", ["Bearer the-nobody", "Bearer", "Basic dGhlLWFkbWlu", "the-admin", "Bearer the-admin x"])
def test_an_unknown_token(guarded: Running, header: str) -> None:
    assert guarded.post(guarded.board("NOBODYS"), headers={"Authorization": header}).status_code == 401


def test_another_stations_token_on_a_board_that_is_not_its_own(guarded: Running) -> None:
    path = guarded.board("LINE-A")
    answer = guarded.post(path, headers=bearer("the-other-station"))
    assert (answer.status_code, answer.json()["verdict"]) == (403, "error")
    assert guarded.post(path, headers=bearer("the-station")).status_code == 200
    own = write_board(guarded.root / "line-b" / "B1", "LINE-B")
    assert guarded.post(str(own), headers=bearer("the-other-station")).status_code == 200


def test_a_reviewers_token_on_an_admin_call(guarded: Running) -> None:
    answer = httpx.post(f"{guarded.url}/v1/model", json={"path": "x"}, headers=bearer("the-reviewer"))
    assert answer.status_code == 403
    assert guarded.get("/readyz", headers=bearer("the-reviewer")).json()["model"] == "released"


@pytest.mark.parametrize(
    ("token", "method", "path", "status"),
    [
        ("the-reviewer", "POST", "/v1/inspections", 403),
        ("the-station", "POST", "/v1/boards/X/decisions", 403),
        ("the-station", "POST", "/v1/model", 403),
        ("", "GET", "/v1/boards/X", 401),
        ("", "GET", "/v1/reports/X", 401),
        ("", "GET", "/metrics", 401),
        ("", "GET", "/healthz", 200),
        ("", "GET", "/readyz", 200),
        ("the-reviewer", "GET", "/v1/boards/X", 404),
        ("the-admin", "POST", "/v1/model", 422),
    ],
)
def test_each_role_has_its_acts(guarded: Running, token: str, method: str, path: str, status: int) -> None:
    decision = {"refdes": "U1", "interface": "lower", "ball": "A1", "state": "DefectRejected"}
    body = decision if path.endswith("decisions") else {"path": "nowhere"}
    headers = bearer(token) if token else {}
    assert (
        httpx.request(method, guarded.url + path, json=body if method == "POST" else None, headers=headers).status_code == status
    )


def test_tokens_are_in_no_log(guarded: Running, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    guarded.post(guarded.board("LOGGED"), headers=bearer("the-station"))
    guarded.post(guarded.board("LOGGED"), headers=bearer("the-wrong-secret"))
    logged = [record.__dict__ for record in caplog.records]
    assert any(t.get("caller") == "axi-a" for t in logged)
    assert not any("the-station" in str(t) or "the-wrong-secret" in str(t) for t in logged)


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "127.0.0.1:3000"},
        {"Origin": "https://evil.example"},
        {"Origin": "http://localhost:3000"},
        {"Origin": "http://127.0.0.1"},
        {"Origin": "null"},
        {"Referer": "http://localhost:3000/page"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"X-Forwarded-For": "203.0.113.7"},
        {"X-Forwarded-Host": "pop.plant.example"},
        {"X-Real-IP": "203.0.113.7"},
        {"Forwarded": "for=203.0.113.7"},
        {"Via": "1.1 nginx"},
    ],
    ids=str,
)
def test_a_proxy_or_a_page_in_a_browser(plain: Running, headers: dict[str, str]) -> None:
    answers = [plain.post(plain.board("BROWSED"), headers=headers), plain.get("/metrics", headers=headers)]
    assert [a.status_code for a in answers] == [403, 403]


def test_a_page_of_the_service_itself(plain: Running) -> None:
    headers = {"Origin": plain.url, "Referer": f"{plain.url}/docs", "Sec-Fetch-Site": "same-origin"}
    assert plain.get("/metrics", headers=headers).status_code == 200


def test_without_a_token_the_health_tells_nothing_of_the_service(guarded: Running) -> None:
    assert guarded.get("/readyz").json() == {"status": "ready"}
    for path in ("/openapi.json", "/docs", "/nowhere"):
        assert guarded.get(path).status_code == 401
        assert guarded.get(path, headers=bearer("the-station")).status_code in (200, 404)


def test_health_by_head(guarded: Running) -> None:
    for path in ("/healthz", "/readyz"):
        answer = httpx.head(guarded.url + path)
        assert (answer.status_code, answer.content) == (200, b"")


def test_a_link_does_not_follow_the_header_host(guarded: Running) -> None:
    from inspect_pop.station.routes import _find_public_url  # the fake inspector's boards have no page

    def link(public_url: str | None, **headers: str) -> str:
        scope = {"type": "http", "scheme": "http", "server": ("10.0.0.5", 8737), "path": "/", "query_string": b""}
        scope["headers"] = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        station = SimpleNamespace(settings=SimpleNamespace(public_url=public_url))
        return _find_public_url(Request(scope), station)  # type: ignore[arg-type]

    assert link(None, host="evil.example") == "http://10.0.0.5:8737"
    assert link(None, host="evil.example", x_forwarded_host="evil.example") == "http://10.0.0.5:8737"
    assert link(None, host="pop.plant.example", x_forwarded_proto="https") == "https://10.0.0.5:8737"
    assert link(None, x_forwarded_proto="HTTPS, http") == "https://10.0.0.5:8737"  # by two proxies, the outer one with TLS
    assert link(None, forwarded="for=192.0.2.1;proto=https, for=10.0.0.9;proto=http") == "https://10.0.0.5:8737"
    assert link(None, x_forwarded_proto="http, https", forwarded="proto=http") == "http://10.0.0.5:8737"
    assert link("https://pop.plant.example/line-a/", host="evil.example") == "https://pop.plant.example/line-a"


def test_a_caller_that_goes_away_leaves_no_traceback(plain: Running, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    head = "POST /v1/inspections HTTP/1.1\nHost: 127.0.0.1\nContent-Type: {}\nContent-Length: 1000\n"
    for kind in ("application/json", "multipart/form-data; boundary=x"):
        with socket.create_connection(("127.0.0.1", plain.settings.port), timeout=30) as connection:
            connection.sendall(head.format(kind).replace("\n", "\r\n").encode() + b"\r\n{")
    assert plain.goes_on()
    assert not any(record.exc_info for record in caplog.records)


# Uploads


def upload(service: Running, archive: bytes) -> httpx.Response:
    return httpx.post(f"{service.url}/v1/inspections", files={"file": ("x.zip", archive)}, timeout=60)


def packed(*members: tuple[zipfile.ZipInfo | str, bytes]) -> bytes:
    out = BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("boards/X/export.json", b'{"serial": "UPLOADED"}')
        for name, data in members:
            archive.writestr(name, data)
    return out.getvalue()


def test_a_zip_bomb_by_ratio(plain: Running) -> None:
    answer = upload(plain, packed(("boards/X/zeros", bytes(80 << 20))))
    assert answer.status_code == 422
    assert "bomb" in answer.json()["reason"]


def test_a_zip_bomb_that_lies_about_its_size(plain: Running) -> None:
    archive = bytearray(packed(("boards/X/zeros", bytes(70 << 20))))
    for place in (archive.rfind(b"PK\x01\x02") + 24,):
        archive[place : place + 4] = struct.pack("<I", 10)
    assert upload(plain, bytes(archive)).status_code == 422


def test_a_zip_that_declares_more_than_there_may_be(plain: Running) -> None:
    archive = bytearray(packed(("boards/X/zeros", b"0" * 100)))
    place = archive.rfind(b"PK\x01\x02") + 24
    archive[place : place + 4] = struct.pack("<I", 0xFFFFFFF0)
    many = bytes(archive)
    assert upload(plain, many).status_code == 422


def test_a_zip_of_too_many_files(plain: Running) -> None:
    answer = upload(plain, packed(*((f"f{i}", b"") for i in range(1001))))
    assert (answer.status_code, "1000 files" in answer.json()["reason"]) == (422, True)


def _link() -> zipfile.ZipInfo:
    info = zipfile.ZipInfo("boards/X/link")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


@pytest.mark.parametrize(
    "name",
    [
        "../out",
        "/etc/out",
        "a/../../out",
        "C:/out",
        "a\\..\\out",
        "/".join("abcdefghij"),
        "n" * 300,
        _link(),
        "boards/X/export.json",
    ],
)
def test_a_zip_with_a_name_that_may_not_be(plain: Running, name: str | zipfile.ZipInfo) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("warnings.warn", lambda *_, **__: None)  # zipfile warns of a name that is there twice
        archive = packed((name, b"/etc/passwd"))
    answer = upload(plain, archive)
    assert (answer.status_code, answer.json()["verdict"]) == (422, "error")


def test_a_zip_with_no_board_or_two(plain: Running) -> None:
    assert "found 2" in upload(plain, packed(("boards/Y/export.json", b"{}"))).json()["reason"]
    out = BytesIO()
    zipfile.ZipFile(out, "w").close()
    assert "found 0" in upload(plain, out.getvalue()).json()["reason"]


@pytest.mark.parametrize("data", [b"", b"no zip", packed()[:-30], packed()[:60]], ids=["nothing", "text", "cut", "begun"])
def test_what_is_no_zip(plain: Running, data: bytes) -> None:
    assert upload(plain, data).status_code == 422


def test_a_form_that_is_none(plain: Running) -> None:
    url, headers = f"{plain.url}/v1/inspections", {"Content-Type": "multipart/form-data; boundary=x"}
    assert httpx.post(url, content=b"rubbish", headers=headers).status_code == 422
    assert httpx.post(url, files={"other": b"x"}).status_code == 422
    assert httpx.post(url, content=b"", headers={"Content-Type": "multipart/form-data"}).status_code == 422


# Sizes and times


def raw(service: Running, head: str, body: Iterator[bytes] | None = None) -> bytes:
    """What a plain socket gets back for a request that no client library would send."""
    with socket.create_connection(("127.0.0.1", service.settings.port), timeout=30) as connection:
        connection.sendall(head.replace("\n", "\r\n").encode() + b"\r\n")
        try:
            for piece in body or ():
                connection.sendall(piece)
        except (BrokenPipeError, ConnectionResetError):
            pass
        try:
            return connection.recv(65536)
        except ConnectionResetError:
            return b""


@pytest.mark.parametrize("kind", ["application/json", "multipart/form-data; boundary=x"])
def test_a_body_of_10_gb_that_says_so(plain: Running, kind: str) -> None:
    head = f"POST /v1/inspections HTTP/1.1\nHost: 127.0.0.1\nContent-Type: {kind}\nContent-Length: 10000000000\n"
    assert raw(plain, head).startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize(("kind", "limit"), [("application/json", 64 << 10), ("multipart/form-data; boundary=x", 1 << 20)])
def test_a_body_of_10_gb_that_does_not_say_so(plain: Running, kind: str, limit: int) -> None:
    sent = 0

    def pieces() -> Iterator[bytes]:
        nonlocal sent
        chunk = b"10000\r\n" + bytes(1 << 16) + b"\r\n"
        if "multipart" in kind:
            part = b'--x\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'
            yield b"%x\r\n%s\r\n" % (len(part), part)
        while sent < 10_000_000_000:
            sent += 1 << 16
            yield chunk

    head = f"POST /v1/inspections HTTP/1.1\nHost: 127.0.0.1\nContent-Type: {kind}\nTransfer-Encoding: chunked\n"
    answer = raw(plain, head, pieces())
    assert answer.startswith(b"HTTP/1.1 413") or answer == b""
    assert sent < limit + (64 << 20)


def test_a_refused_upload_gets_its_answer(plain: Running) -> None:
    """A client that sends everything before it reads sees 413 rather than a broken pipe."""
    assert upload(plain, bytes(8 << 20)).status_code == 413


def test_a_body_that_never_comes(plain: Running) -> None:
    head = "POST /v1/inspections HTTP/1.1\nHost: 127.0.0.1\nContent-Type: application/json\nContent-Length: 100\n"
    assert raw(plain, head, iter([b'{"pa'])).startswith(b"HTTP/1.1 408")


def test_200_half_open_connections(plain: Running) -> None:
    service = ("127.0.0.1", plain.settings.port)
    opened = [socket.create_connection(service, timeout=30) for _ in range(HALF_OPEN)]
    for i, connection in enumerate(opened):
        connection.sendall(b"" if i % 2 else b"POST /v1/inspections HTTP/1.1\r\nHost: 127.0.0.1\r\n")
    assert plain.goes_on()
    assert [c.recv(1) for c in opened] == [b""] * HALF_OPEN  # each is closed, after the time for a head
    for connection in opened:
        connection.close()


def test_more_connections_than_there_may_be(tmp_path: Path, plain: Running) -> None:
    with running(tmp_path, connections=20, header_s=30.0) as service:
        opened = [socket.create_connection(("127.0.0.1", service.settings.port), timeout=30) for _ in range(60)]
        assert service.goes_on()
        assert opened[0].recv(1) == b""  # the oldest silent one made room
        for connection in opened:
            connection.close()


@pytest.mark.parametrize(
    "head", ["rubbish\n", "GET / HTTP/1.1\nHost: a\nHost: b\n", "GET /healthz HTTP/1.1\nX: " + "y" * 70000 + "\n"]
)
def test_what_is_no_http(plain: Running, head: str) -> None:
    assert raw(plain, head).startswith(b"HTTP/1.1 4")


@pytest.mark.parametrize(
    "body", [b"", b"[]", b'{"path": 1}', b'{"path": "x", "more": 1}', b"{" * 30000, b"\xff", b'{"path": "' + b"x" * 70000]
)
def test_json_that_is_no_request(plain: Running, body: bytes) -> None:
    answer = httpx.post(f"{plain.url}/v1/inspections", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == (413 if len(body) > 64 << 10 else 422)
    assert answer.json()["verdict"] == "error"
