"""How long windows are kept: by days, and by size. Records, joints and decisions are not touched."""

from dataclasses import dataclass
from datetime import date, timedelta

from inspect_pop.core.errors import UsageFault
from inspect_pop.store import Store
from inspect_pop.verify.windows import WindowSet
from inspect_pop.verify.windows_file import pack_windows, read_stored

__all__ = ["PrunedWindows", "prune_windows"]

GB = 1_000_000_000


@dataclass(frozen=True)
class PrunedWindows:
    """How many files lost their pictures (`emptied`), how many bytes that freed, and how many bytes all files take now."""

    emptied: int
    freed_bytes: int
    left_bytes: int


def prune_windows(store: Store, *, today: str, days: int | None = None, gigabytes: float | None = None) -> PrunedWindows:
    """Remove the pictures of boards that are older than `days`, and of the oldest until all files take at most `gigabytes`.

    An emptied file still says where the export lies and how its joints are cut again. Golden boards are kept. A day is that of
    the store; a board of today is 0 days old.

    Parameters
    ----------
    store
        The store.
    today
        The day now, such as `2026-03-02`.
    days, gigabytes
        The bounds; None: none of this kind. 1 GB is 10^9 bytes.

    Raises
    ------
    UsageFault
        A bound is negative.
    StoreFault
        The files cannot be read or written, or are not this store's.
    """
    for name, bound in (("--windows-days", days), ("--windows-gb", gigabytes)):
        if bound is not None and bound < 0:
            raise UsageFault(name, expected="0 or more", found=f"{bound:g}")
    files = store.claim_files()
    first_day = "" if days is None else (date.fromisoformat(today) - timedelta(days=days)).isoformat()
    most = None if gigabytes is None else round(gigabytes * GB)
    found = sorted(files.list_windows(), key=lambda f: (f[0].split("/")[1], f[1], f[0]))  # the oldest day first
    total, emptied, freed = sum(size for _, _, size in found), 0, 0
    for path, _, size in found:
        is_old = path.split("/")[1].removeprefix("day=") < first_day
        is_over = most is not None and total > most
        if not (is_old or is_over):
            continue
        stored = read_stored(files, path)
        if stored is None or not stored.roles:
            continue
        content = pack_windows(WindowSet(stored.record, "", None, stored.export, stored.placements))
        files.save(path, content)
        emptied, freed, total = emptied + 1, freed + size - len(content), total - size + len(content)
    return PrunedWindows(emptied, freed, total)
