"""Windows as files of a store: how long they are kept, what a backup copies, and what a check finds.

Records, joints and decisions are not touched.
"""

from dataclasses import dataclass
from datetime import date, timedelta

from sqlalchemy import select

from inspect_pop.core.errors import StoreFault, UsageFault
from inspect_pop.store import Store
from inspect_pop.store.retention import find_waiting_records
from inspect_pop.store.schema import boards, contexts
from inspect_pop.verify.board import list_golden_files
from inspect_pop.verify.windows import WindowSet
from inspect_pop.verify.windows_file import make_windows_path, pack_windows, read_stored

__all__ = ["PrunedWindows", "WindowsCheck", "check_windows", "list_window_files", "prune_windows"]

GB = 1_000_000_000


@dataclass(frozen=True)
class PrunedWindows:
    """How many files lost their pictures (`emptied`), and how many bytes that freed; how many bytes all files take now.

    `waiting` boards are as old or as many, and keep their pictures, since somebody still has to decide about them.
    """

    emptied: int
    freed_bytes: int
    left_bytes: int
    waiting: int


@dataclass(frozen=True)
class WindowsCheck:
    """How many files of windows there are, the records without one, and what is wrong with others, in words."""

    files: int
    without: tuple[str, ...]
    faults: tuple[str, ...]


def list_window_files(store: Store) -> list[str]:
    """Return the paths of all files of windows, and of the notes and windows of golden boards. Raises `StoreFault`."""
    if not store.keeps_files:
        return []
    golden = [path for paths in list_golden_files(store).values() for path in paths]
    return sorted({*(path for path, _, _ in store.require_files().list_windows()), *golden})


def check_windows(store: Store) -> WindowsCheck:
    """Find records without a file of windows, files that cannot be read, and golden boards without their pictures.

    A record without one is no fault: it was written before windows were kept, or by what keeps none. Raises `StoreFault`.
    """
    if not store.keeps_files:
        return WindowsCheck(0, (), ())
    files, found = store.require_files(), {path for path, _, _ in store.require_files().list_windows()}
    query = select(boards.c.record, contexts.c.day, contexts.c.lot).join_from(
        boards, contexts, contexts.c.id == boards.c.context_id
    )
    with store.reading() as connection:
        expected = {make_windows_path(row.day, row.lot, row.record): str(row.record) for row in connection.execute(query)}
    faults = []
    for path in sorted(found):
        try:
            read_stored(files, path)
        except StoreFault as fault:
            faults.append(str(fault))
    for product, (note, path) in list_golden_files(store).items():
        if files.read_mtime(path) is None:
            faults.append(f"{files.address(path)}: missing, with the pictures of the golden board of {product} ({note})")
    without = tuple(sorted(record for path, record in expected.items() if path not in found))
    return WindowsCheck(len(found), without, tuple(faults))


def prune_windows(
    store: Store, *, today: str, days: int | None = None, gigabytes: float | None = None, dry_run: bool = False
) -> PrunedWindows:
    """Remove the pictures of boards that are older than `days`, and of the oldest until all files take at most `gigabytes`.

    An emptied file still says where the export lies and how its joints are cut again. Golden boards are kept, and so are boards
    that wait for a person. A day is that of the store; a board of today is 0 days old.

    Parameters
    ----------
    store
        The store.
    today
        The day now, such as `2026-03-02`.
    days, gigabytes
        The bounds; None: none of this kind. 1 GB is 10^9 bytes.
    dry_run
        Change nothing, and return what would be removed.

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
    files = store.require_files() if dry_run else store.claim_files()
    first_day = "" if days is None else (date.fromisoformat(today) - timedelta(days=days)).isoformat()
    most = None if gigabytes is None else round(gigabytes * GB)
    found = sorted(files.list_windows(), key=lambda f: (f[0].split("/")[1], f[1], f[0]))  # the oldest day first
    with store.reading() as connection:
        records = find_waiting_records(connection)
    total, emptied, freed, waiting = sum(size for _, _, size in found), 0, 0, 0
    for path, _, size in found:
        is_old = path.split("/")[1].removeprefix("day=") < first_day
        is_over = most is not None and total > most
        if not (is_old or is_over):
            continue
        stored = read_stored(files, path)
        if stored is None or not stored.roles:
            continue
        if stored.record in records:
            waiting += 1
            continue
        content = pack_windows(WindowSet(stored.record, "", None, stored.export, stored.placements))
        if not dry_run:
            files.save(path, content)
        emptied, freed, total = emptied + 1, freed + size - len(content), total - size + len(content)
    return PrunedWindows(emptied, freed, total, waiting)
