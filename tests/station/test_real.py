"""The whole way with the product's own inspector, on the sample board."""

import io
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
import tifffile

from inspect_pop.station.contract import JudgingOptions
from inspect_pop.station.hook import StandaloneOptions, run_hook
from inspect_pop.store import open_store
from tests.learn.models import make_model
from tests.station.conftest import REPO, Running, running

Start = Callable[..., Running]
PRODUCT = "inspect_pop.station.worker:load_inspector"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    make_model(folder / "one", weight=10.0)
    make_model(folder / "two", weight=12.0)
    return folder


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, models: Path) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("real"), inspector_factory=PRODUCT, model=models / "one", time_limit_s=300.0) as service:
        shutil.copytree(REPO / "datasets" / "sample", service.root / "batch", copy_function=shutil.copyfile)
        yield service


@pytest.fixture
def board(service: Running) -> Path:
    (name,) = (path.name for path in (REPO / "datasets" / "sample" / "boards").iterdir())
    return service.root / "batch" / "boards" / name


def test_by_path_by_upload_and_alone_it_is_the_same_record(service: Running, board: Path, models: Path, tmp_path: Path) -> None:
    by_path = service.post(str(board))
    assert by_path.status_code == 200, by_path.text
    assert re.fullmatch(r"inspect;dur=[\d.]+, record;dur=[\d.]+", by_path.headers["server-timing"])
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for file in (service.root / "batch").rglob("*"):
            archive.write(file, file.relative_to(service.root / "batch"))
    by_upload = httpx.post(f"{service.url}/v1/inspections", files={"file": out.getvalue()}, timeout=300)
    _, alone = run_hook(
        str(board),
        str(tmp_path / "alone.db"),
        290,
        standalone=StandaloneOptions(judging=JudgingOptions(model=str(models / "one"))),
        use_service=False,
    )
    answers = [by_path.json(), by_upload.json(), alone]
    assert len({a["record"] for a in answers}) == 1
    assert answers[0]["defects"] == answers[1]["defects"] == answers[2]["defects"]
    assert len(service.get(f"/v1/boards/{answers[0]['serial']}").json()["records"]) == 1


def test_the_page_of_a_board_is_at_the_address_that_the_answer_gives(service: Running, board: Path) -> None:
    report = service.post(str(board)).json()["report"]
    page = httpx.get(report, timeout=60)  # asked for at once: it is waited for
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert board.name in page.text
    assert service.get("/v1/reports/none").status_code == 404
    assert service.get("/v1/reports/..%2Frecords").status_code == 404


def test_a_new_model_is_taken_and_a_bad_one_is_not(service: Running, board: Path, models: Path) -> None:
    old = service.get("/readyz").json()["model"]
    (models / "bad").mkdir(exist_ok=True)
    assert httpx.post(f"{service.url}/v1/model", json={"path": "bad"}, timeout=300).status_code == 422
    assert httpx.post(f"{service.url}/v1/model", json={"path": "/etc"}, timeout=300).status_code == 422
    assert service.get("/readyz").json()["model"] == old
    first = service.post(str(board)).json()["record"]
    taken = httpx.post(f"{service.url}/v1/model", json={"path": str(models / "two")}, timeout=300)
    assert taken.status_code == 200
    assert service.get("/readyz").json()["model"] == taken.json()["model"] != old
    assert service.post(str(board)).json()["record"] != first
    assert httpx.post(f"{service.url}/v1/model", json={"path": str(models / "one")}, timeout=300).json()["model"] == old


def test_a_picture_of_100000_by_100000_is_refused_before_it_is_decoded(service: Running, board: Path) -> None:
    huge = service.root / "batch" / "boards" / "HUGE"
    shutil.copytree(board, huge, copy_function=shutil.copyfile)
    manifest = json.loads((huge / "export.json").read_text())
    image = next(i for i in manifest["images"] if i["kind"] == "xray_slices")
    image.pop("sha256", None)
    (huge / image["file"]).write_bytes(tiff_of(100_000, 100_000))
    (huge / "export.json").write_text(json.dumps(manifest | {"serial": "HUGE"}))
    answer = service.post(str(huge))
    assert (answer.status_code, answer.json()["verdict"]) == (422, "error")
    assert answer.json()["problem"]["about"] in ("image", "file")
    assert service.post(str(board)).status_code == 200


def vary(batch: Path, number: int) -> list[Path]:
    """Make boards of the sample board: other serials, other noise in their slices."""
    (sample,) = (batch / "boards").iterdir()
    boards = []
    for k in range(number):
        board = Path(shutil.copytree(sample, batch / "boards" / f"B-{k}", copy_function=shutil.copyfile))
        manifest = json.loads((board / "export.json").read_text()) | {"serial": f"B-{k}"}
        for image in manifest["images"]:
            image.pop("sha256", None)
            if image["kind"] == "xray_slices":
                pages = tifffile.imread(board / image["file"])
                noise = np.random.default_rng(k).normal(0, 0.02 * k * np.ptp(pages), pages.shape)
                ends = np.iinfo(pages.dtype)
                pages = np.clip(pages + noise, ends.min, ends.max).astype(pages.dtype)
                tifffile.imwrite(board / image["file"], pages, photometric="minisblack")
        (board / "export.json").write_text(json.dumps(manifest))
        boards.append(board)
    return boards


@pytest.mark.parametrize("number", [2, pytest.param(50, marks=pytest.mark.long)])
def test_with_the_service_alone_and_after_any_restart_it_is_the_same_judgement(tmp_path: Path, models: Path, number: int) -> None:
    """The same record, and so the same verdict, model, limits and profile; whatever the station was started by since."""
    (tmp_path / "limits.toml").write_text("void_fraction = 0.2\n")
    batch = Path(shutil.copytree(REPO / "datasets" / "sample", tmp_path / "exports" / "batch", copy_function=shutil.copyfile))
    boards, store = vary(batch, number), str(tmp_path / "records.db")
    station = {
        "inspector_factory": PRODUCT,
        "model": models / "one",
        "limits": tmp_path / "limits.toml",
        "profile": "measure-only",
    }
    station |= {"time_limit_s": 300.0}

    def judge(*, by_service: bool) -> list[tuple[str, str, str | None]]:
        """Ask as the line does: the hook, with no word of model, limits or profile."""
        answers = [run_hook(str(board), store, 290, use_service=by_service)[1] for board in boards]
        return [(str(a["verdict"]), str(a["reason"]), a["record"]) for a in answers]

    with running(tmp_path, **station) as service:
        one = service.get("/readyz").json()["model"]
        taken = httpx.post(f"{service.url}/v1/model", json={"path": str(models / "two")}, timeout=300).json()["model"]
        served = judge(by_service=True)
        (worker,) = service.server.station.pool._workers
        os.kill(worker.process.pid, signal.SIGKILL)
        replaced = judge(by_service=True)
    alone = judge(by_service=False)
    found_alone = judge(by_service=True)  # the service is asked for, and is not there
    with running(tmp_path, **station):
        restarted = judge(by_service=True)
    assert served == replaced == alone == found_alone == restarted
    assert {verdict for verdict, _, _ in served} <= {"pass", "fail", "review"}
    with open_store(store, must_exist=True) as stored:
        records = [record.board for board in boards for record in stored.board(board.name)]
    assert [record.record for record in records] == [record for _, _, record in served]
    assert {(r.model_digest, r.profile) for r in records} == {(taken, "measure-only")}
    assert len({r.limits_digest for r in records}) == 1
    assert taken != one


def test_the_command_answers_by_itself(board: Path, models: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import sys; from inspect_pop.cli import main; sys.exit(main())", "hook", str(board)]
    store = tmp_path / "r.db"
    done = subprocess.run(
        [*command, "--store", str(store), "--model", str(models / "one"), "--deadline", "290"],
        capture_output=True,
        timeout=300,
        cwd=REPO,
        check=False,
    )
    answer = json.loads(done.stdout)
    assert done.returncode == {"pass": 0, "fail": 1, "review": 2}[answer["verdict"]]
    with open_store(store, must_exist=True) as stored:
        assert [b.board.record for b in stored.board(answer["serial"])] == [answer["record"]]


def tiff_of(width: int, height: int) -> bytes:
    """A TIFF that claims this size and holds nothing."""
    tags = [
        (256, 4, width),
        (257, 4, height),
        (258, 3, 8),
        (259, 3, 1),
        (262, 3, 1),
        (273, 4, 8),
        (278, 4, height),
        (279, 4, width * height % 2**32),
    ]
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    return b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(tags)) + entries + b"\0\0\0\0"
