"""Who may ask what: tokens with a role, kept as digests, compared in constant time, never logged.

The token file is TOML:

    [[token]]
    name = "axi-2"                 # told in logs and as who decided
    role = "station"               # station, reviewer or admin
    sha256 = "…"                   # of the token: printf %s "$TOKEN" | sha256sum
    roots = ["/exports/line-a"]    # optional: only exports below these; all of the service's roots where not told
"""

import hashlib
import hmac
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inspect_pop.errors import UsageFault

__all__ = ["LOCAL", "ROLES", "Caller", "Tokens", "load"]

ROLES = {
    "station": frozenset({"inspect", "read"}),
    "reviewer": frozenset({"decide", "read"}),
    "admin": frozenset({"inspect", "decide", "read", "administer"}),
}
SHA256_LENGTH = 64


@dataclass(frozen=True)
class Caller:
    """Who asks: a name for logs and decisions, a role, and the roots that this caller is kept to (None: all)."""

    name: str
    role: str
    roots: tuple[Path, ...] | None = None

    def may(self, act: str) -> bool:
        """Whether the role allows `inspect`, `read`, `decide` or `administer`."""
        return act in ROLES[self.role]


LOCAL = Caller("local", "admin")  # a service on loopback without a token file: whoever is on this machine


class Tokens:
    """All known callers by the digest of their token."""

    def __init__(self, callers: dict[str, Caller]) -> None:
        self._callers = callers

    def caller(self, authorization: str | None) -> Caller | None:
        """Who a header `Bearer TOKEN` speaks for; None for an unknown token or none. Always compares with every digest."""
        scheme, _, token = (authorization or "").partition(" ")
        digest = hashlib.sha256(token.strip().encode("utf-8", "surrogateescape")).hexdigest()
        found = None
        for known, caller in self._callers.items():
            if hmac.compare_digest(known, digest):
                found = caller
        return found if scheme.lower() == "bearer" else None


def load(file: Path) -> Tokens:
    """The callers of a token file. Raises `UsageFault`, naming the entry that cannot be used and never its digest."""
    try:
        entries = tomllib.loads(file.read_text(encoding="utf-8"))["token"]
        if not isinstance(entries, list) or not entries:
            raise KeyError("token")
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, KeyError) as error:
        found = f"{type(error).__name__}: {error}"
        raise UsageFault(str(file), expected="a TOML file with a [[token]] for each caller", found=found) from error
    callers: dict[str, Caller] = {}
    for number, entry in enumerate(entries, 1):
        digest, caller = _entry(entry, f"{file}: token {number}")
        if digest in callers or caller.name in {c.name for c in callers.values()}:
            raise UsageFault(f"{file}: token {number}", expected="a name and a token of its own", found="one that is there twice")
        callers[digest] = caller
    return Tokens(callers)


def _entry(entry: Any, where: str) -> tuple[str, Caller]:
    if not isinstance(entry, dict) or set(entry) - {"name", "role", "sha256", "roots"}:
        raise UsageFault(where, expected="the keys name, role, sha256 and perhaps roots")
    name, role, digest, roots = (entry.get(k) for k in ("name", "role", "sha256", "roots"))
    if not isinstance(name, str) or not name or role not in ROLES:
        raise UsageFault(where, expected=f"a name, and a role of {sorted(ROLES)}", found=f"{name!r}, {role!r}")
    if not isinstance(digest, str) or len(digest) != SHA256_LENGTH or set(digest.lower()) - set("0123456789abcdef"):
        raise UsageFault(f"{where} ({name})", expected="the sha256 of the token, as 64 hexadecimal digits")
    if roots is not None and not (isinstance(roots, list) and all(isinstance(r, str) for r in roots)):
        raise UsageFault(f"{where} ({name})", expected="roots as a list of folders")
    return digest.lower(), Caller(name, role, None if roots is None else tuple(Path(r).resolve() for r in roots))
