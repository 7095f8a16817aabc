"""Who asks: a token, a session's cookie, a name from the plant's directory by a proxy, or a program of this machine. And log-in.

A cookie is sent by the browser whoever makes it ask, so a deciding request by cookie or proxy repeats the session's CSRF token
in a header, and comes from a page of this site (OWASP, Cross-Site Request Forgery Prevention Cheat Sheet).
"""

import asyncio
import base64
import hashlib
import hmac
import ipaddress
import re
import secrets
import time
from html import escape
from urllib.parse import parse_qs, quote, urlsplit

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection

from inspect_pop.core.errors import StoreFault
from inspect_pop.station.access import LOCAL_CALLER, LOCAL_PROGRAM, Caller, Tokens
from inspect_pop.station.settings import ServiceSettings, is_loopback
from inspect_pop.store.accounts import LONGEST_NAME, PERSON_ROLES, Accounts, LoginResult, User

__all__ = [
    "COOKIE",
    "CSRF_HEADER",
    "Gate",
    "find_local_path",
    "is_forwarded_from_tls",
    "is_of_this_site",
    "is_program_of_this_machine",
    "login",
]

COOKIE, CSRF_HEADER = "inspect_pop_session", "X-CSRF-Token"
USERS_SEEN_S = 2.0  # how long a service without users may not know that the first one was added
DIGESTS_AT_ONCE = 2  # each takes 32 MiB and a part of a second of one core
MOST_ARRIVALS, ARRIVAL_S = 1000, 12 * 3600  # a person who comes by the proxy is written down once a shift
# What a proxy adds, besides X-Forwarded-… and X-Original-…: whoever it asks for is not on this machine.
FORWARDING_HEADERS = frozenset(
    {"forwarded", "via", "x-real-ip", "x-client-ip", "x-cluster-client-ip", "x-remote-ip", "true-client-ip", "cf-connecting-ip",
     "fastly-client-ip", "client-ip", "proxy-connection", "x-arr-log-id", "x-envoy-external-address", "x-proxyuser-ip"}
)  # fmt: skip
WORDS = {
    "en": {
        "title": "Log in",
        "name": "Name",
        "password": "Password",
        "enter": "Log in",
        "wrong": "Name or password is wrong.",
        "locked": "Too many wrong passwords. Try again in {wait_s} s.",
    },
    "zh": {
        "title": "登录",
        "name": "用户名",
        "password": "密码",
        "enter": "登录",
        "wrong": "用户名或密码错误。",
        "locked": "密码错误次数过多，请在 {wait_s} 秒后重试。",
    },
}
STYLE = (
    "body{font:18px/1.5 system-ui,sans-serif;max-width:22rem;margin:12vh auto;padding:0 1rem;color:#111;background:#fff}"
    "label{display:block;margin:1rem 0}input{display:block;width:100%;box-sizing:border-box;font:inherit;padding:.6rem}"
    "button{font:inherit;padding:.6rem 1.4rem}[role=alert]{border-left:4px solid #b00020;padding-left:.8rem}"
)
_STYLE_DIGEST = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
PAGE_POLICY = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_DIGEST}'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
login = APIRouter(include_in_schema=False)


def now_us() -> int:
    """Return the time now in microseconds since 1970."""
    return time.time_ns() // 1000


class Gate:
    """Finds out who asks.

    Args:
        settings: How the service is set up.
        tokens: The known tokens; None: there is no token file.
        accounts: The people of the store.
    """

    def __init__(self, settings: ServiceSettings, tokens: Tokens | None, accounts: Accounts) -> None:
        self._settings, self._tokens, self.accounts = settings, tokens, accounts
        self._trusted = [ipaddress.ip_network(address) for address in settings.trusted_proxies]
        self._secret = secrets.token_bytes(32)
        self._has_users, self._next_query_s = False, 0.0
        self._arrivals: dict[str, float] = {}
        self._digests = asyncio.Semaphore(DIGESTS_AT_ONCE)

    async def is_open(self) -> bool:
        """Return whether nobody needs to say who it is: there are no tokens, no users, and no directory."""
        if self._tokens is not None or self._settings.user_header is not None:
            return False
        if not self._has_users and time.monotonic() >= self._next_query_s:
            self._has_users = await asyncio.to_thread(self.accounts.has_users)
            self._next_query_s = time.monotonic() + USERS_SEEN_S
        return not self._has_users

    async def find_caller(self, connection: HTTPConnection) -> Caller | None:
        """Return who asks, None for an unknown one. A bearer token counts before everything else. Raises `StoreFault`."""
        authorization = connection.headers.get("authorization", "")
        if self._tokens is not None and authorization.lower().startswith("bearer"):
            return self._tokens.find_caller(authorization)
        try:
            if await self.is_open():
                return LOCAL_CALLER
        except StoreFault:
            if self._is_local_program(connection):  # with users or without, it may do this much: metrics are read meanwhile
                return LOCAL_PROGRAM
            raise
        caller = await self._find_proxied(connection)
        if caller is not None:
            return caller
        cookie = connection.cookies.get(COOKIE)
        session = await asyncio.to_thread(self.accounts.find_session, cookie, now_us=now_us()) if cookie else None
        if session is not None:
            return Caller(session.name, session.role, csrf=session.csrf, language=session.language)
        return LOCAL_PROGRAM if self._is_local_program(connection) else None

    def is_from_trusted_proxy(self, connection: HTTPConnection) -> bool:
        """Return whether the other end of the connection is one of the proxies that are trusted."""
        try:
            peer = ipaddress.ip_address(connection.client.host if connection.client is not None else "")
        except ValueError:
            return False
        return any(peer in network for network in self._trusted)

    def find_address(self, connection: HTTPConnection) -> str:
        """Return the address of the caller: what a trusted proxy added last, or the other end of the connection."""
        hops = connection.headers.getlist("x-forwarded-for")
        if hops and self.is_from_trusted_proxy(connection):
            return hops[-1].rpartition(",")[2].strip()[:64]
        return connection.client.host if connection.client is not None else ""

    def is_secure(self, connection: HTTPConnection) -> bool:
        """Return whether the browser reaches the service by TLS."""
        if (self._settings.public_url or "").startswith("https://") or connection.url.scheme == "https":
            return True
        return is_forwarded_from_tls(connection) and self.is_from_trusted_proxy(connection)

    async def log_in(self, name: str, password: str, address: str, old_cookie: str | None) -> LoginResult:
        """See `Accounts.log_in`. Few passwords are looked at at once: each takes much memory and time."""
        async with self._digests:
            return await asyncio.to_thread(self.accounts.log_in, name, password, address, now_us=now_us(), old_cookie=old_cookie)

    async def _find_proxied(self, connection: HTTPConnection) -> Caller | None:
        """Return the person whom a trusted proxy names; None where the name could be anybody's."""
        header = self._settings.user_header
        if header is None or not self.is_from_trusted_proxy(connection):
            return None
        name = _read_header(connection, header)
        if name is None or len(name) > LONGEST_NAME or not name.isprintable() or "," in name:
            return None
        user = await asyncio.to_thread(self.accounts.find_user, name)
        role = self._find_role(connection, user)
        if role is None or (user is not None and not user.is_enabled):
            return None
        now = time.monotonic()
        if now - self._arrivals.get(name, -ARRIVAL_S) >= ARRIVAL_S:
            self._arrivals = {} if len(self._arrivals) >= MOST_ARRIVALS else self._arrivals
            self._arrivals[name] = now
            await asyncio.to_thread(self.accounts.note_arrival, name, self.find_address(connection), now_us=now_us())
        token = hmac.new(self._secret, name.encode(), hashlib.sha256).hexdigest()
        return Caller(name, role, csrf=token, language=None if user is None else user.language)

    def _find_role(self, connection: HTTPConnection, user: User | None) -> str | None:
        """Return the highest role that the directory gives; without a header for roles, that of the store's user."""
        if self._settings.role_header is None:
            return None if user is None else user.role
        groups = (_read_header(connection, self._settings.role_header) or "").replace(";", ",").split(",")
        roles = {self._settings.role_map.get(g.strip(), g.strip() if not self._settings.role_map else "") for g in groups}
        return next((role for role in reversed(PERSON_ROLES) if role in roles), None)

    def _is_local_program(self, connection: HTTPConnection) -> bool:
        """Return whether a program of this machine, no browser, asks a service without tokens that serves this machine only."""
        if self._tokens is not None or not is_loopback(self._settings.host) or not is_program_of_this_machine(connection):
            return False
        headers = connection.headers
        return not any(name in headers for name in ("cookie", "origin", "referer")) and not any(
            name.startswith("sec-fetch-") for name in headers
        )


def _read_header(connection: HTTPConnection, name: str) -> str | None:
    """Return the one value of a proxy's header; None if it is missing, doubled, or named as of this hop only.

    A caller may name a header in `Connection`, so that a proxy drops what it set itself (RFC 9110, 7.6.1).
    """
    values = connection.headers.getlist(name)
    hop_by_hop = {part.strip().lower() for line in connection.headers.getlist("connection") for part in line.split(",")}
    if len(values) != 1 or name.lower() in hop_by_hop:
        return None
    try:
        text = values[0].encode("latin-1").decode("utf-8").strip()
    except UnicodeError:
        return None
    return text or None


def is_forwarded_from_tls(connection: HTTPConnection) -> bool:
    """Return whether a proxy says that the caller came by TLS; of several proxies the first, which the caller talked to."""
    first = connection.headers.get("x-forwarded-proto", "").partition(",")[0].strip().lower()
    named = re.match(r"[^,]*\bproto=\"?(https?)\b", connection.headers.get("forwarded", ""), re.IGNORECASE)  # RFC 7239
    return "https" in (first, named[1].lower() if named else "")


def is_program_of_this_machine(connection: HTTPConnection) -> bool:
    """Return whether a program on this machine asks, and asks for itself: neither a proxy nor a page in a browser.

    A page of another program on this machine, at another port, is a page like any other.
    """
    headers = connection.headers
    if any(name in FORWARDING_HEADERS or name.startswith(("x-forwarded-", "x-original-")) for name in headers):
        return False
    if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
        return False
    port = (connection.scope.get("server") or ("", 0))[1]
    try:
        host = urlsplit(f"//{headers.get('host', '127.0.0.1')}")
        if not is_loopback(host.hostname or "") or host.port not in (None, port):
            return False
        pages = [urlsplit(headers[name]) for name in ("origin", "referer") if name in headers]
        return all(p.scheme == "http" and is_loopback(p.hostname or "") and p.port == port for p in pages)
    except ValueError:
        return False


def is_of_this_site(connection: HTTPConnection, public_url: str | None) -> bool:
    """Return whether no page of another site makes the browser ask, by what the browser says of it."""
    headers = connection.headers
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return False
    origins = headers.getlist("origin")
    if not origins:
        return True
    try:
        origin = urlsplit(origins[0])
        default = {"http": 80, "https": 443}.get(origin.scheme)
        known = [urlsplit(f"//{headers.get('host', '')}"), urlsplit(public_url or "")]
        names = {(site.hostname, site.port or default) for site in known if site.hostname}
        return len(origins) == 1 and default is not None and (origin.hostname, origin.port or default) in names
    except ValueError:
        return False


def find_local_path(text: str) -> str:
    """Return a path of this site to go to, `/` for anything that a browser could take for another site's address."""
    if not text.startswith("/") or text.startswith("//") or "\\" in text or not text.isprintable():
        return "/"
    return quote(text, safe="/?&=%:@!$'()*+,;~-._")


@login.get("/login")
async def show_login(request: Request, next: str = "/") -> Response:  # noqa: A002 (the parameter's name in the address)
    """Return the form, which works without script."""
    if await _get_gate(request).is_open():
        return RedirectResponse("/", 303)
    return _make_page(request, find_local_path(next))


@login.post("/login")
async def begin_session(request: Request) -> Response:
    """Begin a session under a new cookie, and go on to the page that was asked for."""
    gate = _get_gate(request)
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/x-www-form-urlencoded":
        raise HTTPException(415, "expected a form: application/x-www-form-urlencoded")
    body = (await request.body()).decode("utf-8", "replace")
    try:
        form = {name: values[-1] for name, values in parse_qs(body, max_num_fields=10, keep_blank_values=True).items()}
    except ValueError as error:
        raise HTTPException(422, "expected a form of at most ten fields") from error
    target, old_cookie = find_local_path(form.get("next", "/")), request.cookies.get(COOKIE)
    result = await gate.log_in(form.get("name", "").strip(), form.get("password", ""), gate.find_address(request), old_cookie)
    if result.cookie is None:
        return _make_page(request, target, "locked" if result.wait_s else "wrong", result.wait_s)
    response = RedirectResponse(target, 303)
    response.set_cookie(COOKIE, result.cookie, path="/", httponly=True, samesite="strict", secure=gate.is_secure(request))
    return response


@login.post("/logout")
async def end_session(request: Request) -> Response:
    """End the session in the store: its cookie is worth nothing from now on, whoever has it."""
    gate, cookie = _get_gate(request), request.cookies.get(COOKIE)
    if cookie:
        await asyncio.to_thread(gate.accounts.log_out, cookie, now_us=now_us())
    response = RedirectResponse("/login", 303)
    response.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict", secure=gate.is_secure(request))
    return response


def _get_gate(request: Request) -> Gate:
    gate: Gate = request.app.state.gate
    return gate


def _make_page(request: Request, target: str, problem: str = "", wait_s: int = 0) -> HTMLResponse:
    language = "zh" if request.headers.get("accept-language", "").lower().startswith("zh") else "en"
    words = WORDS[language]
    alert = f"<p role=alert>{escape(words[problem].format(wait_s=wait_s))}</p>" if problem else ""
    page = (
        f'<!doctype html><html lang="{language}"><meta charset=utf-8><meta name=viewport content="width=device-width">'
        f"<title>{words['title']} – inspect_pop</title><style>{STYLE}</style><main><h1>inspect_pop</h1>{alert}"
        f'<form method=post action="/login"><input type=hidden name=next value="{escape(target)}">'
        f"<label>{words['name']}<input name=name autocomplete=username autofocus required maxlength={LONGEST_NAME}></label>"
        f"<label>{words['password']}<input name=password type=password autocomplete=current-password required></label>"
        f"<button>{words['enter']}</button></form></main></html>"
    )
    headers = {"Content-Security-Policy": PAGE_POLICY, "Cache-Control": "no-store"}
    if problem == "locked":
        headers["Retry-After"] = str(wait_s)
    return HTMLResponse(page, {"": 200, "wrong": 401, "locked": 429}[problem], headers)
