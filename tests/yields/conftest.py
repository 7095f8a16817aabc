"""A small set of boards whose every figure was worked out by hand, in either kind of database.

| board | day | lot | first inspection | later |
|---|---|---|---|---|
| S1 | 2 March | L1 | pass | |
| S2 | 2 March | L1 | U1.lower.A1 open: fail | inspected again on 4 March: pass |
| S3 | 2 March | L1 | U1.upper.A1 in review | rejected by a person |
| - | 3 March | | nothing | |
| S4 | 4 March | L2 | U1.lower.A1 and A2 bridged, U1.upper.B1 head-in-pillow: fail | both bridges rejected, the other confirmed |
| S5 | 4 March | L2 | pass | a person finds U1.upper.B2 starved |
| S6 | 4 March, late in the evening west of UTC | none | pass | |

Each has two interfaces of four joints: 8 joints, 12 opportunities.
"""

import pytest

from inspect_pop.core.inspection import Inspection
from inspect_pop.store import Decision, Store, open_store
from tests.factories import again, make_inspection
from tests.store.conftest import KINDS, empty_database, new_url, postgresql_server

__all__ = ["new_url", "postgresql_server"]

SMALL = {"lower": 2, "upper": 2}
MORNING, LATER = "2026-03-02T08:00:00+01:00", "2026-03-04T08:00:00+01:00"


def board(serial: str, at: str, lot: str | None, **more: object) -> Inspection:
    return make_inspection(serial, inspected_at=at, lot=lot, side=SMALL, **more)  # type: ignore[arg-type]


def boards() -> list[Inspection]:
    s2 = board("S2", MORNING, "L1", defects={"U1.lower.A1": "open"}, line="SMT-2")
    return [
        board("S1", MORNING, "L1"),
        s2,
        board("S3", MORNING, "L1", reviews={"U1.upper.A1": "near the threshold"}),
        board(
            "S4",
            LATER,
            "L2",
            defects={"U1.lower.A1": "bridged", "U1.lower.A2": "bridged", "U1.upper.B1": "head_in_pillow"},
            cause="excess_paste",
        ),
        board("S5", LATER, "L2"),
        board("S6", "2026-03-04T23:30:00-05:00", None),
        again(board("S2", MORNING, "L1", line="SMT-2"), inspected_at=LATER),
    ]


def decide(store: Store) -> None:
    records = {one.board.serial: one.board.record for one in reversed(boards())}
    for serial, interface, ball, state in (
        ("S3", "upper", "A1", "DefectRejected"),
        ("S4", "lower", "A1", "DefectRejected"),
        ("S4", "lower", "A2", "DefectRejected"),
        ("S4", "upper", "B1", "DefectConfirmed"),
        ("S5", "upper", "B2", "DefectMissed"),
    ):
        store.add_decision(Decision(records[serial], "U1", interface, ball, state, "kim", "2026-03-05T08:00:00+01:00"))


@pytest.fixture(scope="session", params=KINDS)
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    """The boards above, written and decided; not to be written to."""
    folder = tmp_path_factory.mktemp("yields")
    with empty_database(request, folder) as url, open_store(url, files=folder / "files") as opened:
        for one in boards():
            opened.write(one)
        decide(opened)
        yield opened
