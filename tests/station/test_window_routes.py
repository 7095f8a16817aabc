"""Windows, the page's files and the golden board over HTTP."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from inspect_pop.core.inspection import choose_sample
from inspect_pop.verify.windows import ExportPlace, WindowSet, cut_windows
from inspect_pop.verify.windows_file import keep_windows
from tests.station.conftest import Running, running
from tests.verify.boards import make_seen_board

SUSPECT = "U1.lower.B2"


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, WindowSet]]:
    """A service whose store has one board with windows. Its export is gone."""
    folder = tmp_path_factory.mktemp("windows")
    with running(folder) as service, service.store() as store:
        board, recipe = make_seen_board("S/1", defects={SUSPECT: "open"})
        windows = cut_windows(board, recipe, ExportPlace(str(folder / "gone"), str(folder), "d" * 64))
        keep_windows(store, windows)
        store.write(board)
        bare, _ = make_seen_board("BARE")
        store.write(bare)
        yield service, windows


def test_a_window_comes_as_it_was_kept(seen: tuple[Running, WindowSet]) -> None:
    service, windows = seen
    for window in windows.windows:
        reply = service.get(f"/v1/records/{windows.record}/windows/{window.joint}")
        assert reply.status_code == 200 and reply.headers["cache-control"] == "private, max-age=3600, immutable"
        about = json.loads(reply.headers["x-windows"])
        codes = np.frombuffer(reply.content, dtype="<u2")
        n = window.codes.size
        np.testing.assert_array_equal(codes[:n].reshape(about["shape"]), window.codes)
        assert window.heights is not None
        np.testing.assert_array_equal(codes[n:].reshape(about["heights"]["shape"]), window.heights.codes)
        assert (about["kept"], about["role"], about["scale"], about["none"]) == (True, window.role, [0, 1], None)
        assert about["z_um"] == list(window.z_um) and about["heights"]["stage"] == window.heights.stage


@pytest.mark.parametrize(
    ("joint", "reason"),
    [
        ("U1.lower.D4", "none that can be read"),
        ("nonsense", "a name such as U1.lower.C4"),
        ("%2e%2e/%2e%2e/x", "none that can be read"),
    ],
)
def test_what_is_not_there_is_said(seen: tuple[Running, WindowSet], joint: str, reason: str) -> None:
    service, windows = seen
    assert joint not in {w.joint for w in windows.windows}
    reply = service.get(f"/v1/records/{windows.record}/windows/{joint}")
    assert reply.status_code == 404 and reason in reply.json()["reason"]


def test_a_record_without_windows_is_said(seen: tuple[Running, WindowSet]) -> None:
    service, _ = seen
    bare, _ = make_seen_board("BARE")
    for record in (bare.board.record, "unknown"):
        reply = service.get(f"/v1/records/{record}/windows/{SUSPECT}")
        assert reply.status_code == 404 and "they were not kept, or are removed" in reply.json()["reason"]


def test_the_page_has_its_files_and_words(seen: tuple[Running, WindowSet]) -> None:
    service, _ = seen
    script = service.get("/verify/static/main.js")
    assert script.status_code == 200 and script.headers["content-type"].startswith("text/javascript")
    assert service.get("/verify/words/zh.json").json()["app.title"] == "复判站"
    assert len(service.get("/verify/looks.json").json()) >= 5
    for path in ("/verify/static/..%2fwords.py", "/verify/static/none.js", "/verify/words/fr.json"):
        assert service.get(path).status_code == 404


def test_the_golden_board_over_http(tmp_path: Path) -> None:
    sample = Path(__file__).resolve().parents[2] / "datasets" / "sample"
    with running(tmp_path) as service, service.store() as store:
        assert service.get("/v1/golden/APX-17").status_code == 404
        board, recipe = make_seen_board("G")
        keep_windows(store, cut_windows(board, recipe, ExportPlace(str(sample), str(sample), "d")))
        store.write(board)
        (row,) = choose_sample(board.board.record, board.joints)
        assert row >= 0
        assert service.get("/v1/golden/APX-17").json() == {
            "product": "APX-17",
            "record": board.board.record,
            "serial": "G",
            "chosen_by": None,
            "chosen_at": None,
        }
        reply = httpx.put(f"{service.url}/v1/golden/APX-17", json={"record": "none"})
        assert reply.status_code == 422 and "a record of APX-17" in reply.json()["reason"]
        assert httpx.delete(f"{service.url}/v1/golden/APX-17").status_code == 204
    shutil.rmtree(tmp_path)
