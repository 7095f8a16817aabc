"""Pages drawn by a process of their own: each is there in a moment, and none is lost to a process that dies or hangs."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from inspect_pop.station import page_drawer as pages
from inspect_pop.station.page_drawer import Apart, Here
from tests.factories import make_inspection
from tests.report.recipes import recipe_of

pytestmark = pytest.mark.skipif(not Apart.can(), reason="this system cannot fork")
BOARD = make_inspection("S/1", pictures=True, defects={"U1.lower.A1": "open"})
RECIPE = recipe_of(BOARD)


@pytest.fixture
def apart() -> Iterator[Apart]:
    drawer = Apart()
    yield drawer
    drawer.close()
    drawer._process.kill()
    drawer._process.join()
    drawer._process.close()


def test_a_page_drawn_apart_is_the_page_drawn_here(apart: Apart, tmp_path: Path) -> None:
    Here().draw(tmp_path / "here.html", BOARD, RECIPE)
    apart.draw(tmp_path / "apart.html", BOARD, RECIPE)
    apart.close()
    assert (tmp_path / "apart.html").read_text() == (tmp_path / "here.html").read_text()


def test_pages_do_not_pile_up(apart: Apart, tmp_path: Path) -> None:
    for i in range(4):
        apart.draw(tmp_path / f"{i}.html", BOARD, RECIPE)
        assert all((tmp_path / f"{k}.html").exists() for k in range(i))


def test_a_page_that_is_there_stays(apart: Apart, tmp_path: Path) -> None:
    (tmp_path / "p.html").write_text("old")
    apart.draw(tmp_path / "p.html", BOARD, RECIPE)
    apart.close()
    assert (tmp_path / "p.html").read_text() == "old"


def test_a_folder_that_cannot_be_written_costs_the_page_alone(apart: Apart, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    apart.draw(tmp_path / "file" / "p.html", BOARD, RECIPE)
    apart.draw(tmp_path / "next.html", BOARD, RECIPE)
    apart.close()
    assert (tmp_path / "next.html").exists()


def test_after_its_process_died_pages_are_drawn_here(apart: Apart, tmp_path: Path) -> None:
    assert apart._process.pid is not None
    os.kill(apart._process.pid, signal.SIGKILL)
    apart._process.join()
    for name in ("first.html", "second.html"):
        apart.draw(tmp_path / name, BOARD, RECIPE)
        assert (tmp_path / name).exists()


def test_one_that_hangs_is_given_up(apart: Apart, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert apart._process.pid is not None
    monkeypatch.setattr(pages, "PAGE_S", 0.1)
    os.kill(apart._process.pid, signal.SIGSTOP)
    apart.draw(tmp_path / "lost.html", BOARD, RECIPE)
    apart.draw(tmp_path / "next.html", BOARD, RECIPE)
    assert (tmp_path / "next.html").exists()
    apart._process.join(60)
    assert apart._process.exitcode == -signal.SIGKILL


def test_it_ends_with_whoever_asked_it() -> None:
    drawer = Apart()
    drawer.close()
    drawer._process.join(60)
    assert drawer._process.exitcode == 0
    drawer._process.close()
