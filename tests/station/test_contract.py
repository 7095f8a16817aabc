"""The answer for one board, and how hook and service know that they mean the same store."""

from pathlib import Path

import pytest

from inspect_pop.core.errors import FileFault
from inspect_pop.station.contract import (
    build_worker_environment,
    check_answer,
    identify_store,
    locate_address_file,
    locate_pages,
    locate_setup_file,
    make_answer,
    make_error_answer,
    to_json,
)
from tests.factories import make_inspection


def test_a_failed_board_lists_its_defects_and_the_reason_names_three_of_them() -> None:
    defects = {f"U1.lower.A{i}": "open" for i in range(1, 5)}
    answer = make_answer(make_inspection("S", defects=defects), report="r.html", elapsed_ms=1.26)
    assert (answer["verdict"], len(answer["defects"]), answer["elapsed_ms"]) == ("fail", 4, 1.3)
    assert answer["reason"] == "4 open (U1.lower.A1, U1.lower.A2, U1.lower.A3, …)"
    assert check_answer(answer) is answer


def test_the_answer_of_a_fault_has_its_parts_and_no_record() -> None:
    answer = make_error_answer(FileFault("a.tif", expected="a file", found="none", remedy="Export it again."))
    assert (answer["verdict"], answer["record"], answer["defects"]) == ("error", None, [])
    assert answer["problem"] == {
        "about": "file",
        "thing": "a.tif",
        "expected": "a file",
        "found": "none",
        "remedy": "Export it again.",
    }
    assert "\n" not in to_json(answer)


def test_a_pass_without_a_record_is_not_an_answer() -> None:
    answer = make_answer(make_inspection("S"), report=None, elapsed_ms=0.0)
    assert check_answer(answer)["verdict"] == "pass"
    with pytest.raises(ValueError, match="without serial or record"):
        check_answer(answer | {"record": ""})


def test_a_store_means_the_same_however_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    same = {identify_store(s) for s in ("r.db", f"{tmp_path}/r.db", "sqlite:///r.db", f"sqlite:///{tmp_path}/r.db")}
    assert len(same) == 1
    postgres = {identify_store(f"postgresql{d}://{who}host:5432/pop") for d in ("", "+psycopg") for who in ("", "u:p@")}
    assert len(postgres) == 1
    assert same != postgres


def test_pages_address_and_setup_lie_next_to_an_embedded_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = str(tmp_path / "r.db")
    assert locate_address_file(store) == tmp_path / "r.db.service.json"
    assert locate_pages(store) == str(tmp_path / "r-pages")
    assert locate_setup_file(store) == tmp_path / "r.db.station.json"
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    files = [locate_address_file("postgresql://host/pop"), locate_setup_file("postgresql://u:secret@host/pop")]
    assert [f.parent for f in files if f] == [tmp_path / "inspect-pop"] * 2
    assert "secret" not in str(files)
    assert locate_pages("postgresql://host/pop") is None


def test_stores_in_one_folder_have_pages_of_their_own(tmp_path: Path) -> None:
    names = ("line.1", "line.2", "line", "line.db", "line.sqlite")
    assert len({locate_pages(str(tmp_path / name)) for name in names}) == len(names)
    assert locate_pages(str(tmp_path / "line.db")) == str(tmp_path / "line-pages")


def test_a_worker_has_one_thread_unless_the_environment_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    environment = build_worker_environment()
    assert (environment["OMP_NUM_THREADS"], environment["OPENBLAS_NUM_THREADS"]) == ("3", "1")
