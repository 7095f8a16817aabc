"""Result files for the line's neighbours: escaped by kind, whole or not at all, and what a template may not do."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from inspect_pop.core.errors import StoreFault, UsageFault
from inspect_pop.report.write import SHIPPED, TEMPLATES, ResultsTarget, TemplateFault, collect_values, parse_target
from inspect_pop.store import Decision, InspectionSequence, StoredBoard, extract_defects
from tests.factories import make_inspection

NASTY = '=cmd|"x",\n<b a="1">&\'ü;'


def make_stored(**how: Any) -> StoredBoard:
    inspection = make_inspection(**{"defects": {"U1.lower.A1": "bridged", "U1.upper.B2": "open"}} | how)
    defects = tuple(extract_defects(inspection.joints))
    return StoredBoard(inspection.board, InspectionSequence(1, "r", 0.0), "fail", inspection.packages, (), defects, ())


def decide(stored: StoredBoard, ball: str, state: str, interface: str = "lower") -> StoredBoard:
    decision = Decision("r", "U1", interface, ball, state, "Ada", "2026-01-02T03:04:05+00:00", label="open", note="seen")
    return replace(stored, decisions=(*stored.decisions, decision))


def write_template(folder: Path, name: str, text: str) -> ResultsTarget:
    (folder / name).write_text(text)
    return parse_target(f"{folder / name}={folder / 'out'}")


def test_the_shipped_templates_are_those_that_are_named() -> None:
    assert sorted(path.name for path in TEMPLATES.iterdir()) == sorted(f"{name}.j2" for name in SHIPPED)


@pytest.mark.parametrize("serial", ["S1", NASTY])
def test_one_row_of_csv_a_defect_with_what_a_person_decided(tmp_path: Path, serial: str) -> None:
    stored = decide(decide(make_stored(serial=serial), "A1", "DefectRejected"), "C3", "DefectMissed")
    path = parse_target(f"defects.csv={tmp_path}").write(stored)
    assert path is not None and path.suffix == ".csv"
    rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"), newline="")))
    assert [(row["refdes"], row["interface"], row["ball"], row["label"], row["state"]) for row in rows] == [
        ("U1", "lower", "A1", "bridged", "DefectRejected"),
        ("U1", "upper", "B2", "open", ""),
        ("U1", "lower", "C3", "open", "DefectMissed"),
    ]
    assert rows[0]["serial"] == (serial if serial == "S1" else f"'{serial}")  # no formula
    assert rows[0]["code"] == "POP-BRIDGED" and float(rows[0]["x_um"]) != 0 and rows[2]["x_um"] == ""


@pytest.mark.parametrize(("position", "shown"), [(0, "0"), (3, "3"), (None, "")])
def test_a_position_that_counts_from_0_is_one(tmp_path: Path, position: int | None, shown: str) -> None:
    stored = make_stored()
    stored = replace(stored, board=replace(stored.board, position=position))
    path = parse_target(f"repair.xml={tmp_path}").write(stored)
    assert path is not None and ElementTree.fromstring(path.read_bytes()).attrib["position"] == shown


def test_a_template_with_a_byte_order_mark_writes_none(tmp_path: Path) -> None:
    (tmp_path / "x.json.j2").write_text('{"serial": {{ board.serial }}}', encoding="utf-8-sig")
    path = parse_target(f"{tmp_path / 'x.json.j2'}={tmp_path}").write(make_stored(serial="S1"))
    assert path is not None and path.read_bytes() == b'{"serial": "S1"}'


@pytest.mark.parametrize("serial", ["S1", NASTY])
def test_the_repair_station_reads_every_defect_and_its_verification(tmp_path: Path, serial: str) -> None:
    path = parse_target(f"repair.xml={tmp_path}").write(decide(make_stored(serial=serial), "A1", "DefectRejected"))
    assert path is not None
    board = ElementTree.fromstring(path.read_bytes())
    assert board.get("barcode") == serial.replace("\n", " ")
    assert [(d.get("pin"), d.get("defect"), d.get("verification")) for d in board] == [
        ("A1", "bridged", "10002"),
        ("B2", "open", "10000"),
    ]


@pytest.mark.parametrize("serial", ["S1", NASTY])
def test_json_holds_every_value_as_it_is(tmp_path: Path, serial: str) -> None:
    stored = make_stored(serial=serial, warpage_um=float("nan"))
    path = parse_target(f"board.json={tmp_path}").write(stored)
    assert path is not None
    document = json.loads(path.read_text(encoding="utf-8"))
    assert (document["serial"], document["board"]["inspection_no"], len(document["defects"])) == (serial, 1, 2)
    assert document["packages"][0]["warpage_um"] is None


def test_a_template_that_renders_nothing_writes_no_file(tmp_path: Path) -> None:
    good = make_stored(defects={})
    assert parse_target(f"repair.xml={tmp_path / 'out'}").write(good) is None
    assert not (tmp_path / "out").exists()


def test_a_later_version_replaces_the_file_of_its_record(tmp_path: Path) -> None:
    target = parse_target(f"repair.xml={tmp_path}")
    first = target.write(make_stored())
    second = target.write(decide(make_stored(), "A1", "DefectRepaired"))
    assert first == second and b"10010" in first.read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == [first.name]


@pytest.mark.parametrize(
    ("name", "text", "what"),
    [
        ("a.txt.j2", "{{ board.serial.__class__.__mro__ }}", "unsafe"),
        ("a.txt.j2", "{{ board.nothing }}", "no attribute 'nothing'"),
        ("a.txt.j2", "{% for a in range(10**9) %}x{% endfor %}", "OverflowError"),
        ("a.txt.j2", "{% for a in range(99999) %}{{ 'x' * 9999 }}{% endfor %}", "at most 32 MiB"),
        ("a.txt.j2", "{{ board.update({}) }}", "unsafe|not safely"),
        ("a.txt.j2", "{{ board.serial / 2 }}", "TypeError"),
        ("a.txt.j2", "{% include '/etc/passwd' %}", "no loader"),
        ("a.txt.j2", r"{{ '\ud800' }}", "valid TXT"),
        ("a.json.j2", '{"a": "{{ board.serial }}"}', "valid JSON"),
        ("a.xml.j2", "<a>{{ board.serial }}", "valid XML"),
    ],
)
def test_what_a_template_cannot_show_is_a_fault_of_the_template(tmp_path: Path, name: str, text: str, what: str) -> None:
    target = write_template(tmp_path, name, text)
    with pytest.raises(TemplateFault, match=what):
        target.write(make_stored())
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "text", "what"),
    [
        ("a.txt", "x", r"a name that ends in .csv.j2"),
        ("a.xlsx.j2", "x", r"a name that ends in"),
        ("a.txt.j2", "{% if %}", "line 1"),
        ("a.txt.j2", "x" * (1 << 20) + "x", "at most 1 MiB"),
    ],
)
def test_a_template_that_cannot_be_used_is_refused_before_anything_runs(tmp_path: Path, name: str, text: str, what: str) -> None:
    with pytest.raises(TemplateFault, match=what):
        write_template(tmp_path, name, text)


@pytest.mark.parametrize("serial", ["../../up", "/etc/cron.d/x", "a/b", "CON", ".hidden", "x" * 128, "a.html"])
def test_no_serial_leads_out_of_the_folder_or_hides_its_file(tmp_path: Path, serial: str) -> None:
    path = parse_target(f"defects.csv={tmp_path / 'out'}").write(make_stored(serial=serial))
    assert path is not None and [file.relative_to(tmp_path) for file in tmp_path.rglob("*.csv")] == [Path("out") / path.name]
    assert not path.name.startswith(".") and len(path.name) < 100 and path.name.count(".") == path.stem.count(".") + 1


def test_a_file_is_never_seen_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = parse_target(f"defects.csv={tmp_path}")
    first = target.write(make_stored())
    assert first is not None
    before = first.read_bytes()

    def fill_the_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", fill_the_disk)
    monkeypatch.setattr(Path, "replace", fill_the_disk)
    with pytest.raises(StoreFault, match="No space left"):
        target.write(decide(make_stored(), "A1", "DefectRepaired"))
    assert first.read_bytes() == before and [path.name for path in tmp_path.iterdir()] == [first.name]


def test_targets_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    for text in ("results", "=results", "defects.csv="):
        with pytest.raises(UsageFault, match="TEMPLATE=FOLDER"):
            parse_target(text)
    with pytest.raises(TemplateFault, match="a text file"):
        parse_target(f"{tmp_path}/none.csv.j2=out")
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreFault, match="a folder for results"):
        parse_target(f"defects.csv={tmp_path / 'file'}").write(make_stored())


def test_values_have_a_measurement_of_every_name() -> None:
    stored = decide(make_stored(), "C3", "DefectMissed")
    first, _, missed = collect_values(stored)["defects"]
    assert first.keys() == missed.keys()
    assert first["p"] == pytest.approx(first["p_bridged"]) and missed["p"] is None
