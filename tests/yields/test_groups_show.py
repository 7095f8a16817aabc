"""Groups as text: the same figures in every form."""

import csv
import io
import json

from rich.console import Console

from inspect_pop.store import Store
from inspect_pop.yields import YieldGroup, as_csv, as_json, as_table, fill_days, groups


def test_json_is_a_list_of_flat_objects_without_nan(store: Store) -> None:
    found = fill_days(groups(store, ("day",)))
    assert json.loads(as_json(found)) == [g.to_dict() for g in found]
    assert json.loads(as_json(found))[1]["fpy"] is None
    assert as_json([]) == "[]"


def test_csv_has_the_same_fields(store: Store) -> None:
    found = groups(store, ("lot",))
    rows = list(csv.DictReader(io.StringIO(as_csv(found))))
    assert [r["lot"] for r in rows] == ["L1", "L2", ""]
    assert [float(r["fpy"]) for r in rows] == [g.fpy for g in found]
    assert as_csv([]) == ""


def rendered(found: list[YieldGroup]) -> str:
    console = Console(width=160, file=io.StringIO(), color_system=None)
    console.print(as_table(found))
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_a_table_for_people(store: Store) -> None:
    text = rendered(fill_days(groups(store, ("day",))))
    assert "2026-03-02" in text
    assert "33.33" in text
    row = next(line for line in text.splitlines() if "2026-03-03" in line)
    assert row.split()[3] == "0"
    assert "- │" in row
    assert "Clopper-Pearson" in text
    assert rendered([])
