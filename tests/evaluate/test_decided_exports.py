"""The exports that decisions are about: found where the records say they lay, or named as gone."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from inspect_pop.evaluate.collect import collect
from inspect_pop.evaluate.decision_labels import collect_decision_labels, find_decided_exports, write_decision_labels
from inspect_pop.ingest import export_digest
from inspect_pop.store import Decision, Store, open_store
from inspect_pop.verify.windows import ExportPlace, WindowSet
from inspect_pop.verify.windows_file import keep_windows
from tests.factories import make_inspection

JOINT = "B4"  # of the sample board, and of an array of 4


@pytest.fixture
def store(tmp_path: Path, small_batch: Path, small_board: Path) -> Iterator[Store]:
    """One judged joint of a board whose record says where its export lies."""
    with open_store(tmp_path / "records.db") as opened:
        manifest = json.loads((small_board / "export.json").read_text())
        board = make_inspection(small_board.name, defects={f"U1.lower.{JOINT}": "open"}, inspected_at=manifest["inspected_at"])
        opened.write(board)
        opened.add_decision(Decision(board.board.record, "U1", "lower", JOINT, "DefectRejected", "Ada", "2026-03-02T12:00:00Z"))
        place = ExportPlace(str(small_board), str(small_batch), export_digest(small_board, small_batch))
        keep_windows(opened, WindowSet(board.board.record, board.board.inspected_at, board.board.lot, place, {}))
        yield opened


def test_training_reads_the_boards_from_where_they_were_inspected(store: Store, small_batch: Path, tmp_path: Path) -> None:
    """The labels.csv of the batch does not count: who trains from the store alone asked for decisions."""
    assert (small_batch / "labels.csv").is_file()
    found = collect_decision_labels(store)
    exports = find_decided_exports(store, found.labels)
    assert exports.lost == ()
    (tmp_path / "labels").mkdir()
    write_decision_labels(found, tmp_path / "labels" / "labels.csv")
    samples = collect([tmp_path / "labels", *exports.places], tmp_path / "samples").samples
    assert [*zip(samples.ball, samples.label, strict=True)] == [(JOINT, 0)]


def test_an_export_that_is_gone_is_named(store: Store, small_board: Path) -> None:
    shutil.rmtree(small_board)
    exports = find_decided_exports(store, collect_decision_labels(store).labels)
    assert exports.places == ()
    assert len(exports.lost) == 1 and exports.lost[0].startswith(f"{small_board.name}: ")


def test_another_export_in_its_place_is_not_taken_for_it(store: Store, small_board: Path) -> None:
    manifest = json.loads((small_board / "export.json").read_text())
    (small_board / "export.json").write_text(json.dumps(manifest | {"operator": "somebody else"}))
    exports = find_decided_exports(store, collect_decision_labels(store).labels)
    assert exports.places == ()
    assert "that was inspected, found another one" in exports.lost[0]


def test_a_record_that_does_not_say_where_its_export_lay_is_named(tmp_path: Path) -> None:
    board = make_inspection("B1", defects={f"U1.lower.{JOINT}": "open"})
    with open_store(tmp_path / "r.db") as opened:
        opened.write(board)
        opened.add_decision(Decision(board.board.record, "U1", "lower", JOINT, "DefectRejected", "Ada", "2026-03-02T12:00:00Z"))
        exports = find_decided_exports(opened, collect_decision_labels(opened).labels)
    assert "windows were deleted, or the store keeps no files" in exports.lost[0]
