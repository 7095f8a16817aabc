"""Real boards through a whole run, by a stand-in model: what is left, and that a stopped run goes on."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from inspect_pop import cli
from inspect_pop.store import open_store
from tests.learn.models import make_model

BOARDS = 5
UNTIMED = ("started_at", "finished_at")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def batch(small_batch: Path, small_board: Path) -> Path:
    """Five boards with the same pictures, each with its own serial; one of them cannot be used."""
    manifest = json.loads((small_board / "export.json").read_text())
    for n in range(1, BOARDS):
        copy = Path(shutil.copytree(small_board, small_board.with_name(f"board-{n}")))
        (copy / "export.json").write_text(json.dumps(manifest | {"serial": f"B-{n}"}))
    (small_batch / "boards" / "board-2" / "xray" / "U1_lower.tif").write_bytes(b"no TIFF")
    return small_batch


def command(batch: Path, out: Path, model: Path, *more: str) -> list[str]:
    return ["run", str(batch), "--out", str(out), "--model", str(model), *more]


def tables(out: Path) -> dict[str, list[dict[str, object]]]:
    found = {}
    for name in ("joints", "boards", "packages"):
        rows = pq.read_table(out / f"{name}.parquet").to_pylist()
        found[name] = [{k: v for k, v in row.items() if k not in UNTIMED} for row in rows]
    return found


def test_a_whole_run(batch: Path, tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(command(batch, tmp_path / "one", model, "--jobs", "1")) == 1
    assert "5 boards" in capsys.readouterr().out
    found = tables(tmp_path / "one")
    assert [b["serial"] for b in found["boards"]] == ["PB2411-010204", "B-1", "B-3", "B-4"]
    assert len(found["joints"]) == 4 * 88
    assert len(list((tmp_path / "one" / "report" / "boards").glob("*.html"))) == 4
    with open_store(tmp_path / "one" / "records.db") as store:
        assert store.record(str(found["boards"][0]["record"])) is not None
        assert len(store.quarantined()) == 1


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
    shutil.copyfile(batch / "boards/board-1/xray/U1_lower.tif", batch / "boards/board-2/xray/U1_lower.tif")
    capsys.readouterr()
    assert cli.main(command(batch, tmp_path / "out", model, "--jobs", "1", "--json")) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["boards"], said["resumed"]) == (5, 4)
    again = tables(tmp_path / "out")
    assert [b for b in again["boards"] if b["serial"] != "B-2"] == first["boards"]


def test_another_model_begins_anew(batch: Path, tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(command(batch, tmp_path / "out", model, "--jobs", "1"))
    other = make_model(tmp_path / "other", weight=9.0)
    capsys.readouterr()
    cli.main(command(batch, tmp_path / "out", other, "--jobs", "1", "--json"))
    assert json.loads(capsys.readouterr().out)["resumed"] == 0
    assert len(tables(tmp_path / "out")["boards"]) == 4


@pytest.mark.parametrize("seed", range(2))
def test_a_killed_run_goes_on_to_the_same_result(batch: Path, tmp_path: Path, model: Path, seed: int) -> None:
    cli.main(command(batch, tmp_path / "clean", model, "--jobs", "1"))
    out, rng = tmp_path / "out", random.Random(seed)
    finished: dict[str, int] = {}
    while len(finished) < BOARDS - 1:
        run = start(command(batch, out, model, "--jobs", "2"))
        wait_for_another(out, len(finished), run, rng.uniform(0, 0.3))
        os.killpg(run.pid, signal.SIGKILL) if rng.random() < 0.5 else run.kill()
        run.wait()
        for name, changed in fragments(out).items():
            assert finished.setdefault(name, changed) == changed, "a finished board was inspected again"
    assert start(command(batch, out, model)).wait() == 1
    assert fragments(out) == finished
    assert tables(out) == tables(tmp_path / "clean")


def start(arguments: list[str]) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-m", "inspect_pop", *arguments], start_new_session=True, stdout=subprocess.DEVNULL)


def wait_for_another(out: Path, before: int, run: "subprocess.Popen[bytes]", after_s: float) -> None:
    """Until one more board is finished, and a moment longer; or until the run has ended."""
    until = time.monotonic() + 240
    while len(fragments(out)) <= before and run.poll() is None:
        assert time.monotonic() < until, "no board was finished"
        time.sleep(0.02)
    time.sleep(after_s)


def fragments(out: Path) -> dict[str, int]:
    return {p.name: p.stat().st_mtime_ns for p in out.glob(".work/*/*.parquet")}
