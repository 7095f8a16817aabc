"""Measure how fast a large store answers yield queries, and how large it is.

    python scripts/bench/store.py [--boards 100000] [--url PATH-OR-URL] [--json FILE]

Boards of two interfaces (820 joints, 0.3 % defects, 1 % inspected again, decisions on a tenth of the failed ones) are
inserted in bulk through the store's tables. Every yield table and chart is then timed five times: first, best and median wall
time, and the least processor time of this process (on SQLite that is all of the work). A few hundred boards are written
the ordinary way, to give time and bytes per board with its joint file.
"""

import argparse
import json
import platform
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy
from sqlalchemy import Connection, insert, text

from inspect_pop.core.columns import CLASSES, COLUMNS, JointTable
from inspect_pop.core.inspection import Inspection
from inspect_pop.store import Store, open_store
from inspect_pop.store.engine import writing
from inspect_pop.store.schema import (
    COUNT_COLUMNS,
    MEASURED_COLUMNS,
    boards,
    contexts,
    decisions,
    defects,
    digests,
    interfaces,
    packages,
    positions,
    recipes,
    sites,
)
from inspect_pop.store.summaries import rebuild_rollups
from inspect_pop.yields import (
    MEASURES,
    ControlChart,
    chart_series,
    compute_yield,
    map_positions,
    p_chart,
    rank_defects,
    read_series,
    u_chart,
)

SIDE = {"lower": (28, 20), "upper": (20, 13)}  # 560 and 260 joints
DAYS, LINES, CHUNK = 60, 2, 5000
START = datetime(2026, 1, 5, 6, tzinfo=UTC)
ROWS = "ABCDEFGHJKLMNPRTUVWY"


def main() -> None:
    options = _arguments()
    with tempfile.TemporaryDirectory() as scratch:
        url = options.url or str(Path(scratch) / "records.db")
        with open_store(url, files=Path(scratch) / "files") as store:
            figures = measure(store, options.boards, Path(scratch) / "files")
    print(render(figures))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--boards", type=int, default=100_000)
    parser.add_argument("--url", help="an empty database; a SQLite file in a temporary folder if not told")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def measure(store: Store, n_boards: int, folder: Path) -> dict[str, Any]:
    with store.reading() as connection:
        if connection.execute(boards.select().limit(1)).first() is not None:
            raise SystemExit(f"{store.where} holds records already: name an empty database")
    started = time.perf_counter()
    fill(store, n_boards)
    made_s = time.perf_counter() - started
    size = _bytes(store)
    return {
        "store": store.where,
        "software": f"Python {platform.python_version()}, SQLAlchemy {sqlalchemy.__version__}, SQLite {sqlite3.sqlite_version}",
        "boards": n_boards,
        "made_s": made_s,
        "database_bytes_a_board": size / n_boards,
        "queries": {name: _time_query(call) for name, call in queries(store).items()},
        **ordinary(store, folder),
    }


def queries(store: Store) -> dict[str, Callable[[], object]]:
    since = (START + timedelta(days=DAYS - 7)).date().isoformat()
    tables: dict[str, Callable[[], object]] = {
        f"table by {by or 'nothing'}": partial(compute_yield, store, tuple(k for k in by.split(",") if k))
        for by in (
            *("", "day", "lot", "line", "station", "product", "recipe", "interface", "package", "construction"),
            *("day,line", "day,interface", "lot,package,interface", "line,station,product,recipe"),
        )
    }
    tables["table by day, last week"] = lambda: compute_yield(store, ("day",), since=since)
    tables["table by interface, from an instant"] = lambda: compute_yield(store, ("interface",), since=f"{since}T12:00:00+00:00")
    daily = {
        "p-chart of the days": lambda: p_chart(compute_yield(store, ("day",))),
        "u-chart of the days": lambda: u_chart(compute_yield(store, ("day",))),
        "pareto by label": lambda: rank_defects(store),
        "pareto by position": lambda: rank_defects(store, by=("refdes", "interface", "ball")),
        "pareto of one lot": lambda: rank_defects(store, only={"lot": "L-1"}),
        "position map of one lot": lambda: map_positions(store, only={"lot": "L-1"}),
        "position map of all": lambda: map_positions(store),
        "one serial's records": lambda: store.board("PB-00000042"),
    }
    spc = {
        f"{kind} chart of {name}": partial(_chart, store, name, kind) for name in MEASURES for kind in ("individuals", "xbar_r")
    }
    return {**tables, **daily, **spc}


def _chart(store: Store, name: str, kind: str) -> ControlChart:
    return chart_series(read_series(store, name, interface="lower" if MEASURES[name].per_interface else None), kind=kind)


def _time_query(call: Callable[[], object]) -> dict[str, float]:
    seconds, busy = [], []
    for _ in range(5):
        started, cpu = time.perf_counter(), time.process_time()
        call()
        seconds.append(time.perf_counter() - started)
        busy.append(time.process_time() - cpu)
    return {"first_s": seconds[0], "best_s": min(seconds), "median_s": statistics.median(seconds), "cpu_s": min(busy)}


def _bytes(store: Store) -> int:
    with store.reading() as connection:
        if connection.dialect.name == "postgresql":
            return int(connection.scalar(text("SELECT pg_database_size(current_database())")) or 0)
        pages, page = (connection.scalar(text(f"PRAGMA {p}")) for p in ("page_count", "page_size"))
        return int(pages or 0) * int(page or 0)


def fill(store: Store, n_boards: int) -> None:
    """Shared rows first, then boards in chunks, each chunk in one transaction."""
    rng = np.random.default_rng(4)
    with writing(store._engine) as connection:
        _insert_dimensions(connection)
    for start in range(0, n_boards, CHUNK):
        with writing(store._engine) as connection:
            for table, rows in _chunk(rng, start, min(CHUNK, n_boards - start), n_boards).items():
                if rows:
                    connection.execute(insert(table), rows)
    with writing(store._engine) as connection:
        rebuild_rollups(connection)
        if connection.dialect.name == "postgresql":  # its sequences do not know the numbers that were inserted
            for name in ("boards", "contexts", "recipes", "digests", "sites"):
                connection.execute(text(f"SELECT setval(pg_get_serial_sequence('{name}', 'id'), (SELECT max(id) FROM {name}))"))
    with store._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("ANALYZE"))


def _insert_dimensions(connection: Connection) -> None:
    days = [(START + timedelta(days=d)).date().isoformat() for d in range(DAYS)]
    rows = [
        {"id": d * LINES + line + 1, "key": f"{d}-{line}", "day": day, "product": "APX-17", "lot": f"L-{d * LINES + line + 1}"}
        | {
            "work_order": None,
            "line": f"SMT-{line + 1}",
            "station": f"AXI-{line + 1}",
            "recipe": "apx17-pop",
            "recipe_revision": 4,
        }
        for d, day in enumerate(days)
        for line in range(LINES)
    ]
    connection.execute(insert(contexts), rows)
    connection.execute(insert(recipes), {"id": 1, "digest": "0" * 64})
    made = {"id": 1, "key": "k", "recipe_id": 1, "model_digest": "1" * 64, "limits_digest": "2" * 64, "software": "0.1.0"}
    connection.execute(insert(digests), made)
    site = {"id": 1, "key": "U1", "refdes": "U1", "part": "POP12-TMV", "construction": "tmv", "warpage_limit_um": 80.0}
    connection.execute(insert(sites), site)
    places = [{"recipe_id": 1, "refdes": "U1", "interface": i, "ball": b, "x_um": x, "y_um": y} for i, b, x, y in _balls()]
    connection.execute(insert(positions), places)


def _balls() -> Iterator[tuple[str, str, float, float]]:
    for interface, (rows, cols) in SIDE.items():
        for r in range(rows):
            name = ROWS[r] if r < len(ROWS) else "A" + ROWS[r - len(ROWS)]
            for c in range(cols):
                yield interface, f"{name}{c + 1}", 400.0 * c, -400.0 * r


_BALLS = list(_balls())


def _chunk(rng: np.random.Generator, start: int, n: int, total: int) -> dict[Any, list[dict[str, Any]]]:
    """Rows of `n` boards; three boards in ten carry all defects, 8.2 joints each: 0.3 % of all joints."""
    found: dict[Any, list[dict[str, Any]]] = {boards: [], packages: [], interfaces: [], defects: [], decisions: []}
    sick = rng.random(n) < 0.3
    count = np.where(sick, rng.poisson(8.2, n), 0)
    values = rng.normal(size=(n, 12))
    for k in range(n):
        number = start + k + 1
        chosen = rng.choice(len(_BALLS), count[k], replace=False)
        labels = rng.integers(1, len(CLASSES), count[k])
        _one(found, number, start + k, total, chosen, labels, values[k])
    return found


def _one(found: dict[Any, list[dict[str, Any]]], number: int, at: int, total: int, chosen: Any, labels: Any, v: Any) -> None:
    moment = START + timedelta(days=DAYS) * (at / total)
    day, failed = (moment - START).days, len(chosen) > 0
    counts = [int((labels == c).sum()) for c in range(len(CLASSES))]
    counts[0] = len(_BALLS) - len(chosen)
    verdict = "fail" if failed else "pass"
    settled = {"final": verdict, "n_confirmed": 0, "n_false_calls": 0, "n_cleared": 0, "n_escapes": 0}
    made = moment.isoformat()
    found[boards].append(
        {
            "id": number,
            "record": f"{number:032x}",
            "serial": f"PB-{number:08d}",
            "panel": f"P-{number // 4}",
            "position": number % 4,
        }
        | {
            "operator": None,
            "context_id": day * LINES + number % LINES + 1,
            "digests_id": 1,
            "has_record_file": 0,
            "file_id": None,
            "run_id": None,
        }
        | {"export_digest": f"{number:064x}", "inspected_at": made, "inspected_us": round(moment.timestamp() * 1e6)}
        | {"started_at": made, "finished_at": made, "verdict": verdict, "n_joints": len(_BALLS), "n_packages": 1}
        | dict(zip(COUNT_COLUMNS, [*counts, 0, 0], strict=True))
        | {"fpy": float(not failed), "dpmo": 1e6 * len(chosen) / 824, "cause": "none", "cause_evidence": "", "missing": "[]"}
        | {"disposition": "rework_stack" if failed else "ship", "extra": "{}"}
        | {"inspection_no": 1, "first_id": number, "n_inspections": 1, **settled}
    )
    place = {"offset_x_um": 20 * v[0], "offset_y_um": 20 * v[1], "rotation_deg": 0.2 * v[2], "warpage_um": 40 + 8 * v[3]}
    found[packages].append(
        {"board_id": number, "site_id": 1, "package_index": 0, **place, "stack_height_um": 1350 + 4 * v[4], "cause": "none"}
        | {"cause_evidence": "", "extra": "{}"}
    )
    for which, interface in enumerate(SIDE):
        mine = np.array([_BALLS[b][0] == interface for b in chosen], bool)
        counts_per_class = [int((labels[mine] == c).sum()) for c in range(len(CLASSES))]
        counts_per_class[0] = SIDE[interface][0] * SIDE[interface][1] - int(mine.sum())
        found[interfaces].append(
            {"board_id": number, "interface": interface, "site_id": 1, "passed": int(not mine.any())}
            | dict(zip(COUNT_COLUMNS, [*counts_per_class, 0, 0], strict=True))
            | {"diameter_um": 270 + v[5 + which], "volume_ratio": 1 + 0.01 * v[7], "volume_ratio_min": 0.9, "void_fraction": 0.04}
            | {"void_fraction_max": 0.1 + 0.01 * v[8], "standoff_um": 170 + v[9], "clearance_um_min": 100 + 3 * v[10]}
            | settled
            | {"final": "fail" if mine.any() else "pass"}
        )
    for b, label in zip(chosen, labels, strict=True):
        joint = dict(zip(("interface", "ball"), _BALLS[b][:2], strict=True)) | {"board_id": number, "refdes": "U1"}
        measured = dict.fromkeys(MEASURED_COLUMNS, float(np.float32(v[11]))) | {"flags": 0}
        found[defects].append(joint | {"label": CLASSES[label], "verdict": "fail", "reason": ""} | measured)
        if number % 10 == 0:
            decision = {"key": f"{number}-{b}", "state": "DefectRejected", "label": "good", "decided_by": "bench", "note": ""}
            found[decisions].append(joint | decision | {"decided_at": made, "decided_us": round(moment.timestamp() * 1e6)})


def ordinary(store: Store, folder: Path, n: int = 200) -> dict[str, float]:
    """Write boards the way that the line does, each with its file, then merge the files."""
    inspections = [_inspection(store, k) for k in range(n)]
    started = time.perf_counter()
    for inspection in inspections:
        store.write(inspection)
    write_s = time.perf_counter() - started
    loose = _folder_bytes(folder)
    started = time.perf_counter()
    store.compact()
    compact_s = time.perf_counter() - started
    return {
        "write_ms_a_board": 1000 * write_s / n,
        "joint_file_bytes_a_board": loose / n,
        "merged_file_bytes_a_board": _folder_bytes(folder) / n,
        "compact_ms_a_board": 1000 * compact_s / n,
    }


def _inspection(store: Store, number: int) -> Inspection:
    """A whole board of 820 joints; its first record is read from the store so that its context is a known one."""
    first = store.board("PB-00000001")[0]
    rng = np.random.default_rng(number)
    n = len(_BALLS)
    columns: dict[str, Any] = {c.name: rng.normal(100, 5, n) for c in COLUMNS if c.kind == "float32"}
    columns |= {
        "interface": [b[0] for b in _BALLS],
        "ball": [b[1] for b in _BALLS],
        "label": ["good"] * n,
        "verdict": ["pass"] * n,
    }
    columns |= {
        c: [v] * n
        for c, v in (("serial", f"W-{number}"), ("refdes", "U1"), ("reason", ""), ("model", "m" * 64), ("recipe", "r" * 64))
    }
    board = replace(first.board, record=f"w{number:031d}", serial=f"W-{number}", verdict="pass", recipe_digest="0" * 64)
    return Inspection(
        board, (replace(first.packages[0], serial=board.serial),), JointTable(columns | {"flags": np.zeros(n, np.int64)})
    )


def _folder_bytes(folder: Path) -> int:
    return sum(p.stat().st_size for p in folder.rglob("*.parquet"))


def render(figures: dict[str, Any]) -> str:
    lines = [f"{figures['boards']:,} boards in {figures['store']}", figures["software"], ""]
    lines += [f"{name.replace('_', ' '):42s} {figures[name]:12,.1f}" for name in figures if name.endswith(("_board", "_s"))]
    lines += ["", f"{'query':42s} {'first s':>8s} {'best s':>8s} {'median s':>8s} {'cpu s':>8s}"]
    lines += [
        f"{q:42s} {t['first_s']:8.3f} {t['best_s']:8.3f} {t['median_s']:8.3f} {t['cpu_s']:8.3f}"
        for q, t in figures["queries"].items()
    ]
    slowest = max(figures["queries"].items(), key=lambda item: item[1]["median_s"])
    return "\n".join([*lines, "", f"slowest: {slowest[0]}, {slowest[1]['median_s']:.3f} s"])


if __name__ == "__main__":
    main()
