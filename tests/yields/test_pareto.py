"""What fails most, and where, on the boards of conftest."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from inspect_pop.core.classes import DEFECTS
from inspect_pop.core.errors import UsageFault
from inspect_pop.store import Store, open_store
from inspect_pop.yields import REJECTED, map_positions, rank_causes, rank_defects
from tests.factories import make_inspection


def test_labels_most_first_with_their_running_share(store: Store) -> None:
    found = [(b.keys["label"], b.count, b.share, b.cumulative) for b in rank_defects(store)]
    assert found == [("bridged", 2, 0.5, 0.5), ("head_in_pillow", 1, 0.25, 0.75), ("open", 1, 0.25, 1.0)]


def test_by_several_keys_and_for_one_lot(store: Store) -> None:
    found = {tuple(b.keys.values()): b.count for b in rank_defects(store, ("interface", "label"), only={"lot": "L2"})}
    assert found == {("lower", "bridged"): 2, ("upper", "head_in_pillow"): 1}
    assert [b.keys for b in rank_defects(store, ("line",))] == [{"line": "SMT-1"}, {"line": "SMT-2"}]


def test_by_position_counts_the_first_inspections(store: Store) -> None:
    found = [(b.keys["ball"], b.count) for b in rank_defects(store, ("refdes", "interface", "ball"))]
    assert found == [("A1", 2), ("A2", 1), ("B1", 1)]


def test_causes_of_failing_boards(store: Store) -> None:
    assert [(b.keys["cause"], b.count) for b in rank_causes(store)] == [("excess_paste", 1), ("none", 1)]


def test_a_good_joint_that_a_criterion_rejected_is_ranked_as_rejected(tmp_path: Path) -> None:
    """In every count: by label, by ball, by cause, and on the map."""
    inspection = make_inspection("S1", defects={"U1.lower.B2": "open"}, side={"lower": 2, "upper": 2})
    verdict = inspection.joints["verdict"].copy()
    verdict[(inspection.joints["interface"] == "lower") & (inspection.joints["ball"] == "A1")] = "fail"
    inspection = replace(inspection, joints=inspection.joints.replace(verdict=verdict))
    counts = {name: dict(of) for name, of in inspection.packages[0].counts.items()}
    counts["lower"]["rejected"] = 1
    package = replace(inspection.packages[0], counts=counts)
    with open_store(tmp_path / "records.db") as store:
        store.write(replace(inspection, board=replace(inspection.board, n_rejected=1), packages=(package,)))
        assert {b.keys["label"]: b.count for b in rank_defects(store)} == {"open": 1, REJECTED: 1}
        by_ball = {tuple(b.keys.values()): b.count for b in rank_defects(store, ("ball", "label"))}
        assert by_ball == {("A1", REJECTED): 1, ("B2", "open"): 1}
        assert [b.count for b in rank_causes(store)] == [1]
        found = map_positions(store)
    assert found.rejected.tolist() == [1, 0, 0, 0, 0, 0, 0, 0]
    assert found.defects.sum() == 1


def test_nothing_fails_is_empty(store: Store) -> None:
    assert rank_defects(store, since="2026-03-05") == []
    assert rank_causes(store, since="2026-03-05") == []


def test_unknown_keys_are_refused(store: Store) -> None:
    with pytest.raises(UsageFault, match="colour"):
        rank_defects(store, ("colour",))


def test_a_map_holds_every_ball_with_its_place_and_failures(store: Store) -> None:
    found = map_positions(store)
    assert list(zip(found.interface, found.ball, strict=True)) == [
        *(("lower", b) for b in ("A1", "A2", "B1", "B2")),
        *(("upper", b) for b in ("A1", "A2", "B1", "B2")),
    ]
    assert set(found.boards) == {6}
    a1 = dict(zip(DEFECTS, found.defects[0], strict=True))
    assert {label: n for label, n in a1.items() if n} == {"bridged": 1, "open": 1}  # U1.lower.A1
    assert found.defects.sum() == 4
    np.testing.assert_allclose(found.x_um[:4], [-200, 200, -200, 200], atol=0.01)
    np.testing.assert_allclose(found.y_um[:4], [200, 200, -200, -200], atol=0.01)


def test_a_map_of_one_lot(store: Store) -> None:
    found = map_positions(store, only={"lot": "L1"})
    assert set(found.boards) == {3}
    assert found.defects.sum() == 1


def test_a_map_of_nothing_is_empty(tmp_path: Path) -> None:
    with open_store(tmp_path / "records.db") as store:
        found = map_positions(store)
    assert len(found.ball) == 0
    assert found.defects.shape == (0, len(DEFECTS))
