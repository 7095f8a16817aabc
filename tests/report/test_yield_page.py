"""Yield pages and lot pages from a store."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inspect_pop.core.classes import DEFECTS
from inspect_pop.report.write import write_lot_report
from inspect_pop.report.yield_page import draw_control_chart, draw_heat_maps, read_yield_view, render_yield_page
from inspect_pop.store import Store, open_store
from inspect_pop.yields import PositionMap
from tests.factories import make_inspection

EVIL = "$x_{<script>alert(1)</script>板"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Twelve boards of two lots and lines over four days, the second day empty; C4 fails on every third."""
    with open_store(tmp_path_factory.mktemp("store") / "records.db") as opened:
        for k in range(12):
            opened.write(
                make_inspection(
                    f"{EVIL}{k}" if k == 5 else f"PB-{k}",
                    defects={"U1.lower.C4": "starved"} if k % 3 == 0 else {"U1.upper.A1": "open"} if k == 4 else {},
                    lot=EVIL if k % 2 else "L-1",
                    line=f"SMT-{k % 2}",
                    inspected_at=f"2026-03-{(2, 4, 5)[k % 3]:02d}T08:{k:02d}:00+01:00",
                    record=f"r{k}",
                    warpage_um=20.0 + k,
                    cause="insufficient_paste" if k % 3 == 0 else "none",
                    seed=k,
                )
            )
        yield opened


@pytest.fixture(scope="module")
def page(store: Store) -> str:
    return render_yield_page(read_yield_view(store, EVIL), {"r9": "boards/PB-9.html"})


def test_the_view_gathers_what_the_store_says(store: Store) -> None:
    view = read_yield_view(store, "Yield")
    assert (view.total.boards, view.total.passed, view.total.defects) == (12, 7, 5)
    assert [(g.keys["day"], g.boards) for g in view.days] == [
        ("2026-03-02", 4),
        ("2026-03-03", 0),
        ("2026-03-04", 4),
        ("2026-03-05", 4),
    ]
    assert {"line", "lot", "interface"} <= set(view.breakdowns)
    assert "product" not in view.breakdowns  # one product alone tells nothing apart
    assert [b.serial for b in view.failed] == ["PB-4", "PB-9", "PB-6", "PB-3", "PB-0"]  # newest first
    assert (view.failed[0].defects, view.failed[0].verdict, view.failed[0].cause) == (1, "fail", "none")
    (product,) = view.products
    assert product.causes["U1"].name == "insufficient_paste"
    assert "lower C4" in product.causes["U1"].evidence


def test_products_and_packages_keep_their_places_and_limits_apart(tmp_path: Path) -> None:
    with open_store(tmp_path / "records.db") as store:
        for k in range(6):
            kind: dict[str, Any] = (
                {"product": "BIG", "recipe": "big"} if k % 2 else {"product": "SMALL", "recipe": "small", "refdes": ("U1", "U2")}
            )
            side = {"lower": 8, "upper": 3} if k % 2 else {"lower": 4, "upper": 3}
            digest = ("b" if k % 2 else "a") * 64
            record = make_inspection(
                f"PB-{k}", defects={"U1.lower.B2": "open"}, side=side, record=f"r{k}", seed=k, recipe_digest=digest, **kind
            )
            limit_um = 80.0 if k % 2 else 60.0
            packages = tuple(replace(p, warpage_limit_um=limit_um if p.refdes == "U1" else 90.0) for p in record.packages)
            store.write(replace(record, packages=packages))
        view = read_yield_view(store, "Yield")
        one = read_yield_view(store, "Yield", only={"product": "BIG"})
    assert [(p.name, p.boards) for p in view.products] == [("BIG, recipe big", 3), ("SMALL, recipe small", 3)]
    big, small = view.products
    assert (len(big.positions.ball), len(small.positions.ball)) == (73, 50)
    for product in view.products:  # 3 boards, not 6: B2 is another place of each product
        at = (product.positions.refdes == "U1") & (product.positions.interface == "lower") & (product.positions.ball == "B2")
        assert (product.positions.boards[at].item(), product.positions.defects[at].sum()) == (3, 3)
    limits = {m.title: m.series.high for m in (*big.measures, *small.measures) if "warpage" in m.title}
    assert limits == {"warpage": 80.0, "U1: warpage": 60.0, "U2: warpage": 90.0}
    assert {bar.keys["product"] for bar in view.by_ball} == {"BIG", "SMALL"}
    assert [p.name for p in one.products] == ["BIG, recipe big"] and len(one.products[0].measures) == len(big.measures)
    page = render_yield_page(view)
    assert page.count("Positions <span>") == page.count("Measurements <span>") == 2


def test_a_lot_s_page_is_about_that_lot(store: Store, tmp_path: Path) -> None:
    page = write_lot_report(tmp_path / "lot.html", store, "L-1").read_text(encoding="utf-8")
    assert "<h1>Lot L-1</h1>" in page and "6 boards at their first inspection" in page
    assert "By lot" not in page
    none = write_lot_report(tmp_path / "none.html", store, None).read_text(encoding="utf-8")
    assert "No board was inspected in this selection." in none


def test_names_from_outside_cannot_break_page_or_chart(page: str) -> None:
    assert "<script>alert" not in page
    assert page.count("&lt;script&gt;alert") >= 2


def test_the_page_stays_under_three_megabytes_and_asks_for_nothing(page: str) -> None:
    assert len(page.encode()) < 3_000_000
    assert set(re.findall(r'src="(data:image/[a-z+]+)', page)) == {"data:image/svg+xml"}
    assert '<a href="boards/PB-9.html">PB-9</a>' in page


def test_a_chart_is_the_same_each_time(store: Store) -> None:
    days = read_yield_view(store, "Yield").failing
    assert draw_control_chart(days, "share") == draw_control_chart(days, "share")


def test_heat_maps_share_one_scale_and_shade_by_count() -> None:
    positions = PositionMap(
        np.array(["U1"] * 5, object),
        np.array(["lower"] * 4 + ["upper"], object),
        np.array(["A1", "A2", "B1", "B2", "A1"], object),
        np.array([-200.0, 200.0, -200.0, np.nan, 0.0]),
        np.array([200.0, 200.0, -200.0, np.nan, 0.0]),
        np.full(5, 40, np.int64),
        np.zeros((5, len(DEFECTS)), np.int64),
        np.zeros(5, np.int64),
    )
    for row, label, n in ((0, "starved", 8), (1, "open", 1), (3, "starved", 3), (4, "head_in_pillow", 1)):
        positions.defects[row, DEFECTS.index(label)] = n
    lower, upper = draw_heat_maps(positions)
    assert (lower.most, upper.most, lower.half) == (8, 8, upper.half)
    assert re.findall(r'class="heat (h\d)"', lower.marks) == ["h8", "h1", "h0"]  # B2's place is not known
    assert lower.worst == ("A1: 8", "A2: 1")
    assert "A1: 8 starved of 40 boards" in lower.marks
