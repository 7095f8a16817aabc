import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from inspect_pop.classify.model import OperatingPoint
from inspect_pop.core.columns import CLASSES
from inspect_pop.evaluate.evaluation import HEAD, Outcomes, judge, row, table
from tests.learn.sets import make_samples


def make_outcomes(boards: int = 8, joints: int = 100, seed: int = 0) -> Outcomes:
    """Mostly right; one in ten defective; some undecided, some in review."""
    rng = np.random.default_rng(seed)
    n = boards * joints
    truth = np.where(rng.random(n) < 0.1, rng.integers(1, len(CLASSES), n), 0)
    label = np.where(rng.random(n) < 0.05, rng.integers(0, len(CLASSES), n), truth)
    label[rng.random(n) < 0.02] = -1
    verdict = np.where(label == 0, "pass", "fail").astype(object)
    verdict[(label < 0) | (rng.random(n) < 0.03)] = "review"
    p = np.full((n, len(CLASSES)), 0.02, np.float32)
    p[np.arange(n), np.maximum(label, 0)] = 0.92
    p[label < 0] = np.nan
    serial = np.repeat([f"B{k}" for k in range(boards)], joints).astype(object)
    return Outcomes(
        truth=truth.astype(np.int8),
        label=label.astype(np.int8),
        verdict=verdict,
        probabilities=p,
        serial=serial,
        machine=np.where(serial < "B4", "A/AXI-1", "B/AXI-2").astype(object),
        refdes=np.full(n, "U1", object),
        interface=np.where(np.arange(n) % 2, "lower", "upper").astype(object),
        ball=np.array([f"A{k % joints + 1}" for k in range(n)], object),
        reason=np.full(n, "", object),
    )


def hand_made() -> Outcomes:
    """Two boards: an escape, a false call, a defect in review, an undecided good joint, and six that are right."""
    truth = [0, 0, 0, 1, 2, 0, 0, 4, 3, 0]
    label = [0, 0, 3, 0, 2, 0, -1, 4, 2, 0]
    verdict = ["pass", "pass", "fail", "pass", "fail", "pass", "review", "review", "fail", "pass"]
    p = np.full((10, len(CLASSES)), 0.05, np.float32)
    p[np.arange(10), label] = 0.8
    p[6] = np.nan
    text = {name: np.full(10, "x", object) for name in ("machine", "refdes", "interface", "ball", "reason")}
    serial = np.array(["B1"] * 5 + ["B2"] * 5, object)
    return Outcomes(np.int8(truth), np.int8(label), np.array(verdict, object), p, serial, **text)


def test_figures_of_a_set_that_can_be_counted_by_hand() -> None:
    figures = judge(hand_made())
    assert (figures["joints"], figures["boards"], figures["defects"], figures["undecided"]) == (10, 2, 4, 1)
    assert (figures["escapes"], figures["escape_rate"]) == (1, 0.25)
    assert (figures["false_calls"], figures["false_call_ppm"]) == (1, pytest.approx(1e6 / 6))
    assert figures["review_share"] == pytest.approx(0.2)
    assert figures["confusion"]["good"] == dict.fromkeys(CLASSES, 0) | {"good": 4, "starved": 1, "none": 1}
    assert figures["recall"]["starved"]["rate"] == 0
    assert figures["recall"]["head_in_pillow"]["rate"] == 1  # the label is right, although a person is asked
    assert figures["exact_label_of_defects"]["rate"] == 0.5
    assert figures["escapes_of"]["bridged"]["count"] == 1
    assert "good" not in figures["escapes_of"]
    assert figures["false_calls_as"]["starved"]["count"] == 1
    assert figures["by"]["serial"]["B1"]["escapes"] == 1
    assert figures["by"]["serial"]["B2"]["escape_rate"] == 0
    assert figures["by"]["serial"]["B1"]["escape"]["board_high"] is None
    assert figures["calibration"]["joints"] == 9
    json.dumps(figures)


def test_escapes_and_false_calls_are_named() -> None:
    assert np.flatnonzero(hand_made().escaped).tolist() == [3]
    assert np.flatnonzero(hand_made().false_call).tolist() == [2]


def test_groups_add_up() -> None:
    figures = judge(make_outcomes())
    for groups in figures["by"].values():
        for name in ("joints", "defects", "escapes", "false_calls"):
            assert sum(g[name] for g in groups.values()) == figures[name]


def test_only_good_joints_have_no_escape_rate() -> None:
    outcomes = make_outcomes()
    figures = judge(outcomes.take(outcomes.truth == 0))
    assert figures["escape_rate"] is None
    assert figures["escape_upper95"] == 1.0


def test_scores_alone_make_outcomes() -> None:
    samples = make_samples(2, 5)
    p = np.full((10, len(CLASSES)), 0.1, np.float32)
    p[:, 3] = 0.6
    odds = np.array([-9, -1, 0, 1, 9] * 2, np.float32)
    outcomes = Outcomes.of_scores(samples, p, odds, OperatingPoint(pass_below=-2, fail_above=2, source=""))
    assert outcomes.verdict.tolist() == ["pass", "review", "review", "review", "fail"] * 2
    assert outcomes.label.tolist() == [0, 3, 3, 3, 3] * 2
    assert outcomes.serial.tolist() == ["B0"] * 5 + ["B1"] * 5
    assert judge(outcomes)["review_share"] == 0.6


def test_parts_joined_are_the_whole() -> None:
    outcomes = make_outcomes()
    halves = [outcomes.take(outcomes.machine == m) for m in ("A/AXI-1", "B/AXI-2")]
    assert judge(Outcomes.concat(halves)) == judge(outcomes)


def test_unequal_lengths_are_refused() -> None:
    outcomes = hand_made()
    with pytest.raises(ValueError, match="unequal length"):
        Outcomes(**{**outcomes.__dict__, "truth": np.zeros(3, np.int8)})


def test_an_outside_scoring_counts_the_same(shared: Path, tmp_path: Path) -> None:
    """`score.py` counts from the files; undecided joints have a null label there, and one has no row at all."""
    outcomes = make_outcomes()
    rows = np.arange(len(outcomes)) != 17
    outcomes.label[17], outcomes.verdict[17] = -1, "review"
    names = np.array([*CLASSES, None], object)
    keys = {name: getattr(outcomes, name) for name in ("serial", "refdes", "interface", "ball")}
    joints = {**keys, "label": names[outcomes.label], "verdict": outcomes.verdict}
    pq.write_table(pa.table({k: list(v[rows]) for k, v in joints.items()}), tmp_path / "joints.parquet")
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow([*keys, "label"])
        table.writerows(zip(*keys.values(), names[outcomes.truth], strict=True))
    command = [sys.executable, str(shared / "score.py"), str(tmp_path), str(tmp_path / "labels.csv")]
    theirs = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    ours = judge(outcomes)
    for name in ("joints", "boards", "defects", "undecided", "escapes", "false_calls", "confusion"):
        assert ours[name] == theirs[name], name
    for name in ("escape_rate", "escape_upper95", "false_call_ppm", "review_share"):
        assert ours[name] == pytest.approx(theirs[name], abs=0.06 if name.endswith("ppm") else 1e-5), name
    assert {c: r["rate"] for c, r in ours["recall"].items()} == pytest.approx(theirs["recall_by_label"], abs=1e-4)
    assert {c: r["count"] for c, r in ours["escapes_of"].items()} == theirs["escapes_by_class"]
    assert ours["label_miss"]["rate"] == pytest.approx(theirs["label_miss_rate"], abs=1e-5)
    assert 1e6 * ours["label_false"]["rate"] == pytest.approx(theirs["label_false_ppm"], abs=0.06)


def test_a_row_holds_each_rate_with_its_exact_interval() -> None:
    figures = judge(make_outcomes())
    escape = figures["escape"]
    cells = [cell.strip() for cell in row("line X", figures).strip("|").split("|")]
    assert cells[:4] == ["line X", "8", "800", str(figures["defects"])]
    assert cells[4] == f"{100 * escape['rate']:.2f} % ({100 * escape['low']:.2f} to {100 * escape['high']:.2f})"
    assert cells[6].startswith(f"{figures['false_call_ppm']:.0f} (")
    assert cells[9] == f"{figures['calibration']['expected_error']:.4f}"


def test_what_a_group_does_not_know_is_a_dash() -> None:
    group = judge(make_outcomes())["by"]["machine"]["A/AXI-1"]
    cells = [cell.strip() for cell in row("A/AXI-1", group).strip("|").split("|")]
    assert cells[5] == cells[8] == cells[9] == "-" and cells[4] != "-"


def test_rates_of_nothing_are_a_dash() -> None:
    outcomes = make_outcomes()
    cells = [cell.strip() for cell in row("good ones", judge(outcomes.take(outcomes.truth == 0))).strip("|").split("|")]
    assert cells[4] == cells[5] == cells[8] == "-"


def test_a_table_has_as_many_columns_in_every_line() -> None:
    lines = table({"one": judge(make_outcomes())})
    assert lines[0] == HEAD
    assert len({line.count("|") for line in lines}) == 1
