"""How one service is set up: addresses, roots, limits. Checked once, before anything starts."""

import ipaddress
import os
from dataclasses import dataclass, field
from pathlib import Path

from inspect_pop.core.errors import UsageFault
from inspect_pop.station.client import pages_folder
from inspect_pop.station.uploads import ArchiveLimits

__all__ = ["Settings", "is_loopback"]


@dataclass(frozen=True)
class Settings:
    """Everything that `serve` can be told.

    `queue` inspections wait at most; one more is answered 'busy'. `time_limit_s` bounds one inspection, after which its
    process is killed. `maker` is the `module:function` that builds the inspector in each worker process. `cfx` is where
    messages go (`amqp://host/address`, `http(s)://…` or a folder; None: they stay in the store's outbox) and
    `cfx_handle` the name that this station has in them.
    """

    roots: tuple[Path, ...]
    store: str
    host: str = "127.0.0.1"
    port: int = 8737
    model: Path | None = None
    model_roots: tuple[Path, ...] = ()
    limits: Path | None = None
    tokens: Path | None = None
    workers: int = field(default_factory=lambda: os.cpu_count() or 1)
    queue: int = 8
    time_limit_s: float = 30.0
    json_bytes: int = 64 << 10
    upload_bytes: int = 1 << 30
    archive: ArchiveLimits = field(default_factory=ArchiveLimits)
    header_s: float = 10.0
    body_idle_s: float = 15.0
    body_s: float = 300.0
    connections: int = 512
    stop_s: float = 30.0
    maker: str = "inspect_pop.station.worker:released"
    cfx: str | None = None
    cfx_handle: str = "inspect_pop"
    heartbeat_s: float = 60.0

    def __post_init__(self) -> None:
        for root in self.roots:
            if not root.is_dir():
                raise UsageFault(f"--root {root}", expected="a folder", remedy="Name the folder that holds the exports.")
        if not self.roots:
            raise UsageFault("--root", expected="at least one folder that exports may be read from")
        for name in ("workers", "queue", "time_limit_s", "upload_bytes", "connections", "heartbeat_s"):
            if getattr(self, name) <= 0:
                raise UsageFault(name, expected="more than zero", found=str(getattr(self, name)))
        if self.tokens is None and not is_loopback(self.host):
            raise UsageFault(
                f"--host {self.host}",
                expected="a token file",
                remedy="Give --tokens FILE, or bind to 127.0.0.1 for this machine alone.",
            )

    @property
    def url(self) -> str:
        """Where the service answers, as its own machine sees it."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104 (compared, not bound)
        host = f"[{host}]" if ":" in host else host
        return f"http://{host}:{self.port}"

    @property
    def pages(self) -> Path | None:
        """Where the boards' pages lie: beside an embedded store, or nowhere."""
        folder = pages_folder(self.store)
        return None if folder is None else Path(folder)

    @property
    def may_load_from(self) -> tuple[Path, ...]:
        """Folders that a new model may come from: those told, and the one beside the model in use."""
        return self.model_roots or ((self.model.resolve().parent,) if self.model else ())


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
