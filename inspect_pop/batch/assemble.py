"""Put a run together from its fragments: the tables in the order of the batch, the page, and what the store keeps of it."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from inspect_pop.batch.journal import read_fragment
from inspect_pop.batch.values import Outcome, Settings
from inspect_pop.errors import StoreFault
from inspect_pop.inspection import BoardRecord, Inspection
from inspect_pop.report.write import write_run_report
from inspect_pop.store import Quarantined, Store
from inspect_pop.store.files import RunFiles

__all__ = ["assemble"]


def assemble(outcomes: Sequence[Outcome], settings: Settings, store: Store) -> None:
    """Write the run's tables, quarantine list and page from outcomes in the order of the batch. Raises `StoreFault`.

    Two folders that hold the same export are one record, and appear once.
    """
    boards: list[BoardRecord] = []
    quarantined = [(str(o.path), o.reason) for o in outcomes if o.quarantined]
    with RunFiles(settings.out, store.standing) as files:
        for inspection in _inspections(outcomes):
            files.add(inspection)
            boards.append(inspection.board)
        for path, reason in quarantined:
            files.add_quarantine(path, reason)
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    for path, reason in quarantined:
        store.quarantine(Quarantined(path, reason, now, settings.run_id))
    write_run_report(settings.out / "report", boards, quarantined)


def _inspections(outcomes: Sequence[Outcome]) -> Iterator[Inspection]:
    for fragment in dict.fromkeys(o.fragment for o in outcomes if o.fragment is not None):
        inspection = read_fragment(fragment)
        if inspection is None:
            remedy = "Give the same command again: this board is then inspected again."
            raise StoreFault(
                str(fragment), expected="the board that was left there", found="none that can be read", remedy=remedy
            )
        yield inspection
