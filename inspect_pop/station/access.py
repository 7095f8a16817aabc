"""Who may ask what: tokens with a role, kept as digests, compared in constant time, never logged.

The token file is TOML:

    [[token]]
    name = "axi-2"                 # told in logs and as who decided
    role = "station"               # station, reviewer or admin
    sha256 = "…"                   # of the token: printf %s "$TOKEN" | sha256sum
    roots = ["/exports/line-a"]    # optional: only exports below these; all of the service's roots where not told

What the service's routes work with.

What all routes share: the station, who may do what, and how refusals are told.

Nothing outside the roots is ever read, neither by name nor by link.
"""

import hashlib
import hmac
import os
import tomllib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.security import HTTPBearer
from starlette.exceptions import HTTPException

from inspect_pop.core.errors import FileFault, PathFault, PopError, UsageFault
from inspect_pop.station.pool import Pool
from inspect_pop.station.schemas import ProblemBody
from inspect_pop.station.settings import Settings
from inspect_pop.station.telemetry import Metrics
from inspect_pop.store import Store

__all__ = [
    "LOCAL",
    "MISSING",
    "REFUSALS",
    "ROLES",
    "WRONG",
    "Caller",
    "Here",
    "Responses",
    "Station",
    "Tokens",
    "load",
    "may",
    "within",
]

# ---- station/tokens
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


# ---- station/station
@dataclass
class Station:
    """One running service: how it is set up, its inspecting processes, its store and its counters."""

    settings: Settings
    pool: Pool
    store: Store
    metrics: Metrics = field(default_factory=Metrics)
    stopping: bool = False
    trouble: PopError | None = None  # why it could not start
    fault: str = ""  # what keeps the service from working, for readiness: the last failure to write the store


# ---- station/access
Responses = dict[int | str, dict[str, Any]]

# The schema itself, not the model: FastAPI would say of a model that it comes as what the route answers else, a page or text.
WRONG: dict[str, Any] = {"content": {"application/json": {"schema": ProblemBody.model_json_schema()}}}
REFUSALS: Responses = {
    400: WRONG | {"description": "No HTTP that can be understood"},
    401: WRONG | {"description": "No known token, where one is needed"},
    403: WRONG | {"description": "A token without this right, or a caller from another machine where none is known"},
    408: WRONG | {"description": "The request came too slowly"},
    413: WRONG | {"description": "The request is too long"},
    503: WRONG | {"description": "The store cannot be read or written: try again after `Retry-After` seconds"},
}
MISSING: Responses = {404: WRONG | {"description": "No such record"}}

_BEARER = HTTPBearer(auto_error=False, description="Needed where the service knows tokens")


def may(act: str) -> Callable[..., Awaitable[Caller]]:
    """A dependency that gives the caller, or refuses one whose role does not allow `act`.

    Dependencies are coroutines: for a plain function a thread would be asked, which takes longer than all that they do.
    """

    async def allowed(request: Request, _: Annotated[object, Depends(_BEARER)]) -> Caller:
        caller: Caller | None = request.state.caller
        if caller is None:
            raise HTTPException(401, "a known token is needed: Authorization: Bearer TOKEN", {"WWW-Authenticate": "Bearer"})
        if not caller.may(act):
            raise HTTPException(403, f"the role {caller.role} may not {act}")
        return caller

    return allowed


async def _station(request: Request) -> Station:
    station: Station = request.app.state.station
    return station


Here = Annotated[Station, Depends(_station)]


# ---- station/paths
LONGEST = 4096  # PATH_MAX on Linux


def within(roots: Sequence[Path], asked: str) -> tuple[Path, Path]:
    """(path, root): the real path that `asked` means, and the root that holds it.

    A relative path is looked for below each root. Raises `PathFault` where the path, or what a link in it points to, lies
    outside every root, whether or not something is there, and `FileFault` where nothing is there inside.
    """
    if not asked or len(asked) > LONGEST or "\0" in asked:
        raise PathFault("path", expected="the path of a board's folder", found=repr(asked[:80]))
    if ".." in Path(asked).parts:
        raise PathFault(asked, expected="a path without '..'", remedy="Name the folder itself.")
    real = [Path(os.path.realpath(root)) for root in roots]
    means = [Path(os.path.realpath(root / asked)) for root in real]
    inside = [(path, root) for path, root in zip(means, real, strict=True) if path.is_relative_to(root)]
    for path, root in inside:
        if _is_there(path):
            return path, root
    if inside:
        raise FileFault(asked, expected="the folder of a board", found="nothing that can be read")
    raise PathFault(
        asked, expected="a path within the service's roots", remedy="Export below a root, or start the service with --root."
    )


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return False  # too long a name, or a folder above it that may not be entered
