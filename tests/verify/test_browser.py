"""The verify page in a real browser, at a real service: by keyboard alone, undone, at two seats at once, on a tablet."""

import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from inspect_pop.core.classes import DEFECTS
from inspect_pop.store import Store
from inspect_pop.verify.windows import cut_windows
from inspect_pop.verify.windows_file import keep_windows
from inspect_pop.yields.groups import compute_yield
from inspect_pop.yields.machines import FIGURES
from tests.factories import make_inspection
from tests.station.conftest import REPO, Running, running
from tests.verify.boards import make_seen_board

sync_api = pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.browser

SIZES = {"desktop": (1440, 900), "tablet": (820, 1180)}
WAIT_S = 20.0  # a busy machine draws slowly
PASSWORD = "correct horse battery"
SUSPECTS = {"U1.lower.B2": "open", "U1.upper.A1": "starved", "U1.lower.D4": "head_in_pillow"}
CAPTION = "document.getElementById('caption-this').textContent"
EVIL = "<img src=x onerror='window.hacked = 1'>"


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


class Seat:
    """A person at the page: own session, keys only, and the complaints on the console."""

    def __init__(self, browser: "sync_api.Browser", service: Running, name: str, size: str = "desktop") -> None:
        width, height = SIZES[size]
        self.context = browser.new_context(
            viewport={"width": width, "height": height}, has_touch=size == "tablet", locale="en-GB"
        )
        self.page = self.context.new_page()
        self.page.set_default_timeout(120_000)
        self.complaints: list[str] = []
        self.page.on("console", lambda m: self.complaints.append(m.text) if m.type in {"error", "warning"} else None)
        self.page.on("pageerror", lambda e: self.complaints.append(str(e)))
        self.page.on("request", lambda r: None if r.url.startswith(service.url) else self.complaints.append(r.url))
        self.page.goto(f"{service.url}/")
        self.page.locator("input[name=name]").focus()
        self.page.keyboard.type(name)
        self.page.keyboard.press("Tab")
        self.page.keyboard.type(PASSWORD)
        self.page.keyboard.press("Enter")
        self.page.wait_for_selector("#queue:not([hidden])")

    def until(self, expression: str, arg: object = None) -> None:
        """Wait until an expression of the page is true. Playwright's own way needs `eval`, which the page's policy forbids."""
        last = time.monotonic() + WAIT_S
        while not self.page.evaluate(expression, arg):
            assert time.monotonic() < last, f"still not: {expression}"
            self.page.wait_for_timeout(5)

    def rest(self) -> None:
        """Wait until all that was decided is in the store."""
        self.until("!Number(document.body.dataset.sending)")

    def scan(self, serial: str) -> None:
        """As a scanner does, into the search field, which has the focus."""
        self.page.keyboard.type(serial)
        self.page.keyboard.press("Enter")
        self.until("s => document.getElementById('board-title').textContent === s", arg=serial)
        self.until(f"{CAPTION}.includes('U1.')")

    @property
    def serial(self) -> str:
        return str(self.page.locator("#board-title").inner_text())

    @property
    def joint(self) -> str:
        """The joint that is shown; empty at the end of the board."""
        if self.page.locator("#done").is_visible():
            return ""
        return "U1." + str(self.page.evaluate(CAPTION)).split("U1.")[1].split(" ")[0]

    def press(self, key: str) -> None:
        """Press a key that leads to another joint, to the board's end or to another board, and wait for it."""
        place = f"[document.getElementById('board-title').textContent, document.getElementById('done').hidden, {CAPTION}].join()"
        before = self.page.evaluate(place)
        self.page.keyboard.press(key)
        self.until(f"b => {place} !== b && ({CAPTION}.includes('U1.') || !document.getElementById('done').hidden)", arg=before)

    def close(self, picture: Path | None = None) -> None:
        if picture is not None:
            self.page.screenshot(path=picture)
        assert self.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "wider than the screen"
        assert self.page.evaluate("window.hacked") is None
        self.context.close()
        assert self.complaints == []


def add_boards(store: Store, prefix: str, n: int = 1, **options: Any) -> None:
    """Add boards of three suspects and a sample joint each, or with the options of `make_inspection`."""
    for k in range(n):
        given = {"defects": SUSPECTS, "seed": k, "inspected_at": f"2026-03-02T07:{k:02d}:00+01:00"} | options
        board, recipe = make_seen_board(f"{prefix}-{k:03d}", **given)
        keep_windows(store, cut_windows(board, recipe, None))
        store.write(board)


@contextmanager
def staffed(folder: Path) -> Iterator[tuple[Running, Store]]:
    """A service whose store knows two operators, one at the repair station, and an engineer."""
    with running(folder) as service, service.store() as store:
        for name, role in (
            ("anna", "operator"),
            ("bert", "operator"),
            ("rita", "repair"),
            ("eva", "engineer"),
            (EVIL, "operator"),
        ):
            store.accounts.add_user(name, role, PASSWORD, by="test", now_us=time.time_ns() // 1000)
        yield service, store


@pytest.fixture(scope="module")
def floor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, Store]]:
    """One such service for the tests that do not look at the whole queue. Each adds its own boards."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(REPO), os.environ.get("PYTHONPATH", "")]))
        with staffed(tmp_path_factory.mktemp("floor")) as station:
            yield station


def list_decisions(store: Store, prefix: str, n: int = 1) -> list[Any]:
    return [d for k in range(n) for record in store.board(f"{prefix}-{k:03d}") for d in record.decisions]


def choose(serial: str, joint: str) -> str | None:
    """What the person sees: one open joint on three of four boards, and a bridge that the machine missed on board 1."""
    k = int(serial.removeprefix("PB-"))
    if joint not in SUSPECTS:
        return "bridged" if k == 1 else None
    return "open" if joint == "U1.lower.B2" and k % 4 else None


@pytest.mark.parametrize("n", [4, pytest.param(20, marks=pytest.mark.long)])
def test_a_shift_is_verified_by_keyboard_alone(browser: "sync_api.Browser", tmp_path: Path, n: int) -> None:
    with staffed(tmp_path) as (service, store):
        add_boards(store, "PB", n)
        seat = Seat(browser, service, "anna")
        seat.scan("PB-000")
        first = seat.joint
        seat.press("2")  # a wrong key, and its undoing
        seat.press("u")
        assert seat.joint == first
        done: Counter[str] = Counter()
        while done.total() < 4 * n:
            while joint := seat.joint:
                label = choose(seat.serial, joint)
                done[f"{seat.serial} {joint}"] += 1
                seat.press(" " if label is None else str(DEFECTS.index(label) + 1))
                if done.total() == 3:  # one back, and on without deciding
                    seat.press("b")
                    assert seat.joint == joint
                    seat.press("n")
            if done.total() < 4 * n:
                seat.press(" ")
        seat.page.keyboard.press("q")
        seat.page.wait_for_selector("#queue:not([hidden])")
        seat.until("document.getElementById('queue-count').textContent === 'No board waits.'")
        for name in ("joint", "board"):
            took = sorted(seat.page.evaluate("n => performance.getEntriesByName(n).map(e => e.duration)", name))
            print(f"{name}: median {took[len(took) // 2]:.0f} ms, 95 % {took[int(0.95 * len(took))]:.0f} ms, of {len(took)}")
        seat.close()
        assert set(done.values()) == {1} and len(done) == 4 * n
        made = list_decisions(store, "PB", n)
        assert len(made) == 4 * n + 2 and {d.decided_by for d in made} == {"anna"}
        assert all(d.decided_at.startswith("20") and d.stage == "operator" for d in made)
        n_open, n_missed = n - (n + 3) // 4, 1
        wrong = Counter(["DefectConfirmed", "DefectWithdrawn"])
        wanted = Counter(DefectConfirmed=n_open, DefectRejected=3 * n - n_open, PassConfirmed=n - n_missed, DefectMissed=n_missed)
        assert Counter(d.state for d in made) == wanted + wrong
        # A message of each decision, the wrong one and its undoing included.
        states = Counter(unit["Verification"] for m in store.waiting()[1] for unit in m.payload["MessageBody"]["InspectedUnits"])
        assert states == Counter(
            DefectRejected=4 * n - n_open - n_missed, DefectConfirmed=n_open + n_missed + 1, NotVerifiedYet=1
        )
        (figures,) = compute_yield(store)
        assert (figures.boards, figures.final) == (n, pytest.approx((n + 3) // 4 / n))
        assert figures.fpy == 0


def test_two_seats_overwrite_nothing_unseen(browser: "sync_api.Browser", floor: tuple[Running, Store], tmp_path: Path) -> None:
    service, store = floor
    add_boards(store, "TWO")
    anna, bert = (Seat(browser, service, name) for name in ("anna", "bert"))
    for seat in (anna, bert):
        seat.scan("TWO-000")
    joint = anna.joint
    anna.press("1")
    anna.rest()
    bert.page.keyboard.press(" ")
    bert.page.wait_for_selector("#conflict[open]")
    assert "anna" in bert.page.locator("#conflict-text").inner_text()
    bert.page.keyboard.press("Enter")
    bert.page.wait_for_selector("#conflict:not([open])", state="attached")
    assert bert.joint == joint and "bridged" in bert.page.locator("#decisions").inner_text()
    assert [d.decided_by for d in list_decisions(store, "TWO")] == ["anna"]
    bert.press("3")  # seen: now he may
    bert.rest()
    assert [(d.decided_by, d.label) for d in list_decisions(store, "TWO")] == [("anna", "bridged"), ("bert", "starved")]
    anna.close()
    bert.complaints = [c for c in bert.complaints if "409" not in c]  # a browser notes every refusal
    bert.close()


def test_the_repair_station_repairs_and_overrules(
    browser: "sync_api.Browser", floor: tuple[Running, Store], tmp_path: Path
) -> None:
    service, store = floor
    add_boards(store, "REP")
    anna = Seat(browser, service, "anna")
    anna.scan("REP-000")
    for key in ("1", "2", "3", " "):
        anna.press(key)
    anna.rest()
    anna.close()
    rita = Seat(browser, service, "rita")
    rita.scan("REP-000")
    assert rita.page.locator("#tasks li").count() == 3
    for key in ("f", " ", "c"):
        rita.press(key)
    rita.rest()
    rita.close(tmp_path / "repair.png")
    states = [(d.stage, d.state) for d in list_decisions(store, "REP")]
    assert states[4:] == [("repair", "DefectRepaired"), ("repair", "DefectRejected"), ("repair", "DefectClosed")]
    assert store.board("REP-000")[0].final == "pass"


def test_pictures_keys_words_and_any_joint(browser: "sync_api.Browser", floor: tuple[Running, Store], tmp_path: Path) -> None:
    service, store = floor
    add_boards(store, "PIC")
    eva = Seat(browser, service, "eva")
    eva.scan("PIC-000")
    page = eva.page
    slice_line, grey_line = page.locator("#slice-line"), page.locator("#grey-line")

    def pixels(pane: str) -> str:
        return str(page.evaluate(f"document.getElementById('picture-{pane}').toDataURL()"))

    assert "Slice 3 of 5" in slice_line.inner_text()
    before, grey = pixels("this"), grey_line.inner_text()
    assert min(page.locator("#picture-this").bounding_box().values()) > 0  # type: ignore[union-attr]
    assert page.locator("#picture-this").bounding_box()["width"] >= 320  # type: ignore[index]
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowUp")
    assert "Slice 5 of 5" in slice_line.inner_text() and pixels("this") != before
    page.locator("#picture-this").hover()
    page.mouse.wheel(0, 100)
    page.mouse.wheel(0, 100)
    eva.until("document.getElementById('slice-line').textContent.includes('Slice 3 of 5')")
    assert pixels("this") == before
    reference = pixels("reference")
    for key in ("ArrowLeft", "Shift+ArrowRight", "-", "+"):
        page.keyboard.press(key)
        page.wait_for_timeout(80)  # a scanner would be faster
        eva.until("g => document.getElementById('grey-line').textContent !== g", arg=grey)
    assert pixels("this") != before and pixels("reference") != reference  # one window for all of them
    page.keyboard.press("0")
    eva.until("g => document.getElementById('grey-line').textContent === g", arg=grey)
    assert pixels("this") == before

    page.keyboard.press("m")  # on the map, to a joint that passed
    eva.until("document.activeElement.tagName === 'svg'")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    eva.until(f"document.getElementById('joint-title').textContent.includes('pass') && {CAPTION}.includes('U1.')")
    assert eva.joint not in SUSPECTS and "pass" in page.locator("#joint-title").inner_text()

    page.keyboard.press("?")
    page.locator("#keys-columns button").first.click()
    page.keyboard.press("x")
    page.keyboard.press("Escape")
    page.wait_for_selector("#help:not([open])", state="attached")
    assert "X" in page.locator("#actions button").first.inner_text()
    page.reload()
    eva.until(f"{CAPTION}.includes('U1.')")
    eva.press("x")
    page.select_option("#language", "zh")
    eva.until("document.documentElement.lang === 'zh'")
    assert "桥连" in page.locator("#actions button").nth(1).inner_text()
    eva.rest()
    assert [d.state for d in list_decisions(store, "PIC")] == ["DefectRejected"]
    eva.close(tmp_path / "zh.png")


def test_a_scanner_at_a_joint_decides_nothing(browser: "sync_api.Browser", floor: tuple[Running, Store], tmp_path: Path) -> None:
    service, store = floor
    add_boards(store, "SCAN", 2)
    anna = Seat(browser, service, "anna")
    anna.scan("SCAN-000")
    anna.page.evaluate(
        "for (const key of '1B') document.body.dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true }))"
    )
    assert anna.page.evaluate("document.activeElement.id") == "search"
    assert anna.page.locator("#search").input_value() == "1B"
    anna.page.locator("#search").fill("")
    anna.scan("SCAN-001")
    anna.rest()
    assert list_decisions(store, "SCAN", 2) == []
    anna.close()


@pytest.mark.parametrize("size", SIZES)
def test_axe_finds_no_serious_fault(browser: "sync_api.Browser", floor: tuple[Running, Store], size: str) -> None:
    """By axe-core (MPL-2.0), whose script the package axe-playwright-python brings."""
    axe = resources.files(pytest.importorskip("axe_playwright_python")).joinpath("axe.min.js")
    service, store = floor
    add_boards(store, f"AXE-{size}")
    eva = Seat(browser, service, "eva", size)
    eva.page.evaluate(axe.read_text(encoding="utf-8"))

    def find_faults() -> list[str]:
        found = eva.page.evaluate("axe.run(document, { resultTypes: ['violations'] })")["violations"]
        return [f"{f['id']} ({f['impact']}): {[n['html'] for n in f['nodes']]}" for f in found]

    eva.until("document.getElementById('queue-rows').children.length > 0")
    assert find_faults() == []
    eva.scan(f"AXE-{size}-000")
    assert find_faults() == []
    eva.page.keyboard.press("?")
    eva.page.wait_for_selector("#help[open]")
    assert find_faults() == []
    eva.page.keyboard.press("Escape")
    for _ in range(4):
        eva.press(" ")
    eva.until("!document.getElementById('done').hidden")
    assert find_faults() == []
    eva.rest()
    for name, filled in (("disagreements", "numbers"), ("training", "present")):
        eva.page.goto(f"{service.url}/{name}")
        eva.until(f"document.getElementById('{filled}').textContent")
        eva.page.evaluate(axe.read_text(encoding="utf-8"))
        assert find_faults() == []
    eva.close()


@pytest.mark.parametrize("size", SIZES)
def test_a_group_is_judged_once_and_evil_names_are_text(
    browser: "sync_api.Browser", floor: tuple[Running, Store], tmp_path: Path, size: str
) -> None:
    service, store = floor
    bridged = dict.fromkeys(("U1.lower.B2", "U1.lower.B3"), "bridged")
    prefix = f"{EVIL}-{size}"
    add_boards(store, prefix, defects=bridged, product=EVIL, line=EVIL, lot=EVIL, reviews={"U1.upper.A1": EVIL})
    anna = Seat(browser, service, EVIL, size)
    anna.page.screenshot(path=tmp_path / f"queue_{size}.png")
    anna.scan(f"{prefix}-000")
    assert "U1" in anna.joint and "2 joints" in anna.page.locator("#group-line").inner_text()
    anna.page.screenshot(path=tmp_path / f"joint_{size}.png")
    small = anna.page.evaluate(
        "[...document.querySelectorAll('button, select, input:not([type=hidden])')].filter(e => e.offsetParent)"
        ".filter(e => e.offsetHeight < 44 || e.offsetWidth < 44).map(e => e.outerHTML)"
    )
    assert small == []  # fingers
    anna.page.locator("#note").fill(EVIL)
    anna.page.keyboard.press("Escape")
    anna.press("1")
    anna.rest()
    made = list_decisions(store, prefix)
    assert {(d.decided_by, d.note) for d in made} == {(EVIL, EVIL)}
    assert {(d.ball, d.state, d.label) for d in made} == {(b, "DefectConfirmed", "bridged") for b in ("B2", "B3")}
    assert anna.page.locator("#reason").inner_text() == EVIL
    anna.press("b")
    assert EVIL in anna.page.locator("#decisions").inner_text() and EVIL in anna.page.locator("#who").inner_text()
    anna.page.goto(f"{service.url}/disagreements")
    anna.until("document.getElementById('rows').children.length > 0 || document.getElementById('notice').textContent")
    anna.close()


def test_the_page_of_the_machines_shows_states_and_charts(
    browser: "sync_api.Browser", floor: tuple[Running, Store], tmp_path: Path
) -> None:
    service, store = floor
    plain = make_inspection("MACHINE-1", line=f"{EVIL}2")
    pictures = json.dumps({"U1/lower": {"noise": 0.001, "sharpness": 0.2}})
    store.write(replace(plain, board=replace(plain.board, pictures=pictures, unlike=EVIL)))
    eva = Seat(browser, service, "anna")
    eva.page.goto(f"{service.url}/machines")
    eva.page.wait_for_selector("#charts figure")
    assert eva.page.locator("#charts figure").count() == len(FIGURES)
    row = eva.page.locator("#rows tr").first  # the most urgent
    assert f"{EVIL}2" in row.inner_text() and "unfamiliar" in row.inner_text()
    assert eva.page.locator("#charts-title").inner_text() == f"Figures of {EVIL}2/AXI-1"
    eva.page.select_option("#language", "zh")
    eva.until(
        "document.querySelector('h1').textContent === '检测设备' && document.querySelector('#rows').innerText.includes('陌生')"
    )
    eva.close(tmp_path / "machines.png")
