"""How long a station's records, joint files and pages are kept."""

from dataclasses import dataclass
from pathlib import Path

from inspect_pop.core.errors import StoreFault, describe_error
from inspect_pop.station.contract import locate_pages
from inspect_pop.station.handler import locate_page
from inspect_pop.store import open_store
from inspect_pop.store.retention import Pruned, find_old_records

__all__ = ["PrunedStation", "prune_station"]


@dataclass(frozen=True)
class PrunedStation:
    """What was deleted, or would be: by the bound of records, of joint files, and the number of pages by that of pages."""

    records: Pruned
    joints: Pruned
    pages: int


def prune_station(
    url: str,
    *,
    who: str,
    records_days: int | None = None,
    joints_days: int | None = None,
    pages_days: int | None = None,
    today: str | None = None,
    dry_run: bool = False,
) -> PrunedStation:
    """Delete what is older than so many days (None: of no age). A deleted record's page goes with it. See `store.retention`.

    Raises `UsageFault` for a bound or day that is none, `StoreFault` where something cannot be read or removed.
    """
    folder = locate_pages(url)

    def find_page(record: str) -> Path | None:
        page = None if folder is None else locate_page(Path(folder), record)
        return page if page is not None and page.is_file() else None

    def remove_page(record: str) -> None:
        page = find_page(record)
        try:
            if page is not None:
                page.unlink(missing_ok=True)
        except OSError as error:
            raise StoreFault(str(page), expected="a page that can be removed", found=describe_error(error)) from error

    with open_store(url, must_exist=True) as store:
        pages: list[str] = []
        if pages_days is not None:
            first_day = store.find_first_day(pages_days, today=today)
            with store.reading() as connection:
                pages = [record for record in find_old_records(connection, first_day) if find_page(record) is not None]
            for record in () if dry_run else pages:
                remove_page(record)
            if pages and not dry_run:
                store.audit(who, "pages deleted", f"before {first_day}", before={"records": pages})
        records, joints = store.prune(
            who=who,
            records_days=records_days,
            joints_days=joints_days,
            today=today,
            dry_run=dry_run,
            remove_page=remove_page,
        )
    return PrunedStation(records, joints, len(pages))
