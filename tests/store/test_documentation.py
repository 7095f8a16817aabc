"""The pages on the store and on yield say what is so: their examples run, their tables are complete."""

import re
from pathlib import Path

import pytest
from sqlalchemy import text

from inspect_pop.core.classes import CLASSES
from inspect_pop.store import DECISION_STATES, Decision, Store, open_store
from inspect_pop.store.run_files import RunFiles
from inspect_pop.store.schema import COUNT_COLUMNS, TABLES
from inspect_pop.yields import KEYS, RULES, YieldGroup
from tests.factories import make_inspection

DOCS = Path(__file__).parents[2] / "docs"
STORE, YIELD = (DOCS / "store.md").read_text(), (DOCS / "yield.md").read_text()
SQL = re.findall(r"```sql\n(.*?)```", STORE, re.S)
PYTHON = re.findall(r"```python\n(.*?)```", STORE, re.S)
BOARDS = [
    make_inspection("S1", lot="L1", defects={"U1.lower.A1": "open", "U1.upper.C3": "head_in_pillow"}),
    make_inspection("S2", lot="L1", defects={"U1.lower.A1": "open"}),
    make_inspection("S3", lot="L2", reviews={"U1.lower.B2": "near the threshold"}, line="SMT-2"),
]
ANSWERS = [
    [("2026-03-02", "SMT-1", 2, 0.0), ("2026-03-02", "SMT-2", 1, 0.0)],
    [("U1", "lower", "A1", "open", 2), ("U1", "upper", "C3", "head_in_pillow", 1)],
    [("S3", "L2", "SMT-2", 1)],
    [("S1", "U1", 31.0, 80.0), ("S2", "U1", 31.0, 80.0), ("S3", "U1", 31.0, 80.0)],
    [("DefectConfirmed", "open", 1)],
    [
        (
            "kim",
            f"S1 U1.lower.A1 of {BOARDS[0].board.record}",
            '{"state": null}',
            '{"state": "DefectConfirmed", "decided_at": "2026-03-02T10:00:00+01:00", "label": null, "note": "", '
            '"stage": "operator"}',
            1,
        )
    ],
]


@pytest.fixture
def filled(store: Store) -> Store:
    for one in BOARDS:
        store.write(one)
    record = BOARDS[0].board.record
    store.add_decision(Decision(record, "U1", "lower", "A1", "DefectConfirmed", "kim", "2026-03-02T10:00:00+01:00"))
    return store


@pytest.mark.parametrize(("number", "answer"), list(enumerate(ANSWERS)))
def test_the_sql_runs_on_either_database(filled: Store, number: int, answer: list[tuple[object, ...]]) -> None:
    with filled.reading() as connection:
        assert [tuple(row) for row in connection.execute(text(SQL[number]))] == answer


def test_every_statement_has_its_answer() -> None:
    assert len(SQL) == len(ANSWERS)


def test_the_duckdb_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    duckdb = pytest.importorskip("duckdb")
    with open_store(tmp_path / "records.db") as store, RunFiles(tmp_path / "out", store.find_sequences) as files:
        for one in BOARDS:
            store.write(one)
            files.add(one)
    monkeypatch.chdir(tmp_path)
    answers = []
    for example in PYTHON:
        lines = example.rstrip()
        start = lines.rindex("\nduckdb.") + 1
        space: dict[str, object] = {}
        exec(lines[:start] + "answer = " + lines[start:], space)
        answers.append(space["answer"].fetchall())  # type: ignore[attr-defined]
    assert [row[:2] for row in answers[0]] == [("lower", 32), ("upper", 18)]
    assert len(answers[1]) == 16
    assert {row[1] for row in answers[1]} == {3, 6}  # a ball of that name in one interface, or in both
    assert answers[2] == [("L1", "lower", 0, 32), ("L1", "upper", 1, 18), ("L2", "lower", 0, 16), ("L2", "upper", 0, 9)]
    assert duckdb


@pytest.mark.parametrize("name", [t.name for t in TABLES])
def test_every_table_is_documented(name: str) -> None:
    assert f"`{name}`" in STORE


def test_every_state_key_field_and_rule_is_documented() -> None:
    assert [s for s in DECISION_STATES if f"`{s}`" not in STORE] == []
    assert [k for k in KEYS if f"`{k}`" not in YIELD] == []
    assert [f"| {n} | {pattern} |" for n, pattern in RULES.items() if f"| {n} | {pattern} |" not in YIELD] == []
    fields = YieldGroup({}, 0, 0, 0, 0, dict.fromkeys(COUNT_COLUMNS, 0)).to_dict()
    documented = set(re.findall(r"`(\w+)`", YIELD)) | {*(f"n_{c}" for c in CLASSES), "final_passed"}
    assert {f for f in fields if not f.endswith(("_low", "_high"))} <= documented
