"""How one service is set up: addresses, roots, limits. Everything is checked once, before anything starts."""

import hashlib
import ipaddress
import logging
import os
import re
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from inspect_pop.classify.model import find_current_model, resolve
from inspect_pop.core.errors import ModelFault, StoreFault, UsageFault, describe_error
from inspect_pop.core.text import hide_passwords
from inspect_pop.station.contract import (
    DEFAULT_FACTORY,
    DEFAULT_HANDLE,
    JudgingOptions,
    Rules,
    freeze_limits,
    locate_pages,
    read_setup,
)
from inspect_pop.station.uploads import ArchiveLimits
from inspect_pop.store.accounts import PERSON_ROLES

if TYPE_CHECKING:
    from inspect_pop.report.write import ResultsTarget

__all__ = ["ServiceSettings", "StartModel", "check_same_rules", "is_loopback", "settle_settings"]


@dataclass(frozen=True)
class ServiceSettings:
    """The settings of `serve` and `watch`.

    Attributes:
        roots: Folders that exports may be read from.
        store: Path of an embedded store, or the address of a database server.
        time_zone: The plant's time zone, for days in the store; None: that of the store.
        host, port: Address to listen on; port 0 takes a free one.
        public_url: Address at which callers reach the service, for links in answers, such as `https://pop.plant.example`;
            None: the address that the caller connected to.
        model: Model folder; None: the current model.
        model_roots: Folders that `POST /v1/model` may load from; default: the folder that holds `model`.
        limits: Limits file; None: the default limits.
        profile: Name of a profile; None: the default.
        max_escape_rate, max_false_call_ppm: Promised rates, which choose the thresholds; None: the model's own thresholds.
        expect: What the inspecting processes must judge by (fields of `contract.Rules`), or not start; None: anything.
        tokens: Token file; needed beyond loopback, unless people log in.
        trusted_proxies: Addresses or networks of reverse proxies whose headers count.
        user_header: Header in which a trusted proxy names the person who logged in at the plant's directory; None: none does.
        role_header: Header in which it names the person's roles or groups; None: the role is that of the store's user.
        role_map: The role of each group; empty: the header names roles.
        verify_sample: How many joints that passed a person looks at on each board; None: as many as the store says.
        workers: Number of inspecting processes.
        queue: Most inspections that wait; one more is answered 'busy'.
        time_limit_s: Seconds per inspection, after which its process is killed.
        json_bytes, upload_bytes: Most bytes of a request's body, as JSON (a list of decisions: eight times as many) and as a
            multipart form.
        archive: What an upload may unpack to.
        header_s: Seconds within which a connection must send a whole request head.
        body_idle_s, body_s: Most seconds between two pieces of a body, and for the whole body.
        reader_s: Seconds within which a caller must take what was sent to it, or `middleware.LEAST_READ_BYTES` of it.
        connections: Most open connections.
        stop_s: Seconds that a stopping service waits for inspections in progress.
        inspector_factory: `module:function` that builds the inspector in each worker process.
        cfx: Where messages go: `amqp://host/address`, `http(s)://…` or a folder; None: they stay in the store's outbox.
        cfx_handle: This station's name in messages.
        results: Where result files go, and the templates that write them.
        hermes: Address at which the machine behind learns of boards by IPC-HERMES-9852, such as `10.0.0.5:50101`; None: none.
        heartbeat_s: Seconds between two CFX heartbeats.
        qualified: The machines that are qualified in the store (`contract.JudgingOptions`).

    Raises:
        UsageFault: A setting cannot be used.
    """

    roots: tuple[Path, ...]
    store: str
    host: str = "127.0.0.1"
    port: int = 8737
    public_url: str | None = None
    model: Path | None = None
    model_roots: tuple[Path, ...] = ()
    limits: Path | None = None
    profile: str | None = None
    max_escape_rate: float | None = None
    max_false_call_ppm: float | None = None
    expect: dict[str, Any] | None = None
    tokens: Path | None = None
    trusted_proxies: tuple[str, ...] = ()
    user_header: str | None = None
    role_header: str | None = None
    role_map: dict[str, str] = field(default_factory=dict)
    verify_sample: int | None = None
    workers: int = field(default_factory=lambda: os.cpu_count() or 1)
    queue: int = 8
    time_limit_s: float = 30.0
    json_bytes: int = 64 << 10
    upload_bytes: int = 1 << 30
    archive: ArchiveLimits = field(default_factory=ArchiveLimits)
    header_s: float = 10.0
    body_idle_s: float = 15.0
    body_s: float = 300.0
    reader_s: float = 10.0
    connections: int = 512
    stop_s: float = 30.0
    inspector_factory: str = DEFAULT_FACTORY
    cfx: str | None = None
    cfx_handle: str = DEFAULT_HANDLE
    results: "tuple[ResultsTarget, ...]" = ()
    hermes: str | None = None
    time_zone: str | None = None
    heartbeat_s: float = 60.0
    qualified: tuple[tuple[str, str, str], ...] = ()

    def __post_init__(self) -> None:
        for root in self.roots:
            if not root.is_dir():
                raise UsageFault(f"--root {root}", expected="a folder", remedy="Name the folder that holds the exports.")
        if not self.roots:
            raise UsageFault("--root", expected="at least one folder that exports may be read from")
        for name in ("workers", "queue", "time_limit_s", "upload_bytes", "connections", "heartbeat_s"):
            if getattr(self, name) <= 0:
                raise UsageFault(name, expected="more than zero", found=str(getattr(self, name)))
        if self.public_url is not None and not _is_plain_address(self.public_url):
            expected = "an address such as https://pop.plant.example, without user, query and fragment"
            raise UsageFault("--public-url", expected=expected, found=repr(hide_passwords(self.public_url)))
        self._check_directory()
        is_for_all = self.tokens is None and self.user_header is None and not is_loopback(self.host)
        if is_for_all:
            from inspect_pop.store import open_store  # only a service without tokens asks

            with suppress(StoreFault), open_store(self.store, must_exist=True) as opened:
                is_for_all = not opened.accounts.has_users()
        if is_for_all:
            raise UsageFault(
                f"--host {self.host}",
                expected="a token file, or people who log in",
                remedy="Give --tokens FILE, add people by `inspect-pop users add`, or listen on 127.0.0.1 for this machine only.",
            )

    def _check_directory(self) -> None:
        """Check what a proxy may say of people. Raises `UsageFault`."""
        for address in self.trusted_proxies:
            try:
                ipaddress.ip_network(address)
            except ValueError as error:
                expected = "an address such as 10.0.0.5 or a network such as 10.0.0.0/24"
                raise UsageFault("--trusted-proxy", expected=expected, found=repr(address)) from error
        if self.user_header is not None and not self.trusted_proxies:
            remedy = "Without it, anybody could send the header."
            raise UsageFault("--user-header", expected="--trusted-proxy with the proxy's address", found="none", remedy=remedy)
        for option, header in (("--user-header", self.user_header), ("--role-header", self.role_header)):
            if header is not None and not re.fullmatch(r"[A-Za-z0-9-]+", header):
                raise UsageFault(option, expected="a header's name such as X-Remote-User", found=repr(header))
        if self.user_header is None and (self.role_header is not None or self.role_map):
            raise UsageFault("--role-header", expected="--user-header, too", found="none")
        unknown = sorted(set(self.role_map.values()) - set(PERSON_ROLES))
        if unknown:
            raise UsageFault("--role-map", expected=f"GROUP=ROLE with one of {', '.join(PERSON_ROLES)}", found=", ".join(unknown))

    @property
    def url(self) -> str:
        """The service's address, as its own machine sees it."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104 (compared, not bound)
        host = f"[{host}]" if ":" in host else host
        return f"http://{host}:{self.port}"

    @property
    def pages(self) -> Path | None:
        """The folder of the boards' pages, next to an embedded store; None for a database server, which has no pages."""
        folder = locate_pages(self.store)
        return None if folder is None else Path(folder)

    @property
    def model_folders(self) -> tuple[Path, ...]:
        """Folders that a new model may come from: `model_roots`, or the folder that holds the current model."""
        from inspect_pop.classify.model import find_current_model  # only the service takes models

        return self.model_roots or ((self.model or find_current_model()).resolve().parent,)

    @property
    def judging(self) -> JudgingOptions:
        """By what boards shall be judged."""
        model, limits = (None if path is None else str(path) for path in (self.model, self.limits))
        qualified = [list(machine) for machine in self.qualified] or None
        return JudgingOptions(model, limits, self.profile, self.max_escape_rate, self.max_false_call_ppm, qualified)


def _is_plain_address(address: str) -> bool:
    """Return whether an address can be the beginning of links."""
    try:
        parts = urlsplit(address)
        is_usable = bool(parts.hostname) and (parts.port or 1) > 0 and "@" not in parts.netloc
    except ValueError:
        return False
    is_printable = address.isprintable() and not any(c in address for c in " <>\"'{}")
    return is_usable and is_printable and parts.scheme in ("http", "https") and not parts.query and not parts.fragment


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


log = logging.getLogger(__name__)

StartModel = tuple[str | None, str]  # the folder that the service was started with, and the digest of its card


def settle_settings(settings: ServiceSettings, *, may_write: bool = True) -> tuple[ServiceSettings, StartModel]:
    """Return the settings to work by, and the model that was named at the start.

    The model that an earlier service took by request stays, as long as the service is started with the model that it was
    started with then. Limits are copied, so that every process reads the same ones; not if `may_write` is false, because
    another service's copy is there.

    Raises:
        StoreFault: The earlier setup cannot be read, or nothing can be written next to the store.
        ModelFault: There is no model.
    """
    folder, digest = _find_start_model(settings)
    named = None if folder is None else str(folder)
    previous = read_setup(settings.store)
    model, expect = folder, settings.expect
    if previous is not None and previous.options.model != previous.start_model:
        if (previous.start_model, previous.start_digest) == (named, digest):
            model = Path(previous.options.model) if previous.options.model else None
            expect = {"model": previous.rules["model"]}
            log.info("the service goes on with the model that it took by request", extra={"model": str(model)})
        else:
            log.warning("the model that was taken by request is left: another one is named", extra={"model": named})
    limits = settings.limits if settings.limits is None or not may_write else freeze_limits(settings.store, settings.limits)
    return replace(settings, model=model, expect=expect, limits=limits), (named, digest)


def _find_start_model(settings: ServiceSettings) -> tuple[Path | None, str]:
    """Return the folder of the model that the service is started with, and the digest of its card; empty where it has none."""
    folder = settings.model
    if settings.inspector_factory == DEFAULT_FACTORY:
        folder = find_current_model() if folder is None else resolve(folder)
    if folder is None:
        return None, ""
    try:
        return folder.resolve(), hashlib.sha256((folder / "card.json").read_bytes()).hexdigest()
    except OSError as error:
        if settings.inspector_factory != DEFAULT_FACTORY:
            return folder.resolve(), ""
        raise ModelFault(f"model {folder}", expected="a folder with card.json", found=describe_error(error)) from error


def check_same_rules(store: str, rules: dict[str, Any]) -> None:
    """Check that a further service on a store judges as the first one does.

    Raises:
        UsageFault: It does not.
    """
    setup = read_setup(store)
    difference = Rules(**rules).find_difference(setup.rules if setup is not None else {})
    if difference is not None:
        name, expected, found = difference
        remedy = "Start it with the same options, or with a store of its own."
        raise UsageFault(f"another service's {name} on this store", expected=expected, found=found, remedy=remedy)
