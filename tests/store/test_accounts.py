"""People's passwords and sessions, and what happens after wrong passwords. Times are a clock of the tests."""

import hashlib
from collections.abc import Iterator

import pytest
from sqlalchemy import text

from inspect_pop.core.errors import UsageFault
from inspect_pop.store import Store
from inspect_pop.store import accounts as module
from inspect_pop.store.accounts import Accounts

SECOND = 1_000_000
NOW = 1_790_000_000 * SECOND
PASSWORD = "grey solder 7"
STRENGTH = (module.SCRYPT_N, module.SCRYPT_R, module.SCRYPT_P)


@pytest.fixture(autouse=True)
def _cheap_digests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SCRYPT_N", 16)
    monkeypatch.setattr(module, "_NO_SECRET", "scrypt$16$8$1$AAAAAAAAAAAAAAAAAAAAAA==$AAAA")


@pytest.fixture
def accounts(store: Store) -> Iterator[Accounts]:
    store.accounts.add_user("Ada", "operator", PASSWORD, by="test", now_us=NOW)
    store.accounts.add_user("Rita", "repair", PASSWORD, by="test", now_us=NOW)
    return store.accounts


def enter(accounts: Accounts, name: str = "Ada", at: int = NOW, address: str = "10.0.0.1", old: str | None = None) -> str:
    cookie = accounts.log_in(name, PASSWORD, address, now_us=at, old_cookie=old).cookie
    assert cookie is not None
    return cookie


def test_who_knows_the_password_gets_a_session_with_role_and_a_token_of_its_own(accounts: Accounts) -> None:
    first, second = (accounts.find_session(enter(accounts), now_us=NOW) for _ in range(2))
    assert first is not None and second is not None
    assert (first.name, first.role) == ("Ada", "operator")
    assert len(first.csrf) > 30
    assert first.csrf != second.csrf
    assert accounts.log_in("Ada", PASSWORD + "x", "10.0.0.1", now_us=NOW).cookie is None
    assert accounts.log_in("Nobody", PASSWORD, "10.0.0.1", now_us=NOW).cookie is None
    assert accounts.find_session("guessed", now_us=NOW) is None


def test_neither_password_nor_cookie_is_in_the_store(store: Store, accounts: Accounts) -> None:
    cookie = enter(accounts)
    with store.reading() as connection:
        rows = [str(row) for name in ("users", "sessions", "audit") for row in connection.execute(text(f"SELECT * FROM {name}"))]
    assert not any(PASSWORD in row or cookie in row for row in rows)
    assert any("scrypt$16$8$3$" in row for row in rows)
    assert any(hashlib.sha256(cookie.encode()).hexdigest() in row for row in rows)


def test_a_password_is_digested_at_the_strength_that_owasp_asks_for() -> None:
    assert STRENGTH in {(1 << 17, 8, 1), (1 << 16, 8, 2), (1 << 15, 8, 3), (1 << 14, 8, 5)}


def test_after_wrong_passwords_even_the_right_one_waits_and_others_do_not(accounts: Accounts) -> None:
    waits = [accounts.log_in("Ada", f"wrong {k}", "10.0.0.1", now_us=NOW).wait_s for k in range(50)]
    assert waits == [0] * module.FREE_TRIES + [module.FIRST_DELAY_S] * (50 - module.FREE_TRIES)
    assert accounts.log_in("Ada", PASSWORD, "10.0.0.1", now_us=NOW).cookie is None
    assert accounts.log_in("ADA", PASSWORD, "10.0.0.9", now_us=NOW).wait_s > 0  # in any spelling, from anywhere
    assert enter(accounts, "Rita")  # at the same address
    over = NOW + (module.FIRST_DELAY_S + 1) * SECOND
    assert accounts.log_in("Ada", PASSWORD, "10.0.0.1", now_us=over - 2 * SECOND).cookie is None
    assert enter(accounts, at=over)
    assert accounts.log_in("Ada", "wrong", "10.0.0.1", now_us=over).wait_s == 0  # the right one wiped the slate


def test_the_delay_doubles_up_to_a_quarter_of_an_hour(accounts: Accounts) -> None:
    at, waits = NOW, []
    for _ in range(module.FREE_TRIES + 8):
        accounts.log_in("Ada", "wrong", "10.0.0.1", now_us=at)
        wait_s = accounts.log_in("Ada", "wrong", "10.0.0.2", now_us=at).wait_s
        waits.append(wait_s)
        at += (wait_s + 1) * SECOND
    assert sorted(waits) == waits
    assert {30, 60, 120, 240, 480, module.LONGEST_DELAY_S} <= set(waits)
    assert max(waits) == module.LONGEST_DELAY_S


def test_an_address_that_tries_many_names_is_locked_and_other_addresses_are_not(accounts: Accounts) -> None:
    for k in range(module.FREE_TRIES_OF_ADDRESS):
        assert accounts.log_in(f"name {k}", "wrong", "10.0.0.66", now_us=NOW).wait_s == 0
    assert accounts.log_in("Ada", PASSWORD, "10.0.0.66", now_us=NOW).wait_s > 0
    assert enter(accounts, address="10.0.0.1")


def test_what_is_kept_of_wrong_passwords_is_bounded(store: Store, accounts: Accounts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_FAILURES", 12)
    for k in range(20):
        accounts.log_in(f"name {k}", "wrong", f"10.0.1.{k}", now_us=NOW + k * SECOND)
    with store.reading() as connection:
        assert connection.execute(text("SELECT count(*) FROM login_failures")).scalar_one() <= 12
    accounts.log_in("Ada", "wrong", "10.0.0.1", now_us=NOW + (module.FORGET_S + 60) * SECOND)
    with store.reading() as connection:
        assert connection.execute(text("SELECT count(*) FROM login_failures")).scalar_one() == 2


def test_a_session_ends_after_a_pause_and_after_a_shift(accounts: Accounts) -> None:
    cookie = enter(accounts)
    idle, whole = module.IDLE_S * SECOND, module.SESSION_S * SECOND
    assert accounts.find_session(cookie, now_us=NOW + idle - SECOND) is not None
    assert accounts.find_session(cookie, now_us=NOW + 2 * idle - 2 * SECOND) is not None  # it was used meanwhile
    assert accounts.find_session(cookie, now_us=NOW + 4 * idle) is None
    busy = enter(accounts)
    for at in range(0, whole, idle // 2):
        assert accounts.find_session(busy, now_us=NOW + at) is not None
    assert accounts.find_session(busy, now_us=NOW + whole + SECOND) is None


def test_a_cookie_is_worth_nothing_after_log_out_password_role_or_being_disabled(accounts: Accounts) -> None:
    ends = [
        lambda: accounts.set_password("Ada", PASSWORD, by="test", now_us=NOW),
        lambda: accounts.set_role("Ada", "operator", by="test", now_us=NOW),
        lambda: accounts.set_enabled("Ada", False, by="test", now_us=NOW),
    ]
    other = enter(accounts, "Rita")
    for end in ends:
        cookie = enter(accounts)
        end()
        assert accounts.find_session(cookie, now_us=NOW) is None
    assert accounts.log_in("Ada", PASSWORD, "10.0.0.1", now_us=NOW).cookie is None  # disabled
    accounts.set_enabled("Ada", True, by="test", now_us=NOW)
    cookie = enter(accounts)
    accounts.log_out(cookie, now_us=NOW)
    assert accounts.find_session(cookie, now_us=NOW) is None
    assert accounts.find_session(other, now_us=NOW) is not None


def test_log_in_makes_a_new_cookie_and_ends_the_session_before(accounts: Accounts) -> None:
    planted = enter(accounts)
    cookie = enter(accounts, "Rita", old=planted)
    assert cookie != planted
    assert accounts.find_session(planted, now_us=NOW) is None


def test_a_person_has_a_bounded_number_of_sessions(accounts: Accounts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SESSIONS_OF_USER", 3)
    cookies = [enter(accounts, at=NOW + k * SECOND) for k in range(5)]
    alive = [accounts.find_session(cookie, now_us=NOW + 9 * SECOND) is not None for cookie in cookies]
    assert alive == [False, False, True, True, True]


@pytest.mark.parametrize(
    ("name", "role", "password"),
    [
        ("", "operator", PASSWORD),
        (" Eve", "operator", PASSWORD),
        ("E\nve", "operator", PASSWORD),
        ("E" * 65, "operator", PASSWORD),
        ("Eve", "king", PASSWORD),
        ("Eve", "station", PASSWORD),
        ("Eve", "operator", "short"),
        ("Ludmilla", "operator", "ludmilla"),
        ("Ada", "operator", PASSWORD),
    ],
)
def test_such_a_user_is_refused_and_the_password_not_shown(accounts: Accounts, name: str, role: str, password: str) -> None:
    with pytest.raises(UsageFault) as refused:
        accounts.add_user(name, role, password, by="test", now_us=NOW)
    assert PASSWORD not in str(refused.value)
    assert len(accounts.list_users()) == 2


def test_an_unknown_user_cannot_be_changed(accounts: Accounts) -> None:
    with pytest.raises(UsageFault, match="a user of the store"):
        accounts.set_role("Eve", "admin", by="test", now_us=NOW)


def test_log_ins_and_changes_of_users_are_in_the_audit_trail(store: Store, accounts: Accounts) -> None:
    accounts.log_in("Ada", "wrong", "10.0.0.1", now_us=NOW)
    accounts.log_in("my password by mistake", "x", "10.0.0.1", now_us=NOW)
    accounts.log_out(enter(accounts), now_us=NOW)
    accounts.set_role("Ada", "engineer", by="root", now_us=NOW)
    accounts.set_enabled("Ada", False, by="root", now_us=NOW)
    trail = [(e.who, e.action, e.subject) for e in store.list_audit()][2:]
    assert trail == [
        ("Ada", "log-in failed", "10.0.0.1"),
        ("unknown", "log-in failed", "10.0.0.1"),
        ("Ada", "log-in", "10.0.0.1"),
        ("Ada", "log-out", ""),
        ("root", "role changed", "Ada"),
        ("root", "user disabled", "Ada"),
    ]
    assert [e.before for e in store.list_audit() if e.action == "role changed"] == [{"role": "operator"}]
