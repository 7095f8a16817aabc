"""Who may do what: tokens with roles, the service's roots, and the FastAPI dependencies that every route uses.

Tokens are stored as digests, compared in constant time and never logged. The token file is TOML:

    [[token]]
    name = "axi-2"                 # shown in logs and stored with decisions
    role = "station"               # monitor, station, reviewer or admin
    sha256 = "…"                   # of the token: printf %s "$TOKEN" | sha256sum
    roots = ["/exports/line-a"]    # optional: exports below these folders only; default: all of the service's roots

Paths are resolved before they are used: neither `..` nor a link leads out of the roots. A changed token file is read again:
a token that was taken out of it is refused from the next request on.
"""

import hashlib
import hmac
import logging
import os
import re
import stat
import tomllib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.security import HTTPBearer
from starlette.exceptions import HTTPException

from inspect_pop.core.errors import FileFault, PathFault, UsageFault, describe_error
from inspect_pop.station.schemas import ProblemBody
from inspect_pop.station.station import Station

__all__ = [
    "LOCAL_CALLER",
    "LOCAL_PROGRAM",
    "NOT_FOUND_RESPONSE",
    "PROBLEM_RESPONSE",
    "REFUSAL_RESPONSES",
    "ROLES",
    "UNKNOWN",
    "Caller",
    "Responses",
    "StationDep",
    "Tokens",
    "load_tokens",
    "require",
    "resolve_path",
]

ROLES = {
    "monitor": frozenset({"observe"}),
    "station": frozenset({"inspect", "read", "observe"}),
    "reviewer": frozenset({"verify", "read", "observe"}),
    "operator": frozenset({"verify", "read"}),
    "repair": frozenset({"verify", "read", "overrule"}),
    "engineer": frozenset({"verify", "read", "observe", "overrule", "train", "promote"}),
    "admin": frozenset({"inspect", "verify", "read", "observe", "overrule", "train", "promote", "administer"}),
}
TOKEN_ROLES = ("monitor", "station", "reviewer", "admin")
# At which stages of the verification a role may decide, the usual one first.
STAGES_OF_ROLE = {
    "reviewer": ("operator",),
    "operator": ("operator",),
    "repair": ("repair",),
    "engineer": ("operator", "repair"),
    "admin": ("operator", "repair"),
}
_RIGHTS_WITHIN_ROOTS = frozenset({"inspect", "observe"})
SHA256_LENGTH = 64
MAX_PATH_LENGTH = 4096  # PATH_MAX on Linux
# What a shell writes where the variable is empty or not expanded: no secret.
_NO_SECRETS = ("", "\n", "\r\n", " ", " \n", '""', "''", "-", "$TOKEN", "$token", "TOKEN", "token", "None", "null", "undefined")
_NO_SECRET_DIGESTS = frozenset(hashlib.sha256(text.encode()).hexdigest() for text in _NO_SECRETS)
_WINDOWS_PATH = re.compile(r"\\|(?:^|/)[A-Za-z]:(?:/|$)")  # also behind the folder in which a hook resolved it
UNKNOWN = "a known token is needed: Authorization: Bearer TOKEN; people log in at /login"
log = logging.getLogger(__name__)

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
        csrf: What a deciding request of a browser must repeat; None for a caller that no browser sends by itself.
        language: The language that a person chose, such as `zh`; None: none.
    """

    name: str
    role: str
    roots: tuple[Path, ...] | None = None
    csrf: str | None = None
    language: str | None = None

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages of the verification at which the caller may decide, the usual one first; empty: at none."""
        return STAGES_OF_ROLE.get(self.role, ())

    def may(self, right: str) -> bool:
        """Return whether the caller has a right: one of those in `ROLES`.

        A caller with roots neither reads nor verifies records: a record does not say which root its export came from.
        """
        return right in ROLES[self.role] and (self.roots is None or right in _RIGHTS_WITHIN_ROOTS)


LOCAL_CALLER = Caller("local", "admin")  # every caller of a service on loopback without a token file and without users
LOCAL_PROGRAM = Caller("local", "station")  # the line's programs on the machine of a service with users and without a token file


class Tokens:
    """The known callers, by the digest of their token.

    Args:
        callers: Each caller, by the digest.
        file: The file that they were read from. It is read again when it changes; None: never.

    Attributes:
        note: Called with the callers' names and roles whenever a changed file was taken.
    """

    def __init__(self, callers: dict[str, Caller], file: Path | None = None) -> None:
        self._callers, self._file = callers, file
        self.note: Callable[[dict[str, str]], None] = lambda _: None
        self._version = _find_version(file)

    @property
    def roles(self) -> dict[str, str]:
        """The role of each caller, by name."""
        return {caller.name: caller.role for caller in self._callers.values()}

    def find_caller(self, authorization: str | None) -> Caller | None:
        """Return the caller of a header `Bearer TOKEN`; None if the token is unknown, empty or missing.

        Always compares with every digest, so that the time tells nothing.
        """
        self._read_again_if_changed()
        scheme, _, token = (authorization or "").partition(" ")
        token = token.strip()
        digest = hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()
        match = None
        for known, caller in self._callers.items():
            if hmac.compare_digest(known, digest):
                match = caller
        return match if scheme.lower() == "bearer" and token else None

    def _read_again_if_changed(self) -> None:
        """Take a changed file. One that cannot be used, as while an editor writes it, changes nothing and is logged."""
        version = _find_version(self._file)
        if self._file is None or version == self._version:
            return
        self._version = version
        try:
            self._callers = _read_callers(self._file)
        except UsageFault as fault:
            log.error("the changed token file cannot be used; the tokens of before stay known", extra={"reason": str(fault)})
        else:
            log.info("the token file was read again", extra={"callers": sorted(c.name for c in self._callers.values())})
            self.note(self.roles)


def load_tokens(file: Path) -> Tokens:
    """Read a token file.

    Raises:
        UsageFault: The file or an entry cannot be used. The message names the entry, never a digest.
    """
    return Tokens(_read_callers(file), file)


def _find_version(file: Path | None) -> tuple[int, ...]:
    """Return what differs when a file was written or replaced."""
    try:
        found = os.stat(file) if file is not None else None  # noqa: PTH116 (no object for each request)
    except OSError:
        return ()
    return () if found is None else (found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino)


def _read_callers(file: Path) -> dict[str, Caller]:
    expected = "a TOML file with a [[token]] for each caller"
    try:
        _refuse_writable_by_others(file)
        entries = tomllib.loads(file.read_text(encoding="utf-8-sig"))["token"]
        if not isinstance(entries, list) or not entries:
            raise KeyError("token")
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, KeyError) as error:
        raise UsageFault(str(file), expected=expected, found=describe_error(error)) from error
    callers: dict[str, Caller] = {}
    for number, entry in enumerate(entries, 1):
        digest, caller = _parse_entry(entry, f"{file}: token {number}")
        if digest in callers or caller.name in {c.name for c in callers.values()}:
            raise UsageFault(f"{file}: token {number}", expected="a unique name and a unique token", found="a duplicate")
        callers[digest] = caller
    return callers


def _refuse_writable_by_others(file: Path) -> None:
    """Refuse a file that any account may write, or replace in its folder: it could give itself every right."""
    if os.name != "posix":
        return
    real = file.resolve()
    for place, may_replace in ((real, True), (real.parent, False)):
        mode = place.stat().st_mode
        if mode & stat.S_IWOTH and (may_replace or not mode & stat.S_ISVTX):
            expected = "a token file that only its owner and group may write"
            found = f"mode {stat.S_IMODE(mode):04o}: every account may write it"
            raise UsageFault(str(place), expected=expected, found=found, remedy=f"Run: chmod o-w {place}")


def _parse_entry(entry: Any, place: str) -> tuple[str, Caller]:
    if not isinstance(entry, dict) or set(entry) - {"name", "role", "sha256", "roots"}:
        raise UsageFault(place, expected="the keys name, role, sha256 and optionally roots")
    name, role, digest, roots = (entry.get(k) for k in ("name", "role", "sha256", "roots"))
    if not isinstance(name, str) or not name.strip() or not name.isprintable() or role not in TOKEN_ROLES:
        expected = f"a name of signs that print, and one of the roles {sorted(TOKEN_ROLES)}"
        raise UsageFault(place, expected=expected, found=f"{name!r}, {role!r}")
    if not isinstance(digest, str) or len(digest) != SHA256_LENGTH or set(digest.lower()) - set("0123456789abcdef"):
        raise UsageFault(f"{place} ({name})", expected="the sha256 of the token, as 64 hexadecimal digits")
    if digest.lower() in _NO_SECRET_DIGESTS:
        found = "the sha256 of nothing, or of a placeholder"
        remedy = "Is the variable set? Make a token: openssl rand -base64 32"
        raise UsageFault(f"{place} ({name})", expected="the sha256 of a secret", found=found, remedy=remedy)
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
            raise HTTPException(401, UNKNOWN, {"WWW-Authenticate": "Bearer"})
        if not caller.may(right):
            limit = "" if caller.roots is None else ", kept to its roots,"
            raise HTTPException(403, f"the role {caller.role}{limit} has no right to {right}")
        return caller

    return authorize


async def get_station(request: Request) -> Station:
    """Return the application's station."""
    station: Station = request.app.state.station
    return station


StationDep = Annotated[Station, Depends(get_station)]


def resolve_path(roots: Sequence[Path], text: str, *, within: Sequence[Path] | None = None) -> tuple[Path, Path]:
    """Resolve a path that a caller names, within the service's roots.

    A relative path is looked up below each root.

    Args:
        roots: The service's roots.
        text: The path.
        within: Folders that this caller is kept to; None: all of the roots.

    Returns:
        The real path and the folder that all files of the board must lie in: the root that holds it, or what the caller may
        read of that root.

    Raises:
        PathFault: The path or the target of a link in it lies outside what the caller may read, whether or not anything
            exists there.
        FileFault: Nothing exists at the path, within what the caller may read.
    """
    if not text or len(text) > MAX_PATH_LENGTH or "\0" in text:
        raise PathFault("path", expected="the path of a board's folder", found=repr(text[:80]))
    if ".." in Path(text).parts:
        raise PathFault(text, expected="a path without '..'", remedy="Name the folder itself.")
    found, remedy = "nothing that can be read", ""
    if _WINDOWS_PATH.search(text):
        found, remedy = "a path of Windows", "Name the folder as the service's machine sees it, where the share is mounted."
    is_inside = False
    for real_root, allowed in _pair_allowed(roots, within):
        path = Path(os.path.realpath(real_root / text))
        if path.is_relative_to(allowed):
            is_inside = True
            try:
                if path.exists():
                    return path, allowed
            except OSError:  # the name is too long, or a folder above it may not be entered
                continue
    if is_inside:
        raise FileFault(text, expected="the folder of a board", found=found, remedy=remedy)
    if remedy:
        raise PathFault(text, expected="a path within the service's roots", found=found, remedy=remedy)
    raise PathFault(
        text, expected="a path within the service's roots", remedy="Export below a root, or start the service with --root."
    )


def _pair_allowed(roots: Sequence[Path], within: Sequence[Path] | None) -> list[tuple[Path, Path]]:
    """Return each root with each part of it that may be read: the root itself, or a folder in it that the caller is kept to."""
    real_roots = [Path(os.path.realpath(root)) for root in roots]
    if within is None:
        return [(root, root) for root in real_roots]
    folders = [Path(os.path.realpath(folder)) for folder in within]
    inside = [(root, folder) for root in real_roots for folder in folders if folder.is_relative_to(root)]
    return inside + [(root, root) for root in real_roots if any(root.is_relative_to(folder) for folder in folders)]
