"""Real boards through a whole run, by a stand-in model: what is left, and that a stopped run goes on."""

import json
import os
import random
import shutil
import signal
from pathlib import Path

import pytest

from inspect_pop import cli
from inspect_pop.store import open_store
from tests.batch.boards import checkpoints, command, many, start, tables, wait_for_another
from tests.learn.models import make_model

BOARDS = 5


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def batch(small_batch: Path) -> Path:
    """Five boards, of which one cannot be used."""
    many(small_batch, BOARDS)
    harmed = small_batch / "boards" / "board-002" / "xray" / "U1_lower.tif"
    harmed.unlink()
    harmed.write_bytes(b"no TIFF")
    return small_batch


def test_a_whole_run(batch: Path, tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = ("--results", f"board.json={tmp_path / 'json'}", "--results", f"defects.csv={tmp_path / 'csv'}")
    assert cli.main(command(batch, tmp_path / "one", model, "--jobs", "1", *results)) == 1
    assert "5 boards" in capsys.readouterr().out
    found = tables(tmp_path / "one")
    assert [b["serial"] for b in found["boards"]] == ["PB2411-010204", "B-1", "B-3", "B-4"]
    assert len(found["joints"]) == 4 * 88
    assert len(list((tmp_path / "one" / "report" / "boards").glob("*.html"))) == 4
    with open_store(tmp_path / "one" / "records.db") as store:
        assert store.record(str(found["boards"][0]["record"])) is not None
        assert len(store.list_quarantine()) == 1
    written = [json.loads(path.read_text(encoding="utf-8")) for path in (tmp_path / "json").iterdir()]
    assert sorted(document["serial"] for document in written) == ["B-1", "B-3", "B-4", "PB2411-010204"]
    assert len(list((tmp_path / "csv").glob("*.csv"))) == 4


@pytest.mark.parametrize(("pages", "written"), [("all", 1), ("suspect", 1), ("none", 0)])
def test_pages_of_boards_may_be_left_out(small_batch: Path, tmp_path: Path, model: Path, pages: str, written: int) -> None:
    assert cli.main(command(small_batch, tmp_path / "out", model, "--jobs", "1", "--pages", pages)) == 0
    assert tables(tmp_path / "out")["boards"][0]["verdict"] != "pass"
    assert len(list((tmp_path / "out" / "report").glob("boards/*.html"))) == written
    assert (tmp_path / "out" / "report" / "index.html").exists()


def test_again_inspects_nothing_again_but_what_could_not_be_used(
    batch: Path, tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cli.main(command(batch, tmp_path / "out", model, "--jobs", "1"))
    first = tables(tmp_path / "out")
    shutil.copyfile(batch / "boards/board-001/xray/U1_lower.tif", batch / "boards/board-002/xray/U1_lower.tif")
    capsys.readouterr()
    assert cli.main(command(batch, tmp_path / "out", model, "--jobs", "1", "--json")) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["boards"], report["resumed"]) == (5, 4)
    again = tables(tmp_path / "out")
    assert [b for b in again["boards"] if b["serial"] != "B-2"] == first["boards"]


def test_a_serial_that_comes_twice_is_kept_twice(small_batch: Path, small_board: Path, tmp_path: Path, model: Path) -> None:
    again = small_board.with_name("again")
    shutil.copytree(small_board, again)
    manifest = json.loads((again / "export.json").read_text())
    (again / "export.json").write_text(json.dumps(manifest | {"inspected_at": "2026-11-22T07:00:00+01:00"}))
    assert cli.main(command(small_batch, tmp_path / "out", model, "--jobs", "1")) == 0
    boards = tables(tmp_path / "out")["boards"]
    assert [b["serial"] for b in boards] == ["PB2411-010204"] * 2
    assert sorted((b["inspected_at"], b["inspection_no"]) for b in boards) == [
        ("2026-11-22T07:00:00+01:00", 1),
        ("2026-11-22T08:36:08+01:00", 2),
    ]


def test_an_interrupt_says_how_to_resume(
    small_batch: Path, tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("inspect_pop.batch.run.run_jobs", interrupted)
    assert cli.main(command(small_batch, tmp_path / "out", model, "--jobs", "1")) == 130
    assert "to resume" in capsys.readouterr().err


def test_another_model_begins_anew(batch: Path, tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(command(batch, tmp_path / "out", model, "--jobs", "1"))
    other = make_model(tmp_path / "other", weight=9.0)
    capsys.readouterr()
    cli.main(command(batch, tmp_path / "out", other, "--jobs", "1", "--json"))
    assert json.loads(capsys.readouterr().out)["resumed"] == 0
    assert len(tables(tmp_path / "out")["boards"]) == 4


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.long)])
def test_a_killed_run_goes_on_to_the_same_result(batch: Path, tmp_path: Path, model: Path, seed: int) -> None:
    cli.main(command(batch, tmp_path / "clean", model, "--jobs", "1"))
    out, rng = tmp_path / "out", random.Random(seed)
    finished: dict[str, int] = {}
    kills = 0
    while len(finished) < BOARDS - 1:
        assert (kills := kills + 1) < 100, "no start of the run gets any further"
        run = start(command(batch, out, model, "--jobs", "2"))
        wait_for_another(out, len(finished), run, rng.uniform(0, 0.3))
        os.killpg(run.pid, signal.SIGKILL) if rng.random() < 0.5 else run.kill()
        run.wait()
        for name, changed in checkpoints(out).items():
            assert finished.setdefault(name, changed) == changed, "a finished board was inspected again"
    assert start(command(batch, out, model)).wait() == 1
    assert checkpoints(out) == finished
    assert tables(out) == tables(tmp_path / "clean")


@pytest.mark.long
def test_200_boards_killed_20_times(small_batch: Path, tmp_path: Path, model: Path) -> None:
    many(small_batch, 200)
    cli.main(command(small_batch, tmp_path / "clean", model, "--pages", "none"))
    out, rng, finished = tmp_path / "out", random.Random(20), dict[str, int]()
    for _ in range(20):
        run = start(command(small_batch, out, model, "--jobs", "2", "--pages", "none"))
        wait_for_another(out, len(finished) + rng.randrange(9), run, rng.uniform(0, 0.3))
        os.killpg(run.pid, signal.SIGKILL) if rng.random() < 0.5 else run.kill()
        run.wait()
        for name, changed in checkpoints(out).items():
            assert finished.setdefault(name, changed) == changed, "a finished board was inspected again"
    assert start(command(small_batch, out, model, "--pages", "none")).wait() == 0
    assert checkpoints(out).items() >= finished.items()
    assert tables(out) == tables(tmp_path / "clean")


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads memory from /proc")
def test_memory_does_not_grow(small_batch: Path, tmp_path: Path, model: Path) -> None:
    many(small_batch, 400)
    run = start(command(small_batch, tmp_path / "out", model, "--jobs", "1", "--pages", "none"))
    sizes_mb = []
    for boards in (50, 390):
        wait_for_another(tmp_path / "out", boards, run, 0)
        status = Path(f"/proc/{run.pid}/status").read_text()
        sizes_mb.append(int(status.partition("VmRSS:")[2].split()[0]) / 1024)
    assert run.wait() == 0
    assert sizes_mb[1] < 600
    assert sizes_mb[1] - sizes_mb[0] < 15, sizes_mb
