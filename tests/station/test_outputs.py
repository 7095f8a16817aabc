"""Ledger and pages, each in this process or in a forked one that may die or hang."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from inspect_pop.station import outputs
from inspect_pop.station.outputs import ForkedProcess, InlinePages, SubprocessPages
from tests.factories import make_inspection
from tests.report.recipes import recipe_of

pytestmark = pytest.mark.skipif(not ForkedProcess.is_supported(), reason="this system cannot fork")
BOARD = make_inspection("S/1", pictures=True, defects={"U1.lower.A1": "open"})
RECIPE = recipe_of(BOARD)


@pytest.fixture
def drawer() -> Iterator[SubprocessPages]:
    drawer = SubprocessPages()
    yield drawer
    drawer.close()
    drawer._child.process.kill()
    drawer._child.process.join()
    drawer._child.process.close()


def test_both_ways_draw_the_same_page(drawer: SubprocessPages, tmp_path: Path) -> None:
    InlinePages().draw(tmp_path / "inline.html", BOARD, RECIPE)
    drawer.draw(tmp_path / "subprocess.html", BOARD, RECIPE)
    drawer.close()
    assert (tmp_path / "subprocess.html").read_text() == (tmp_path / "inline.html").read_text()


def test_pages_do_not_pile_up(drawer: SubprocessPages, tmp_path: Path) -> None:
    for i in range(4):
        drawer.draw(tmp_path / f"{i}.html", BOARD, RECIPE)
        assert all((tmp_path / f"{k}.html").exists() for k in range(i))


def test_a_page_that_is_there_stays(drawer: SubprocessPages, tmp_path: Path) -> None:
    (tmp_path / "p.html").write_text("old")
    drawer.draw(tmp_path / "p.html", BOARD, RECIPE)
    drawer.close()
    assert (tmp_path / "p.html").read_text() == "old"


def test_a_folder_that_cannot_be_written_costs_the_page_alone(drawer: SubprocessPages, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    drawer.draw(tmp_path / "file" / "p.html", BOARD, RECIPE)
    drawer.draw(tmp_path / "next.html", BOARD, RECIPE)
    drawer.close()
    assert (tmp_path / "next.html").exists()


def test_after_its_process_died_pages_are_drawn_inline(drawer: SubprocessPages, tmp_path: Path) -> None:
    assert drawer._child.process.pid is not None
    os.kill(drawer._child.process.pid, signal.SIGKILL)
    drawer._child.process.join()
    for name in ("first.html", "second.html"):
        drawer.draw(tmp_path / name, BOARD, RECIPE)
        assert (tmp_path / name).exists()


def test_one_that_hangs_is_given_up(drawer: SubprocessPages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert drawer._child.process.pid is not None
    monkeypatch.setattr(outputs, "PAGE_S", 0.1)
    os.kill(drawer._child.process.pid, signal.SIGSTOP)
    drawer.draw(tmp_path / "lost.html", BOARD, RECIPE)
    drawer.draw(tmp_path / "next.html", BOARD, RECIPE)
    assert (tmp_path / "next.html").exists()
    drawer._child.process.join(60)
    assert drawer._child.process.exitcode == -signal.SIGKILL


def test_it_ends_with_the_process_that_made_it() -> None:
    drawer = SubprocessPages()
    drawer.close()
    drawer._child.process.join(60)
    assert drawer._child.process.exitcode == 0
    drawer._child.process.close()
