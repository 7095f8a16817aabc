"""Log-in, cookies and what another site's page could try: on a real service, and at the gate itself."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.requests import HTTPConnection

from inspect_pop.core.errors import StoreFault
from inspect_pop.station import login as module
from inspect_pop.station import routes
from inspect_pop.station.access import LOCAL_PROGRAM
from inspect_pop.station.login import COOKIE, Gate, find_local_path, is_of_this_site
from inspect_pop.station.settings import ServiceSettings
from inspect_pop.station.worker import locate_page
from inspect_pop.store import accounts, open_store
from tests.station.conftest import Running, running

PASSWORD = "grey solder 7"
ROLES = {"Ada": "operator", "Rita": "repair", "Eve": "engineer", "Max": "admin", "<script>alert(1)</script>": "operator"}


@pytest.fixture(autouse=True)
def _cheap_digests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounts, "SCRYPT_N", 16)
    monkeypatch.setattr(accounts, "_NO_SECRET", "scrypt$16$8$1$AAAAAAAAAAAAAAAAAAAAAA==$AAAA")


def add_people(store_path: Path, names: dict[str, str] = ROLES) -> None:
    with open_store(store_path) as store:
        for name, role in names.items():
            store.accounts.add_user(name, role, PASSWORD, by="test", now_us=1)


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A service with people, a board of two suspects, and no token file."""
    folder = tmp_path_factory.mktemp("people")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(accounts, "SCRYPT_N", 16)
        patch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[2]))
        add_people(folder / "records.db")
        with running(folder) as service:
            service.post(service.board("S1", defects={"U1.lower.A1": "open", "U1.lower.A2": "open"}))
            yield service


class Browser:
    """A browser at the service's pages, which says who it is and which page asks."""

    def __init__(self, service: Running, name: str | None = None) -> None:
        self.client = httpx.Client(base_url=service.url, timeout=300, headers={"Sec-Fetch-Site": "same-origin"})
        self.url, self.csrf = service.url, ""
        if name is not None:
            assert self.enter(name).status_code == 303
            self.csrf = self.client.get("/v1/me").json()["csrf"]

    def enter(self, name: str, password: str = PASSWORD, **form: str) -> httpx.Response:
        return self.client.post("/login", data={"name": name, "password": password, **form}, headers={"Origin": self.url})

    def decide(self, body: Any, serial: str = "S1", **headers: str) -> httpx.Response:
        sent = {"X-CSRF-Token": self.csrf, "Origin": self.url} | headers
        return self.client.post(f"/v1/boards/{serial}/decisions", json=body, headers={k: v for k, v in sent.items() if v})


@contextmanager
def browser(service: Running, name: str | None = None) -> Iterator[Browser]:
    opened = Browser(service, name)
    try:
        yield opened
    finally:
        opened.client.close()


def decision(state: str = "DefectConfirmed", ball: str = "A1", **more: object) -> dict[str, object]:
    return {"refdes": "U1", "interface": "lower", "ball": ball, "state": state, **more}


def count_decisions(service: Running) -> int:
    with service.store() as store:
        return sum(len(b.decisions) for b in store.board("S1"))


def test_the_cookie_is_for_this_site_and_no_script(people: Running) -> None:
    with browser(people) as page:
        answer = page.enter("Ada", next="/board/abc?x=1")
        assert (answer.status_code, answer.headers["location"]) == (303, "/board/abc?x=1")
        attributes = {part.strip().lower() for part in answer.headers["set-cookie"].split(";")[1:]}
        assert attributes == {"httponly", "samesite=strict", "path=/"}
        me = page.client.get("/v1/me").json()
        assert {k: me[k] for k in ("name", "role", "stage", "rights")} == {
            "name": "Ada",
            "role": "operator",
            "stage": "operator",
            "rights": ["read", "verify"],
        }
        assert page.client.get("/v1/me").headers["cache-control"] == "no-store"


def test_pages_need_a_log_in_and_lead_to_it(people: Running) -> None:
    with browser(people) as page:
        for path in ("/", "/board/abc", "/v1/reports/abc"):
            answer = page.client.get(path, headers={"Accept": "text/html"})
            assert (answer.status_code, answer.headers["location"]) == (303, f"/login?next={path}")
        assert page.client.get("/v1/queue").status_code == 401
        assert page.client.get("/login").headers["content-security-policy"].startswith("default-src 'none'")
        assert page.client.get("/login").headers["x-frame-options"] == "DENY"


def test_a_report_opens_in_the_browser_of_whoever_is_logged_in(people: Running) -> None:
    with people.store() as store:
        record = store.board("S1")[0].board.record
    assert people.settings.pages is not None
    file = locate_page(people.settings.pages, record)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("<!doctype html><title>S1</title>")  # the fake inspector draws none
    with browser(people, "Ada") as page:
        answer = page.client.get(f"/v1/reports/{record}", headers={"Accept": "text/html"})
        assert (answer.status_code, "S1" in answer.text) == (200, True)
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]


@pytest.mark.parametrize("old", [False, True])
def test_a_report_is_waited_for_also_where_an_old_record_is_inspected_again(
    people: Running, monkeypatch: pytest.MonkeyPatch, old: bool
) -> None:
    if old:
        monkeypatch.setattr(routes, "PAGE_FRESH", timedelta(0))
    with people.store() as store:
        record = store.board("S1")[0].board.record
    assert people.settings.pages is not None
    file = locate_page(people.settings.pages, record)
    file.parent.mkdir(parents=True, exist_ok=True)
    later = threading.Timer(0.3, lambda: file.write_text("<!doctype html><title>S1</title>"))
    with browser(people, "Ada") as page:
        assert page.client.get("/v1/reports/none").status_code == 404
        later.start()
        assert page.client.get(f"/v1/reports/{record}").status_code == 200
    later.join()


@pytest.mark.parametrize(
    "headers",
    [
        {"X-CSRF-Token": ""},
        {"X-CSRF-Token": "guessed"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_a_forged_request_decides_nothing(people: Running, headers: dict[str, str]) -> None:
    before = count_decisions(people)
    with browser(people, "Ada") as page:
        assert page.decide(decision(), **headers).status_code == 403
    assert count_decisions(people) == before


def test_another_sessions_token_decides_nothing(people: Running) -> None:
    with browser(people, "Ada") as ada, browser(people, "Rita") as rita:
        ada.csrf = rita.csrf
        assert ada.decide(decision()).status_code == 403


def test_a_form_of_another_site_decides_nothing(people: Running) -> None:
    with browser(people, "Ada") as page:
        for headers in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}, {}):
            answer = page.client.post("/v1/boards/S1/decisions", data={"state": "DefectRejected"}, headers=headers)
            assert answer.status_code == 403


def test_a_preflight_of_another_site_gets_no_permission(people: Running) -> None:
    asked = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    for path in ("/v1/boards/S1/decisions", "/v1/me", "/login"):
        with browser(people, "Ada") as page:
            answer = page.client.options(path, headers=asked)
            assert answer.status_code in (401, 403, 405)
            assert not [name for name in answer.headers if name.startswith("access-control-")]


def test_another_sites_page_cannot_log_anybody_in_or_out(people: Running) -> None:
    with browser(people, "Ada") as page:
        evil = {"Origin": "https://evil.example"}
        assert page.client.post("/login", data={"name": "Max", "password": PASSWORD}, headers=evil).status_code == 403
        assert page.client.post("/logout", headers=evil).status_code == 403
        assert page.client.get("/v1/me").json()["name"] == "Ada"


def test_a_stolen_cookie_is_worth_nothing_after_log_out(people: Running) -> None:
    with browser(people, "Ada") as page:
        stolen = page.client.cookies[COOKIE]
        assert page.client.post("/logout", headers={"Origin": people.url}).headers["location"] == "/login"
    with browser(people) as thief:
        thief.client.cookies.set(COOKIE, stolen)
        assert thief.client.get("/v1/me").status_code == 401


def test_a_planted_cookie_is_not_the_session_after_log_in(people: Running) -> None:
    with browser(people) as page:
        page.client.cookies.set(COOKIE, "planted-by-somebody")
        page.enter("Ada")
        assert page.client.get("/v1/me").json()["name"] == "Ada"
    with browser(people) as thief:
        thief.client.cookies.set(COOKIE, "planted-by-somebody")
        assert thief.client.get("/v1/me").status_code == 401


@pytest.mark.parametrize(
    "target",
    ["//evil.example", "https://evil.example", "/\\evil.example", "\\\\evil.example", "/\t/evil.example", "javascript:alert(1)"],
)
def test_log_in_leads_to_this_site_only(people: Running, target: str) -> None:
    assert find_local_path(target) == "/"
    with browser(people) as page:
        assert page.enter("Ada", next=target).headers["location"] == "/"


def test_fifty_wrong_passwords_lock_one_person_and_nobody_else(people: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time_ns() // 1000
    monkeypatch.setattr(module, "now_us", lambda: now)
    with browser(people) as page:
        answers = [page.enter("Eve", f"wrong {k}") for k in range(50)]
        assert [a.status_code for a in answers] == [401] * accounts.FREE_TRIES + [429] * (50 - accounts.FREE_TRIES)
        assert answers[-1].headers["retry-after"] == str(accounts.FIRST_DELAY_S)
        assert page.enter("Eve").status_code == 429
        assert page.enter("Ada").status_code == 303
        now += (accounts.FIRST_DELAY_S + 1) * 1_000_000
        assert page.enter("Eve").status_code == 303


def test_a_name_with_script_in_it_is_text_everywhere(people: Running) -> None:
    name = "<script>alert(1)</script>"
    with browser(people, name) as page:
        me = page.client.get("/v1/me")
        assert me.headers["content-type"] == "application/json"
        assert me.json()["name"] == name
        decided = page.decide(decision("DefectRejected", "A2", note="<img src=x onerror=alert(2)>"))
        assert decided.json()["decided_by"] == name
        wrong = page.enter(name, "wrong password", next='/"><script>alert(3)</script>')
        assert "<script>" not in wrong.text
        assert page.decide(decision("DefectWithdrawn", "A2")).status_code == 200


@pytest.mark.parametrize("name", ["Ada", "Rita", "Eve"])
def test_a_lesser_role_does_not_do_what_a_higher_one_may(people: Running, name: str) -> None:
    with browser(people, name) as page:
        assert page.client.get("/v1/audit").status_code == 403
        other = {"Ada": "repair", "Rita": "operator", "Eve": "repair"}[name]
        answer = page.decide(decision("DefectWithdrawn", stage=other))
        assert answer.status_code == (422 if name == "Eve" else 403)  # an engineer may; there is nothing to withdraw
        headers = {"X-CSRF-Token": page.csrf, "Origin": people.url}
        assert page.client.post("/v1/inspections", json={"path": "x"}, headers=headers).status_code == 403
        taken = page.client.post("/v1/model", json={"path": "nowhere"}, headers=headers)
        assert taken.status_code == (422 if name == "Eve" else 403)


@pytest.mark.parametrize("name", ["Ada", "Rita", "Eve"])
def test_only_an_engineer_chooses_the_golden_board(people: Running, name: str) -> None:
    with browser(people, name) as page:
        headers = {"X-CSRF-Token": page.csrf, "Origin": people.url}
        wanted = 422 if name == "Eve" else 403  # an engineer may; there is no such record
        assert page.client.put("/v1/golden/APX-17", json={"record": "none"}, headers=headers).status_code == wanted
        assert page.client.delete("/v1/golden/APX-17", headers=headers).status_code == (204 if name == "Eve" else 403)
        assert page.client.put("/v1/golden/APX-17", json={"record": "none"}, headers={"Origin": people.url}).status_code == 403


def test_nobody_takes_back_what_somebody_else_decided_meanwhile(people: Running) -> None:
    people.post(people.board("UNDO", defects={"U1.lower.A1": "open"}))
    with browser(people, "Ada") as ada, browser(people, "Eve") as eve:
        (first,) = ada.decide([decision("DefectRejected", seen=None)], "UNDO").json()["ids"]
        (second,) = eve.decide([decision("DefectConfirmed", seen=first, stage="operator")], "UNDO").json()["ids"]
        undone = ada.decide([decision("DefectWithdrawn", seen=first)], "UNDO")
        assert (undone.status_code, [d["id"] for d in undone.json()["decisions"]]) == (409, [first, second])
    with people.store() as store:
        (stored,) = store.board("UNDO")
        assert [d.state for d in stored.decisions] == ["DefectRejected", "DefectConfirmed"]
        assert stored.final == "fail"


def test_an_admin_reads_the_trail(people: Running) -> None:
    with browser(people, "Max") as page:
        actions = {entry["action"] for entry in page.client.get("/v1/audit").json()["entries"]}
        assert {"user added", "log-in"} <= actions
        assert page.client.get("/v1/audit?since=yesterday").status_code == 422


def test_the_lines_programs_on_this_machine_inspect_and_decide_nothing(people: Running) -> None:
    assert people.post(people.board("S2")).status_code == 200
    assert people.get("/v1/me").json()["role"] == LOCAL_PROGRAM.role
    answer = httpx.post(f"{people.url}/v1/boards/S1/decisions", json=decision(), timeout=300)
    assert answer.status_code == 403
    for headers in ({"X-Forwarded-For": "10.0.0.9"}, {"Sec-Fetch-Site": "none"}, {"Host": "evil.example"}):
        assert people.get("/v1/queue", headers=headers).status_code == 401


def make_connection(client: str = "10.0.0.5", host: str = "pop.plant.example", **headers: str | list[str]) -> HTTPConnection:
    pairs = [("host", host)]
    for name, values in headers.items():
        pairs += [(name.replace("_", "-"), value) for value in ([values] if isinstance(values, str) else values)]
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/",
        "query_string": b"",
        "scheme": "http",
        "server": ("10.0.0.2", 8737),
        "client": (client, 5000),
        "headers": [(name.encode(), value.encode("utf-8")) for name, value in pairs],
    }
    return HTTPConnection(scope)


@pytest.fixture
def make_gate(tmp_path: Path) -> Iterator[Callable[..., Gate]]:
    add_people(tmp_path / "records.db", {"Ada": "operator", "Rita": "repair"})
    store = open_store(tmp_path / "records.db")

    def make(**options: Any) -> Gate:
        options = {"trusted_proxies": ("10.0.0.5",), "user_header": "X-Remote-User", **options}
        settings = ServiceSettings(roots=(tmp_path,), store=str(tmp_path / "records.db"), host="0.0.0.0", **options)
        return Gate(settings, None, store.accounts)

    yield make
    store.close()


async def find(gate: Gate, **headers: Any) -> tuple[str, str] | None:
    caller = await gate.find_caller(make_connection(**headers))
    return None if caller is None else (caller.name, caller.role)


def run(work: Any) -> Any:
    import asyncio

    return asyncio.run(work)


def test_a_directorys_name_counts_only_from_a_trusted_proxy(make_gate: Callable[..., Gate]) -> None:
    gate = make_gate()
    assert run(find(gate, x_remote_user="Ada")) == ("Ada", "operator")
    assert run(find(gate, x_remote_user="Ada", client="10.0.0.6")) is None
    assert run(find(gate, x_remote_user="Ada", client="127.0.0.1")) is None
    assert run(find(gate, x_remote_user="Ada", client="10.0.0.6", x_forwarded_for="10.0.0.5")) is None
    assert run(find(make_gate(trusted_proxies=("10.0.0.0/24",)), x_remote_user="Ada", client="10.0.0.6")) == ("Ada", "operator")
    assert run(find(gate, x_remote_user="Unknown")) is None  # no role
    assert run(find(gate)) is None
    assert run(find(gate, x_remote_user="")) is None


def test_a_program_of_this_machine_goes_on_while_the_store_is_away(tmp_path: Path) -> None:
    """Prometheus reads the metrics then, whenever the users were last asked for; a browser is not known."""

    class Away:
        def has_users(self) -> bool:
            raise StoreFault("postgresql://db/pop", expected="an answer", found="none")

    settings = ServiceSettings(roots=(tmp_path,), store=str(tmp_path / "records.db"))
    gate = Gate(settings, None, Away())  # type: ignore[arg-type]
    local = {"client": "127.0.0.1", "host": "127.0.0.1:8737"}
    assert run(find(gate, **local)) == (LOCAL_PROGRAM.name, LOCAL_PROGRAM.role)
    for stranger in ({**local, "cookie": "pop=x"}, {**local, "host": "evil.example"}, {**local, "x_forwarded_for": "10.0.0.6"}):
        with pytest.raises(StoreFault):
            run(find(gate, **stranger))


def test_a_header_that_the_caller_sent_or_had_dropped_counts_for_nothing(make_gate: Callable[..., Gate]) -> None:
    gate = make_gate()
    assert run(find(gate, x_remote_user=["Rita", "Ada"])) is None
    assert run(find(gate, x_remote_user="Rita, Ada")) is None
    assert run(find(gate, x_remote_user="Ada", connection="close, X-Remote-User")) is None
    roles = make_gate(role_header="X-Remote-Groups")
    assert run(find(roles, x_remote_user="Ada")) is None  # the proxy's header was dropped: no role, not the store's
    assert run(find(roles, x_remote_user="Ada", x_remote_groups=["admin", "operator"])) is None


def test_a_directorys_groups_give_the_highest_role_of_the_map(make_gate: Callable[..., Gate]) -> None:
    gate = make_gate(role_header="X-Remote-Groups", role_map={"pop-op": "operator", "pop-rep": "repair"})
    assert run(find(gate, x_remote_user="Zoë", x_remote_groups="staff, pop-op,pop-rep")) == ("Zoë", "repair")
    assert run(find(gate, x_remote_user="Zoë", x_remote_groups="admin")) is None  # not in the map
    plain = make_gate(role_header="X-Remote-Groups")
    assert run(find(plain, x_remote_user="Zoë", x_remote_groups="engineer")) == ("Zoë", "engineer")


def test_a_person_of_the_directory_who_is_disabled_in_the_store_stays_out(make_gate: Callable[..., Gate]) -> None:
    gate = make_gate(role_header="X-Remote-Groups")
    gate.accounts.set_enabled("Ada", False, by="test", now_us=1)
    assert run(find(gate, x_remote_user="Ada", x_remote_groups="admin")) is None


def test_a_directorys_person_needs_a_token_against_forged_requests(make_gate: Callable[..., Gate]) -> None:
    caller = run(make_gate().find_caller(make_connection(x_remote_user="Ada")))
    assert caller is not None
    assert len(caller.csrf) == 64


def test_a_callers_address_and_tls_are_what_a_trusted_proxy_says(make_gate: Callable[..., Gate]) -> None:
    gate = make_gate()
    forwarded = {"x_forwarded_for": "1.2.3.4, 10.0.0.9", "x_forwarded_proto": "https"}
    trusted, other = make_connection(**forwarded), make_connection("10.0.0.6", **forwarded)
    assert (gate.find_address(trusted), gate.is_secure(trusted)) == ("10.0.0.9", True)
    assert (gate.find_address(other), gate.is_secure(other)) == ("10.0.0.6", False)
    assert make_gate(public_url="https://pop.plant.example").is_secure(other)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, True),
        ({"origin": "https://pop.plant.example"}, True),
        ({"origin": "http://pop.plant.example"}, True),
        ({"origin": "https://pop.plant.example:8443"}, False),
        ({"origin": "https://pop.plant.example.evil.example"}, False),
        ({"origin": "null"}, False),
        ({"origin": ["https://pop.plant.example", "https://evil.example"]}, False),
        ({"sec_fetch_site": "same-origin"}, True),
        ({"sec_fetch_site": "cross-site", "origin": "https://pop.plant.example"}, False),
        ({"origin": "https://evil.example", "sec_fetch_site": "same-origin"}, False),
        ({"origin": "http://[broken"}, False),
    ],
)
def test_which_page_asks(headers: dict[str, Any], expected: bool) -> None:
    assert is_of_this_site(make_connection(**headers), None) is expected
    assert is_of_this_site(make_connection(**{"host": "10.0.0.2:8737", **headers}), "https://pop.plant.example") is expected
