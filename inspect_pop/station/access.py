"""Who may do what: tokens with roles, the service's roots, and the FastAPI dependencies that every route uses.

Tokens are stored as digests, compared in constant time and never logged. The token file is TOML:

    [[token]]
    name = "axi-2"                 # shown in logs and stored with decisions
    role = "station"               # station, reviewer or admin
    sha256 = "…"                   # of the token: printf %s "$TOKEN" | sha256sum
    roots = ["/exports/line-a"]    # optional: exports below these folders only; default: all of the service's roots

Paths are resolved before they are used: neither `..` nor a link leads out of the roots.
"""

import hashlib
import hmac
import os
import tomllib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.security import HTTPBearer
from starlette.exceptions import HTTPException

from inspect_pop.core.errors import FileFault, PathFault, UsageFault
from inspect_pop.station.schemas import ProblemBody
from inspect_pop.station.station import Station

__all__ = [
    "LOCAL_CALLER",
    "NOT_FOUND_RESPONSE",
    "PROBLEM_RESPONSE",
    "REFUSAL_RESPONSES",
    "ROLES",
    "Caller",
    "Responses",
    "StationDep",
    "Tokens",
    "load_tokens",
    "require",
    "resolve_path",
]

ROLES = {
    "station": frozenset({"inspect", "read"}),
    "reviewer": frozenset({"verify", "read"}),
    "admin": frozenset({"inspect", "verify", "read", "administer"}),
}
SHA256_LENGTH = 64
MAX_PATH_LENGTH = 4096  # PATH_MAX on Linux

Responses = dict[int | str, dict[str, Any]]

# The schema itself, not the model: for a model, FastAPI would document the media type of the route's normal response.
PROBLEM_RESPONSE: dict[str, Any] = {"content": {"application/json": {"schema": ProblemBody.model_json_schema()}}}
REFUSAL_RESPONSES: Responses = {
    400: PROBLEM_RESPONSE | {"description": "Not a valid HTTP request"},
    401: PROBLEM_RESPONSE | {"description": "The token is missing or unknown"},
    403: PROBLEM_RESPONSE | {"description": "The token's role does not allow this, or the service accepts local callers only"},
    408: PROBLEM_RESPONSE | {"description": "The request arrived too slowly"},
    413: PROBLEM_RESPONSE | {"description": "The request is too long"},
    503: PROBLEM_RESPONSE | {"description": "The store cannot be read or written: try again after `Retry-After` seconds"},
}
NOT_FOUND_RESPONSE: Responses = {404: PROBLEM_RESPONSE | {"description": "No such record"}}


@dataclass(frozen=True)
class Caller:
    """A caller of the service.

    Attributes:
        name: Shown in logs and stored with decisions.
        role: Key of `ROLES`.
        roots: Folders that the caller's exports must lie in; None: all of the service's roots.
    """

    name: str
    role: str
    roots: tuple[Path, ...] | None = None

    def may(self, right: str) -> bool:
        """Return whether the role has the right `inspect`, `read`, `verify` or `administer`."""
        return right in ROLES[self.role]


LOCAL_CALLER = Caller("local", "admin")  # every caller of a service on loopback without a token file


class Tokens:
    """The known callers, by the digest of their token."""

    def __init__(self, callers: dict[str, Caller]) -> None:
        self._callers = callers

    def find_caller(self, authorization: str | None) -> Caller | None:
        """Return the caller of a header `Bearer TOKEN`; None if the token is unknown or missing.

        Always compares with every digest, so that the time tells nothing.
        """
        scheme, _, token = (authorization or "").partition(" ")
        digest = hashlib.sha256(token.strip().encode("utf-8", "surrogateescape")).hexdigest()
        match = None
        for known, caller in self._callers.items():
            if hmac.compare_digest(known, digest):
                match = caller
        return match if scheme.lower() == "bearer" else None


def load_tokens(file: Path) -> Tokens:
    """Read a token file.

    Raises:
        UsageFault: The file or an entry cannot be used. The message names the entry, never a digest.
    """
    try:
        entries = tomllib.loads(file.read_text(encoding="utf-8"))["token"]
        if not isinstance(entries, list) or not entries:
            raise KeyError("token")
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, KeyError) as error:
        found = f"{type(error).__name__}: {error}"
        raise UsageFault(str(file), expected="a TOML file with a [[token]] for each caller", found=found) from error
    callers: dict[str, Caller] = {}
    for number, entry in enumerate(entries, 1):
        digest, caller = _parse_entry(entry, f"{file}: token {number}")
        if digest in callers or caller.name in {c.name for c in callers.values()}:
            raise UsageFault(f"{file}: token {number}", expected="a unique name and a unique token", found="a duplicate")
        callers[digest] = caller
    return Tokens(callers)


def _parse_entry(entry: Any, place: str) -> tuple[str, Caller]:
    if not isinstance(entry, dict) or set(entry) - {"name", "role", "sha256", "roots"}:
        raise UsageFault(place, expected="the keys name, role, sha256 and optionally roots")
    name, role, digest, roots = (entry.get(k) for k in ("name", "role", "sha256", "roots"))
    if not isinstance(name, str) or not name or role not in ROLES:
        raise UsageFault(place, expected=f"a name, and one of the roles {sorted(ROLES)}", found=f"{name!r}, {role!r}")
    if not isinstance(digest, str) or len(digest) != SHA256_LENGTH or set(digest.lower()) - set("0123456789abcdef"):
        raise UsageFault(f"{place} ({name})", expected="the sha256 of the token, as 64 hexadecimal digits")
    if roots is not None and not (isinstance(roots, list) and all(isinstance(r, str) for r in roots)):
        raise UsageFault(f"{place} ({name})", expected="roots as a list of folders")
    return digest.lower(), Caller(name, role, None if roots is None else tuple(Path(r).resolve() for r in roots))


def require(right: str) -> Callable[..., Awaitable[Caller]]:
    """Return a dependency that gives the caller and refuses one whose role lacks a right.

    Dependencies are coroutines. FastAPI runs a plain function in a thread, which takes longer than all of its work.
    """
    bearer = HTTPBearer(auto_error=False, description="Needed if the service has a token file")

    async def authorize(request: Request, _: Annotated[object, Depends(bearer)]) -> Caller:
        caller: Caller | None = request.state.caller
        if caller is None:
            raise HTTPException(401, "a known token is needed: Authorization: Bearer TOKEN", {"WWW-Authenticate": "Bearer"})
        if not caller.may(right):
            raise HTTPException(403, f"the role {caller.role} has no right to {right}")
        return caller

    return authorize


async def get_station(request: Request) -> Station:
    """Return the application's station."""
    station: Station = request.app.state.station
    return station


StationDep = Annotated[Station, Depends(get_station)]


def resolve_path(roots: Sequence[Path], text: str) -> tuple[Path, Path]:
    """Resolve a path that a caller names, within the service's roots.

    A relative path is looked up below each root.

    Returns:
        The real path and the root that holds it.

    Raises:
        PathFault: The path or the target of a link in it lies outside every root, whether or not anything exists there.
        FileFault: Nothing exists at the path within a root.
    """
    if not text or len(text) > MAX_PATH_LENGTH or "\0" in text:
        raise PathFault("path", expected="the path of a board's folder", found=repr(text[:80]))
    if ".." in Path(text).parts:
        raise PathFault(text, expected="a path without '..'", remedy="Name the folder itself.")
    is_inside = False
    for root in roots:
        real_root = Path(os.path.realpath(root))
        path = Path(os.path.realpath(real_root / text))
        if path.is_relative_to(real_root):
            is_inside = True
            try:
                if path.exists():
                    return path, real_root
            except OSError:  # the name is too long, or a folder above it may not be entered
                continue
    if is_inside:
        raise FileFault(text, expected="the folder of a board", found="nothing that can be read")
    raise PathFault(
        text, expected="a path within the service's roots", remedy="Export below a root, or start the service with --root."
    )
