"""People who log in, qualified machines, and the audit trail of who did what."""

import base64
import hashlib
import hmac
import json
import secrets
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Engine, delete, func, select, update

from inspect_pop.core.errors import UsageFault
from inspect_pop.store.engine import insert_rows, make_upsert, reading, writing
from inspect_pop.store.schema import audit, login_failures, qualifications, sessions, users
from inspect_pop.store.types import escape_text, parse_time_us

__all__ = [
    "LANGUAGES",
    "PERSON_ROLES",
    "Accounts",
    "AuditEntry",
    "LoginResult",
    "Qualification",
    "QualifiedMachine",
    "Session",
    "User",
    "add_audit",
    "add_qualification",
    "format_time",
    "list_audit",
    "list_qualifications",
    "name_qualified",
    "select_valid",
]


@dataclass(frozen=True)
class AuditEntry:
    """One row of the trail. `at` is ISO 8601 in UTC; `before` and `after` are plain values, None where there is none."""

    id: int
    at: str
    who: str
    action: str
    subject: str
    before: Any
    after: Any


def format_time(now_us: int) -> str:
    """Format microseconds since 1970 as ISO 8601 in UTC, with milliseconds."""
    return datetime.fromtimestamp(now_us / 1e6, UTC).isoformat(timespec="milliseconds")


def add_audit(
    connection: Connection, now_us: int, who: str, action: str, subject: str, *, before: Any = None, after: Any = None
) -> None:
    """Add a row to the trail, in the transaction of what it tells.

    Parameters
    ----------
    now_us
        The time, in microseconds since 1970.
    who
        The person or token that did it.
    action, subject
        What was done, and to what.
    before, after
        Plain values of what changed.
    """
    row = {"at": format_time(now_us), "at_us": now_us, "who": escape_text(who), "action": action, "subject": escape_text(subject)}
    texts = {"before": before, "after": after}
    row |= {name: escape_text(json.dumps(value, ensure_ascii=False)) for name, value in texts.items()}
    insert_rows(connection, audit, [row])


def list_audit(connection: Connection, *, since_us: int | None = None, limit: int | None = None) -> list[AuditEntry]:
    """List the trail in order, from a time on; the first `limit` rows, None for all."""
    query = select(audit).order_by(audit.c.id).limit(limit)
    if since_us is not None:
        query = query.where(audit.c.at_us >= since_us)
    return [
        AuditEntry(row.id, row.at, row.who, row.action, row.subject, json.loads(row.before), json.loads(row.after))
        for row in connection.execute(query)
    ]


# People who log in: their passwords, their sessions, and what happens after wrong passwords.
#
# A password is kept as its digest by scrypt with N = 2^15, r = 8, p = 3 (32 MiB; one of the equal choices of the OWASP Password
# Storage Cheat Sheet). A session is known by a cookie of 256 random bits, of which only the digest is kept.
#
# After `FREE_TRIES` wrong passwords for a name, or `FREE_TRIES_OF_ADDRESS` from an address, no password is looked at for
# `FIRST_DELAY_S`; each further wrong one doubles it, up to `LONGEST_DELAY_S`. What is refused meanwhile does not count.


PERSON_ROLES = ("operator", "repair", "engineer", "admin")
LANGUAGES = ("en", "zh")
SHORTEST, LONGEST = 8, 1024  # characters of a password; NIST SP 800-63B, 5.1.1.2, asks for 8 at least
LONGEST_NAME = 64
SCRYPT_N, SCRYPT_R, SCRYPT_P = 1 << 15, 8, 3
SCRYPT_MEMORY = 256 << 20  # bytes that one digest may take at most
IDLE_S, SESSION_S = 3600, 12 * 3600  # a pause; a shift
SESSIONS_OF_USER = 20
SEEN_EVERY_S = 60  # how exactly the last use of a session is known
FREE_TRIES, FREE_TRIES_OF_ADDRESS = 5, 20
FIRST_DELAY_S, LONGEST_DELAY_S = 30, 900
FORGET_S = 24 * 3600
MOST_FAILURES = 10_000
_SECOND = 1_000_000


@dataclass(frozen=True)
class User:
    """A person who may log in. `role` is one of `PERSON_ROLES`; `language` is None where none was chosen."""

    name: str
    role: str
    is_enabled: bool
    created_at: str
    language: str | None = None


@dataclass(frozen=True)
class Session:
    """A session: whose it is, and the text that a deciding request must repeat."""

    name: str
    role: str
    csrf: str
    language: str | None = None


@dataclass(frozen=True)
class LoginResult:
    """The result of a log-in: the cookie of the new session, None where it is refused; the seconds until the next try counts."""

    cookie: str | None
    wait_s: int = 0


class Accounts:
    """Users, sessions and wrong passwords of one store. Times are microseconds since 1970. Raises `StoreFault`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def has_users(self) -> bool:
        """Return whether there is any user, enabled or not."""
        with reading(self._engine) as connection:
            return connection.execute(select(users.c.id).limit(1)).first() is not None

    def list_users(self) -> list[User]:
        """Return all users in order of their names."""
        with reading(self._engine) as connection:
            return [_make_user(row) for row in connection.execute(select(users).order_by(users.c.name))]

    def find_user(self, name: str) -> User | None:
        """Return a user, None if there is none of that name."""
        with reading(self._engine) as connection:
            row = connection.execute(select(users).where(users.c.name == name)).first()
        return None if row is None else _make_user(row)

    def add_user(self, name: str, role: str, password: str, *, by: str, now_us: int, language: str | None = None) -> None:
        """Add a user. Raises `UsageFault` for a name, role, language or password that cannot be used, and for a known name."""
        if not name or len(name) > LONGEST_NAME or not name.isprintable() or name != name.strip():
            expected = f"1 to {LONGEST_NAME} signs that print, none of them a blank at an end"
            raise UsageFault("name", expected=expected, found=repr(name))
        _check_choice("role", role, PERSON_ROLES)
        if language is not None:
            _check_choice("language", language, LANGUAGES)
        row = {"name": name, "role": role, "secret": _digest_password(name, password), "language": language}
        row |= {"created_at": format_time(now_us), "disabled_at": None}
        with writing(self._engine) as connection:
            statement = make_upsert(users, connection.dialect.name).on_conflict_do_nothing(index_elements=["name"])
            if connection.execute(statement.returning(users.c.id), row).first() is None:
                raise UsageFault(f"user {name}", expected="a name that is free", found="a user of that name")
            add_audit(connection, now_us, by, "user added", name, after={"role": role})

    def set_password(self, name: str, password: str, *, by: str, now_us: int) -> None:
        """Give a user another password, and end all of the user's sessions. Raises `UsageFault`."""
        secret = _digest_password(name, password)
        self._change_user(name, {"secret": secret}, "password changed", by=by, now_us=now_us)

    def set_role(self, name: str, role: str, *, by: str, now_us: int) -> None:
        """Give a user another role, and end all of the user's sessions. Raises `UsageFault`."""
        _check_choice("role", role, PERSON_ROLES)
        self._change_user(name, {"role": role}, "role changed", by=by, now_us=now_us)

    def set_enabled(self, name: str, is_enabled: bool, *, by: str, now_us: int) -> None:
        """Let a user log in or not; all sessions of a user who may not are ended. Raises `UsageFault`."""
        values = {"disabled_at": None if is_enabled else format_time(now_us)}
        self._change_user(name, values, "user enabled" if is_enabled else "user disabled", by=by, now_us=now_us)

    def _change_user(self, name: str, values: Mapping[str, Any], action: str, *, by: str, now_us: int) -> None:
        with writing(self._engine) as connection:
            found = connection.execute(select(users).where(users.c.name == name)).first()
            if found is None:
                remedy = "`inspect-pop users list` shows all."
                raise UsageFault(f"user {name}", expected="a user of the store", found="none of that name", remedy=remedy)
            connection.execute(update(users).where(users.c.id == found.id).values(**values))
            connection.execute(delete(sessions).where(sessions.c.user_id == found.id))
            shown = [n for n in values if n != "secret"]
            before, after = {n: getattr(found, n) for n in shown}, {n: values[n] for n in shown}
            add_audit(connection, now_us, by, action, name, before=before, after=after)

    # Log-in

    def log_in(self, name: str, password: str, address: str, *, now_us: int, old_cookie: str | None = None) -> LoginResult:
        """Begin a session if name and password are right and neither name nor address is locked.

        The try is counted as wrong before the password is looked at, so that tries at the same time count, too; a right one is
        taken off again. An unknown name takes as long as a known one. `old_cookie` is that of the session before, which ends.
        """
        keys = {f"name:{name[:LONGEST_NAME].casefold()}": FREE_TRIES, f"address:{address}": FREE_TRIES_OF_ADDRESS}
        with writing(self._engine) as connection:
            locks = select(func.max(login_failures.c.until_us)).where(login_failures.c.key.in_(keys))
            until_us = int(connection.scalar(locks) or 0)
            if until_us > now_us:
                return LoginResult(None, -((now_us - until_us) // _SECOND))
            _count_failures(connection, keys, now_us)
            user = connection.execute(select(users).where(users.c.name == name)).first()
        is_right = _is_password(password, user.secret if user is not None else _NO_SECRET)
        with writing(self._engine) as connection:
            if user is not None:  # it may have been disabled meanwhile, or got another password
                user = connection.execute(select(users).where(users.c.id == user.id, users.c.secret == user.secret)).first()
            if not is_right or user is None or user.disabled_at is not None:
                add_audit(connection, now_us, user.name if user is not None else "unknown", "log-in failed", address)
                return LoginResult(None)
            of_name, of_address = (login_failures.c.key == key for key in keys)
            connection.execute(delete(login_failures).where(of_name))
            fewer = {"n": login_failures.c.n - 1, "until_us": 0}  # only this try is taken off the address
            connection.execute(update(login_failures).where(of_address).values(**fewer))
            cookie = _begin_session(connection, user.id, now_us, old_cookie)
            add_audit(connection, now_us, user.name, "log-in", address)
        return LoginResult(cookie)

    def find_session(self, cookie: str, *, now_us: int) -> Session | None:
        """Return the session of a cookie; None if there is none, it is over, or its user may not log in any more."""
        query = select(sessions, users.c.name, users.c.role, users.c.language, users.c.disabled_at)
        query = query.join_from(sessions, users, users.c.id == sessions.c.user_id).where(sessions.c.digest == _digest(cookie))
        with reading(self._engine) as connection:
            row = connection.execute(query).first()
        if row is None or row.disabled_at is not None:
            return None
        if now_us - row.seen_us > IDLE_S * _SECOND or now_us - row.begun_us > SESSION_S * _SECOND:
            return None
        if now_us - row.seen_us > SEEN_EVERY_S * _SECOND:
            with writing(self._engine) as connection:
                connection.execute(update(sessions).where(sessions.c.digest == row.digest).values(seen_us=now_us))
        return Session(row.name, row.role, row.csrf, row.language)

    def note_arrival(self, name: str, address: str, *, now_us: int) -> None:
        """Write down that a person came by the plant's directory."""
        with writing(self._engine) as connection:
            add_audit(connection, now_us, name, "log-in by the directory", address)

    def log_out(self, cookie: str, *, now_us: int) -> None:
        """End the session of a cookie. Does nothing for an unknown one."""
        query = select(users.c.name).join_from(sessions, users, users.c.id == sessions.c.user_id)
        with writing(self._engine) as connection:
            name = connection.scalar(query.where(sessions.c.digest == _digest(cookie)))
            if name is not None:
                connection.execute(delete(sessions).where(sessions.c.digest == _digest(cookie)))
                add_audit(connection, now_us, name, "log-out", "")


def _make_user(row: Any) -> User:
    return User(row.name, row.role, row.disabled_at is None, row.created_at, row.language)


def _check_choice(what: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise UsageFault(what, expected=f"one of {', '.join(choices)}", found=repr(value))


def _digest_password(name: str, password: str) -> str:
    """Return what is kept of a new password. Raises `UsageFault` for one that is too short or too long, or is the name."""
    if not SHORTEST <= len(password) <= LONGEST or password.casefold() == name.casefold():
        expected = f"a password of {SHORTEST} to {LONGEST} signs that is not the name"
        raise UsageFault("password", expected=expected, found=f"{len(password)} signs")
    salt = secrets.token_bytes(16)
    parameters = (SCRYPT_N, SCRYPT_R, SCRYPT_P)
    parts = [base64.b64encode(part).decode() for part in (salt, _compute_scrypt(password, salt, *parameters))]
    return "$".join(["scrypt", *map(str, parameters), *parts])


def _compute_scrypt(password: str, salt: bytes, n: int, r: int, p: int) -> bytes:
    text = unicodedata.normalize("NFKC", password).encode("utf-8", "surrogatepass")
    return hashlib.scrypt(text, salt=salt, n=n, r=r, p=p, maxmem=SCRYPT_MEMORY, dklen=32)


def _is_password(password: str, secret: str) -> bool:
    """Return whether a password is the one of which `secret` is kept; takes as long whether it is or not."""
    kind, n, r, p, salt, expected = secret.split("$")
    found = _compute_scrypt(password[:LONGEST], base64.b64decode(salt), int(n), int(r), int(p))
    return kind == "scrypt" and hmac.compare_digest(found, base64.b64decode(expected))


# In place of what is kept of an unknown name: no password has this digest.
_NO_SECRET = "$".join(["scrypt", str(SCRYPT_N), str(SCRYPT_R), str(SCRYPT_P), "AAAAAAAAAAAAAAAAAAAAAA==", "AAAA"])


def _digest(cookie: str) -> str:
    return hashlib.sha256(cookie.encode("utf-8", "surrogatepass")).hexdigest()


def _begin_session(connection: Connection, user_id: int, now_us: int, old_cookie: str | None) -> str:
    """Begin a session under a new cookie; drop the one before, those that are over, and the user's oldest ones."""
    is_over = (sessions.c.begun_us < now_us - SESSION_S * _SECOND) | (sessions.c.digest == _digest(old_cookie or ""))
    connection.execute(delete(sessions).where(is_over))
    of_user = select(sessions.c.digest).where(sessions.c.user_id == user_id).order_by(sessions.c.begun_us.desc())
    surplus = connection.scalars(of_user).all()[SESSIONS_OF_USER - 1 :]
    connection.execute(delete(sessions).where(sessions.c.digest.in_(surplus)))
    cookie = secrets.token_urlsafe(32)
    row = {"digest": _digest(cookie), "user_id": user_id, "csrf": secrets.token_urlsafe(32)}
    insert_rows(connection, sessions, [row | {"begun_us": now_us, "seen_us": now_us}])
    return cookie


def _count_failures(connection: Connection, keys: Mapping[str, int], now_us: int) -> None:
    """Count a wrong password for name and address, and drop what is old or too much."""
    old = login_failures.c.last_us < now_us - FORGET_S * _SECOND
    connection.execute(delete(login_failures).where(old))
    for key, free in keys.items():
        n = 1 + int(connection.scalar(select(login_failures.c.n).where(login_failures.c.key == key)) or 0)
        delay_s = 0 if n < free else min(LONGEST_DELAY_S, FIRST_DELAY_S * 2 ** min(n - free, 30))
        row = {"key": key, "n": n, "last_us": now_us, "until_us": now_us + delay_s * _SECOND}
        statement = make_upsert(login_failures, connection.dialect.name)
        fresh = {name: statement.excluded[name] for name in ("n", "last_us", "until_us")}
        connection.execute(statement.on_conflict_do_update(index_elements=["key"], set_=fresh), row)
    newest = select(login_failures.c.last_us).order_by(login_failures.c.last_us.desc()).offset(MOST_FAILURES).limit(1)
    oldest_us = connection.scalar(newest)
    if oldest_us is not None:
        connection.execute(delete(login_failures).where(login_failures.c.last_us <= oldest_us))


# Qualified machines: labelled boards of a machine passed the gates, by a model and limits. Rows are added, never changed.
#
# For a qualified machine a picture unlike all that the model has learnt is named in the record and forbids nothing.


QualifiedMachine = tuple[str, str, str]


@dataclass(frozen=True)
class Qualification:
    """One attempt to qualify a machine.

    Attributes:
        machine: Line and station, as `BoardExport.machine` has them.
        model_digest: The model that inspected the boards.
        profile: The acceptance profile, for people.
        limits_digests: The limits that it holds for: as they are, and with `unlike_forbids` 0, by which a qualified machine's
            boards are decided.
        passed: Whether all gates passed.
        qualified_by, qualified_at: Who, and when (ISO 8601 with an offset).
        boards: Serial and export digest of each board.
        figures: The gates' answers and the rates with their intervals.
    """

    machine: str
    model_digest: str
    profile: str
    limits_digests: tuple[str, ...]
    passed: bool
    qualified_by: str
    qualified_at: str
    boards: tuple[tuple[str, str], ...]
    figures: Mapping[str, Any] = field(default_factory=dict)

    def holds_for(self, model_digest: str, limits_digest: str) -> bool:
        """Return whether it is about this model and these limits."""
        return self.model_digest == model_digest and limits_digest in self.limits_digests


def add_qualification(connection: Connection, made: Qualification) -> None:
    """Add an attempt, and a row of the audit trail. Raises `StoreFault` for a time without an offset."""
    at_us = parse_time_us(made.qualified_at, "qualified_at")
    row = asdict(made) | {"passed": int(made.passed)}
    row |= {name: json.dumps(row[name], ensure_ascii=False) for name in ("limits_digests", "boards", "figures")}
    insert_rows(connection, qualifications, [{n: escape_text(v) if isinstance(v, str) else v for n, v in row.items()}])
    about = {"passed": made.passed, "model": made.model_digest, "profile": made.profile, "boards": dict(made.boards)}
    action = "machine qualified" if made.passed else "machine not qualified"
    add_audit(connection, at_us, made.qualified_by, action, made.machine, after=about)


def list_qualifications(connection: Connection) -> list[Qualification]:
    """Return all attempts, in the order in which they were made."""
    found = []
    for row in connection.execute(select(qualifications).order_by(qualifications.c.id)).mappings():
        values = {n: row[n] for n in ("machine", "model_digest", "profile", "qualified_by", "qualified_at")}
        digests, boards = tuple(json.loads(row["limits_digests"])), tuple((s, d) for s, d in json.loads(row["boards"]))
        more = {"limits_digests": digests, "boards": boards, "figures": json.loads(row["figures"])}
        found.append(Qualification(**values, **more, passed=bool(row["passed"])))
    return found


def name_qualified(attempts: Iterable[Qualification]) -> list[QualifiedMachine]:
    """Return machine, model digest and limits digest of what is qualified."""
    return [(q.machine, q.model_digest, limits) for q in select_valid(attempts) for limits in dict.fromkeys(q.limits_digests)]


def select_valid(attempts: Iterable[Qualification], model_digest: str | None = None) -> list[Qualification]:
    """Return the qualifications that hold: of each machine, model and limits the last attempt, where it passed.

    `model_digest` names one model; None for all.
    """
    last = {(a.machine, a.model_digest, a.limits_digests): a for a in attempts}
    return [a for a in last.values() if a.passed and model_digest in (None, a.model_digest)]
