"""Every page in a real browser: no complaint on its console, everything that can be clicked is clicked, a picture is kept."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from inspect_pop.core.classes import DEFECTS
from inspect_pop.core.inspection import Inspection
from inspect_pop.report.board_page import count_joints
from inspect_pop.report.write import write_board_report, write_run_report, write_yield_report
from inspect_pop.store import open_store
from tests.factories import ROWS, make_inspection
from tests.report.recipes import recipe_of

sync_api = pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.browser

SIZES = {"desktop": (1280, 900), "tablet": (820, 1180)}
EVIL = "</script><script>window.hacked = 1</script><b onmouseover='window.hacked = 1'>"


@pytest.fixture(scope="module")
def browser() -> Iterator["sync_api.Browser"]:
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("no Chromium on this machine")
    flags = ["--no-sandbox", "--headless", "--disable-gpu", "--disable-background-networking"]
    with sync_api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=program, args=flags)
        yield browser
        browser.close()


class Visit:
    """An opened page and the complaints on its console."""

    def __init__(self, browser: "sync_api.Browser", path: Path, size: str = "desktop") -> None:
        width, height = SIZES[size]
        self.page = browser.new_page(viewport={"width": width, "height": height})
        self.page.set_default_timeout(120_000)  # a busy machine draws slowly
        self.complaints: list[str] = []
        self.page.on("console", lambda m: self.complaints.append(m.text) if m.type in {"error", "warning"} else None)
        self.page.on("pageerror", lambda e: self.complaints.append(str(e)))
        self.page.on("request", lambda r: self.complaints.append(r.url) if not r.url.startswith(("file:", "data:")) else None)
        self.page.goto(path.as_uri())

    def close(self, picture: Path) -> None:
        self.page.screenshot(path=picture, full_page=True)
        assert picture.stat().st_size > 10_000
        assert self.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "wider than the screen"
        self.page.close()
        assert self.complaints == []


def failed() -> Inspection:
    defects = {f"U1.lower.{ROWS[k]}{k + 1}": c for k, c in enumerate(DEFECTS)}
    return make_inspection(
        "PB-1/" + EVIL,
        defects=defects,
        reviews={"U1.upper.A1": "between good and starved " + EVIL, "U1.upper.A2": "near"},
        undecided=["U1.lower.H8"],
        side={"lower": 8, "upper": 6},
        missing=("U1/pre_stack",),
        pictures=True,
        measures={"U1.lower.A1": {"volume_ratio": float("nan")}},
    )


@pytest.mark.parametrize("size", SIZES)
def test_the_board_page(browser: "sync_api.Browser", tmp_path: Path, size: str) -> None:
    inspection = failed()
    visit = Visit(browser, write_board_report(tmp_path, inspection, recipe_of(inspection)), size)
    page = visit.page
    selects = page.locator("[data-colour]")
    options = selects.first.locator("option").all()
    assert len(options) > 10
    for option in options:
        selects.first.select_option(option.get_attribute("value"))
        unknown = page.locator("[data-map] .unknown").count()
        assert (unknown > 0) == (option.get_attribute("value") in {"volume_ratio", "dome_um", "p_good"})
    selects.first.select_option("")
    for mark in page.locator("[data-map] .j").all()[::7]:
        mark.click()
        assert page.locator("[data-joint] h3").count() == 1
    page.locator("[data-find]").first.fill("lower b2")
    assert "lower B2: open, fail" in page.locator("[data-joint] h3").inner_text()
    page.locator("[data-joint] a").click()
    assert page.locator(".card:target b").inner_text() == "B2"
    assert page.evaluate("window.hacked") is None
    visit.close(tmp_path / f"board_{size}.png")


def test_a_search_answers_for_what_was_typed_alone(browser: "sync_api.Browser", tmp_path: Path) -> None:
    inspection = make_inspection(defects={"U1.upper.A1": "open", "U2.lower.D4": "open"}, refdes=("U1", "U2"))
    visit = Visit(browser, write_board_report(tmp_path, inspection, recipe_of(inspection)))
    find, box = visit.page.locator("[data-find]").first, visit.page.locator("[data-joint]").first
    find.fill("A1")  # a ball of both interfaces: both are offered, none is chosen
    assert "2 joints have this name" in box.inner_text()
    assert box.locator("button").all_inner_texts() == ["U1 lower A1: good, pass", "U1 upper A1: open, fail"]
    assert box.locator("h3").count() == visit.page.locator(".ring").count() == 0
    box.locator("button").last.click()
    assert "U1 upper A1: open, fail" in box.locator("h3").inner_text()
    for text in ("upper A1", "UPPER.a1", "U1 upper A1", "u1/upper/a1", "A1 upper"):
        find.fill(text)
        assert "U1 upper A1: open, fail" in box.locator("h3").inner_text()
    find.fill("D4")
    assert "U1 lower D4: good, pass" in box.locator("h3").inner_text()
    find.fill("U2 D4")  # of another package than the field's
    assert "U2 lower D4: open, fail" in box.locator("h3").inner_text()
    for text in ("ZZ9", "upper D4", "middle A1", "U9 A1"):  # no earlier answer stays
        find.fill(text)
        assert box.inner_text() == f"No joint {text}."
        assert visit.page.locator(".ring").count() == 0
    find.fill("")
    assert "Point at a joint" in box.inner_text()
    visit.close(tmp_path / "search.png")


def test_measured_colours_follow_the_figures(browser: "sync_api.Browser", tmp_path: Path) -> None:
    inspection = make_inspection(measures={"U1.lower.A1": {"void_fraction": 0.0}, "U1.lower.D4": {"void_fraction": 0.4}})
    visit = Visit(browser, write_board_report(tmp_path, inspection, recipe_of(inspection)))
    visit.page.locator("[data-colour]").select_option("void_fraction")
    low, high = (visit.page.locator(f'[data-j="{row}"]').evaluate("e => getComputedStyle(e).fill") for row in (0, 15))
    assert (low, high) == ("rgb(0, 34, 78)", "rgb(254, 232, 56)")  # the ends of cividis
    visit.close(tmp_path / "values.png")


@pytest.mark.parametrize("size", SIZES)
def test_the_run_page(browser: "sync_api.Browser", tmp_path: Path, size: str) -> None:
    inspections = [failed(), make_inspection("PB-2"), make_inspection("PB-10", defects={"U1.lower.A1": "open"}, cause="warpage")]
    for inspection in inspections[:2]:
        write_board_report(tmp_path, inspection, recipe_of(inspection))
    boards = [(i.board, count_joints(i.joints)) for i in inspections]
    index = write_run_report(tmp_path, boards, [("boards/PB-3" + EVIL, "cut short " + EVIL)])
    visit = Visit(browser, index, size)
    page = visit.page
    rows = page.locator("[data-boards] tbody tr")
    page.locator("[data-verdict]").select_option("fail")
    assert rows.locator("visible=true").count() == page.locator("[data-boards] tbody tr:not([hidden])").count() == 2
    page.locator("[data-verdict]").select_option("")
    page.locator("[data-text]").fill("warpage")
    assert page.locator("[data-shown]").inner_text() == "1 of 3 boards"
    page.locator("[data-text]").fill("")
    for button in page.locator("[data-sort]").all():
        button.click()
        button.click()
    page.locator('[data-sort="5"]').click()
    assert [r.locator("td").nth(5).inner_text() for r in rows.all()] == ["0", "1", "4"]
    page.locator('[data-sort="0"]').click()
    assert [r.locator("td").first.inner_text() for r in rows.all()][1:] == ["PB-2", "PB-10"]  # by number, not by letter
    for link in page.locator("a").all():
        assert (tmp_path / link.get_attribute("href")).is_file()
    page.locator("a", has_text="PB-2").click()
    assert page.locator("h1").inner_text() == "PB-2"
    page.go_back()
    assert page.evaluate("window.hacked") is None
    visit.close(tmp_path / f"run_{size}.png")


@pytest.fixture(scope="module")
def yield_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("yield")
    with open_store(folder / "records.db") as store:
        for k in range(30):
            defects = {"U1.lower.C4": "starved"} if k % 3 == 0 else {}
            at = f"2026-03-{2 + k // 6:02d}T08:{k:02d}:00+01:00"
            store.write(make_inspection(f"{k}{EVIL}", defects=defects, inspected_at=at, record=f"r{k}", lot=f"L-{k % 2}", seed=k))
        return write_yield_report(folder / "yield.html", store)


@pytest.mark.parametrize("size", SIZES)
def test_the_yield_page(browser: "sync_api.Browser", tmp_path: Path, yield_page: Path, size: str) -> None:
    visit = Visit(browser, yield_page, size)
    page = visit.page
    charts = page.locator("img.chart")
    assert charts.count() >= 10
    assert all(image.evaluate("e => e.complete && e.naturalWidth > 100") for image in charts.all())
    for summary in page.locator("summary").all():
        summary.click()
    for button in page.locator("[data-sort]").all():
        button.click()
    page.locator("[data-verdict]").select_option("review")
    assert page.locator("[data-shown]").inner_text() == "0 of 10 boards"
    assert page.locator(".heat.h8 title").first.evaluate("e => e.textContent") == "C4: 10 starved of 30 boards"
    assert page.evaluate("window.hacked") is None
    visit.close(tmp_path / f"yield_{size}.png")


def test_the_board_page_prints(browser: "sync_api.Browser", tmp_path: Path) -> None:
    inspection = failed()
    visit = Visit(browser, write_board_report(tmp_path, inspection, recipe_of(inspection)))
    visit.page.emulate_media(media="print")
    assert not visit.page.locator("[data-find]").is_visible()
    assert visit.page.locator("[data-map]").first.is_visible()
    paper = visit.page.pdf(format="A4", prefer_css_page_size=True)
    assert paper.startswith(b"%PDF") and 2 <= len(re.findall(rb"/Type /Page\b", paper)) <= 4
    visit.close(tmp_path / "print.png")


def test_the_board_page_reads_without_script(browser: "sync_api.Browser", tmp_path: Path) -> None:
    inspection = failed()
    path = write_board_report(tmp_path, inspection, recipe_of(inspection))
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(path.as_uri())
    assert page.locator("[data-map] .j").count() == 100
    assert page.locator(".card").count() == 7
    context.close()
