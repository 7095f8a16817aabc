"""Yield figures equal those that were worked out by hand (see conftest), in every form of text."""

import csv
import io
import json
import random
from pathlib import Path

import pytest
from rich.console import Console
from sqlalchemy import select

from inspect_pop.core.classes import CLASSES
from inspect_pop.core.errors import StoreFault, UsageFault
from inspect_pop.store import Decision, RunRecord, Store, open_store
from inspect_pop.store.engine import writing
from inspect_pop.store.schema import COUNT_COLUMNS, rollups
from inspect_pop.store.summaries import LEVELS, rebuild_rollups
from inspect_pop.yields import YieldGroup, as_csv, as_json, as_table, compute_yield, fill_days, report_yield
from tests.factories import again, make_inspection
from tests.yields.conftest import board, boards, decide


def only(found: list[YieldGroup]) -> YieldGroup:
    assert len(found) == 1
    return found[0]


def test_all_boards_together(store: Store) -> None:
    found = only(compute_yield(store))
    assert found.keys == {}
    assert (found.boards, found.passed, found.reinspected) == (6, 3, 1)
    assert found.fpy == 0.5
    assert found.fpy_interval == pytest.approx((0.1181, 0.8819), abs=1e-4)
    assert (found.joints, found.defects, found.opportunities) == (48, 4, 72)
    assert found.dpmo == pytest.approx(55_555.56, abs=0.01)
    assert found.dpu == pytest.approx(4 / 6)
    assert set(found.counts) == set(COUNT_COLUMNS)
    assert {name: n for name, n in found.counts.items() if n} == {
        "n_good": 44,
        "n_bridged": 2,
        "n_open": 1,
        "n_head_in_pillow": 1,
        "n_review": 1,
    }
    assert found.interface_passed == (("lower", 4, 6), ("upper", 4, 6))
    assert found.rolled == pytest.approx(16 / 36)
    assert (found.final_passed, found.pending) == (4, 0)
    assert (found.confirmed, found.false_calls, found.cleared, found.escapes) == (1, 2, 1, 1)
    assert found.escape_rate == 0.5
    assert found.false_call_ppm == pytest.approx(1e6 * 2 / 48)


def test_a_bga_has_two_opportunities_besides_its_joints(tmp_path: Path) -> None:
    """Of 16 balls: 18; a package on package of 16 + 9 joints: 29."""
    with open_store(f"sqlite:///{tmp_path}/records.db", files=tmp_path / "files") as store:
        store.write(make_inspection("B1", side={"lower": 4}, construction="bga", defects={"U1.lower.A1": "open"}))
        store.write(make_inspection("P1"))
        assert only(compute_yield(store)).opportunities == 18 + 29
        parts = {g.keys["construction"]: g.opportunities for g in compute_yield(store, ("construction",))}
        assert parts == {"bga": 18, "tmv": 29}


def test_by_day_an_empty_day_is_no_group_and_a_gap_in_a_trend(store: Store) -> None:
    found = compute_yield(store, ("day",))
    assert [(g.keys["day"], g.boards, g.passed) for g in found] == [("2026-03-02", 3, 1), ("2026-03-04", 3, 2)]
    gap = fill_days(found)[1]
    assert (gap.keys, gap.boards, gap.fpy, gap.dpmo, gap.dpu, gap.rolled) == ({"day": "2026-03-03"}, 0, None, None, None, None)
    assert gap.fpy_interval == (0.0, 1.0)
    assert fill_days([]) == []


def test_a_reinspection_never_changes_first_pass_yield(store: Store) -> None:
    day = compute_yield(store, ("day",))[0]
    assert (day.passed, day.fpy) == (1, pytest.approx(1 / 3))
    assert (day.final_passed, day.reinspected) == (3, 1)


def test_by_lot_and_line(store: Store) -> None:
    found = {tuple(g.keys.values()): g for g in compute_yield(store, ("lot", "line"))}
    assert list(found) == [("L1", "SMT-1"), ("L1", "SMT-2"), ("L2", "SMT-1"), (None, "SMT-1")]
    assert [g.boards for g in found.values()] == [2, 1, 2, 1]
    assert found["L1", "SMT-2"].dpmo == pytest.approx(1e6 / 12)


def test_by_interface(store: Store) -> None:
    lower, upper = compute_yield(store, ("interface",))
    assert (lower.keys, lower.boards, lower.passed, lower.defects) == ({"interface": "lower"}, 6, 4, 3)
    assert (upper.keys, upper.boards, upper.passed, upper.defects) == ({"interface": "upper"}, 6, 4, 1)
    assert (lower.joints, lower.opportunities) == (24, 36)  # a placement and a component a board: both interfaces give the site's
    assert (lower.final_passed, upper.final_passed) == (6, 4)  # S4's bridges were rejected; B1 was confirmed, S5's B2 missed
    assert (lower.false_calls, upper.escapes, upper.cleared) == (2, 1, 1)
    assert lower.rolled is None


def test_by_package_part_and_construction(store: Store) -> None:
    package = only(compute_yield(store, ("package", "part", "construction")))
    assert package.keys == {"package": "U1", "part": "POP12-TMV", "construction": "tmv"}
    assert (package.boards, package.passed, package.opportunities, package.final_passed) == (6, 3, 72, 4)
    assert package.interface_passed == (("lower", 4, 6), ("upper", 4, 6))
    assert [g.passed for g in compute_yield(store, ("construction", "interface"))] == [4, 4]


def test_a_board_with_two_packages_counts_once(tmp_path: Path) -> None:
    with open_store(tmp_path / "records.db") as store:
        store.write(make_inspection("A", refdes=("U1", "U2"), defects={"U2.upper.A1": "open"}))
        whole, parts = only(compute_yield(store)), compute_yield(store, ("package",))
        assert (whole.boards, whole.passed, whole.joints, whole.opportunities) == (1, 0, 50, 58)
        assert [(g.keys["package"], g.passed, g.opportunities) for g in parts] == [("U1", 1, 29), ("U2", 0, 29)]
        assert [(g.boards, g.passed) for g in compute_yield(store, ("interface",))] == [(1, 1), (1, 0)]
        assert only(compute_yield(store, ("construction",))).passed == 0


@pytest.mark.parametrize(
    ("since", "until", "serials"),
    [
        ("2026-03-02", "2026-03-02", 3),
        ("2026-03-03", None, 3),
        (None, "2026-03-03", 3),
        ("2026-03-03", "2026-03-03", 0),
        ("2026-03-02T08:00:00+01:00", "2026-03-04T08:00:00+01:00", 3),
        ("2026-03-04T08:00:00+01:00", None, 3),
        ("2026-03-04T07:00:01+00:00", None, 1),
        (None, "2026-03-05T04:30:00+00:00", 5),
        ("2026-03-02", "2026-03-05T04:30:01+00:00", 6),
        ("2020-01-01T00:00:00Z", "2030-01-01T00:00:00Z", 6),
    ],
)
def test_a_period_is_of_days_or_of_instants(store: Store, since: str | None, until: str | None, serials: int) -> None:
    assert only(compute_yield(store, since=since, until=until)).boards == serials
    assert sum(g.boards for g in compute_yield(store, ("interface",), since=since, until=until)) == 2 * serials


def test_one_lot_alone(store: Store) -> None:
    assert only(compute_yield(store, only={"lot": "L2"})).boards == 2
    assert only(compute_yield(store, only={"lot": None})).boards == 1
    assert only(compute_yield(store, only={"lot": "L1", "line": "SMT-2"})).boards == 1


def test_no_board_at_all_is_one_empty_group_without_keys(tmp_path: Path) -> None:
    with open_store(tmp_path / "records.db") as store:
        nothing = only(compute_yield(store))
        assert (nothing.boards, nothing.fpy, nothing.dpmo) == (0, None, None)
        assert compute_yield(store, ("day",)) == []


def test_flat_figures_have_the_names_of_the_record_page(store: Store) -> None:
    flat = compute_yield(store, ("day", "line"))[0].to_dict()
    names = ["day", "line", "boards", "passed", "fpy", "fpy_low", "fpy_high", "joints", "defects", "opportunities", "dpmo"]
    assert list(flat)[:11] == names
    assert {*(f"n_{c}" for c in CLASSES), "n_undecided", "n_review"} <= set(flat)


def test_a_report_opens_a_store_by_its_address(store: Store, tmp_path: Path) -> None:
    with open_store(tmp_path / "own.db") as own:
        for one in boards():
            own.write(one)
        decide(own)
    assert report_yield(str(tmp_path / "own.db"), ("lot",)) == [g.to_dict() for g in compute_yield(store, ("lot",))]
    with pytest.raises(StoreFault, match="no such file"):
        report_yield(str(tmp_path / "none.db"))


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ({"by": ("colour",)}, "--by"),
        ({"since": "yesterday"}, "--since"),
        ({"until": "2026-03-02T08:00:00"}, "offset"),
        ({"since": "2026-02-30"}, "--since"),
        ({"only": {"interface": "lower"}}, "only"),
    ],
)
def test_what_cannot_be_asked_is_refused(store: Store, bad: dict, says: str) -> None:
    with pytest.raises(UsageFault, match=says):
        compute_yield(store, **bad)


def test_sums_stay_those_of_the_boards_whatever_happens(tmp_path: Path, new_url: str) -> None:
    """Boards, re-inspections out of order, in other lots and days, and decisions, in any order."""
    draw = random.Random(7)
    with open_store(new_url, files=tmp_path / "files") as store:
        for step in range(60):
            serial = f"S{draw.randrange(8)}"
            at = f"2026-03-0{draw.randint(1, 4)}T{draw.randint(10, 23)}:00:00+0{draw.randint(0, 3)}:00"
            joints = [f"U1.{i}.{b}" for i in ("lower", "upper") for b in ("A1", "A2", "B1", "B2")]
            bad = dict.fromkeys(draw.sample(joints, draw.choice([0, 0, 1, 3])), "open")
            one = board(serial, at, draw.choice(["L1", "L2", None]), defects=bad, record=f"r{step}")
            store.write(one)
            for name in bad:
                if draw.random() < 0.5:
                    _, interface, ball = name.split(".")
                    state = draw.choice(["DefectRejected", "DefectConfirmed", "DefectRepaired"])
                    store.add_decision(Decision(f"r{step}", "U1", interface, ball, state, "kim", at))
        kept = _sums(store)
        with writing(store._engine) as connection:
            rebuild_rollups(connection)
        assert kept == _sums(store)
        assert {row["level"] for row in kept} == set(LEVELS)


def _sums(store: Store) -> list[dict]:
    with store.reading() as connection:
        rows = [row._asdict() for row in connection.execute(select(rollups))]
    return sorted((r for r in rows if r["boards"]), key=lambda r: list(map(str, r.values())))


def test_an_earlier_inspection_of_a_run_that_is_written_later_takes_the_first_place(tmp_path: Path) -> None:
    first = make_inspection("S", defects={"U1.lower.A1": "open"}, inspected_at="2026-03-02T08:00:00+01:00")
    second = again(make_inspection("S"), inspected_at="2026-03-03T08:00:00+01:00")
    with open_store(tmp_path / "records.db") as store:
        store.begin_run(RunRecord("r", "run", "0", "2026-03-04T08:00:00+01:00"))
        store.write(second, run="r")
        assert only(compute_yield(store)).fpy == 1.0
        store.write(first, run="r")
        assert [(g.keys["day"], g.fpy, g.final) for g in compute_yield(store, ("day",))] == [("2026-03-02", 0.0, 1.0)]


def test_json_is_a_list_of_flat_objects_without_nan(store: Store) -> None:
    found = fill_days(compute_yield(store, ("day",)))
    assert json.loads(as_json(found)) == [g.to_dict() for g in found]
    assert json.loads(as_json(found))[1]["fpy"] is None
    assert as_json([]) == "[]"


def test_csv_has_the_same_fields(store: Store) -> None:
    found = compute_yield(store, ("lot",))
    rows = list(csv.DictReader(io.StringIO(as_csv(found))))
    assert [r["lot"] for r in rows] == ["L1", "L2", ""]
    assert [float(r["fpy"]) for r in rows] == [g.fpy for g in found]
    assert as_csv([]) == ""


def rendered(found: list[YieldGroup]) -> str:
    console = Console(width=160, file=io.StringIO(), color_system=None)
    console.print(as_table(found, 160))
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_a_table_for_people(store: Store) -> None:
    text = rendered(fill_days(compute_yield(store, ("day",))))
    assert "2026-03-02" in text
    assert "33.33" in text
    row = next(line for line in text.splitlines() if "2026-03-03" in line)
    assert row.split()[1:3] == ["0", "-"]  # no board, no yield
    assert "Clopper-Pearson" in text
    assert rendered([])
