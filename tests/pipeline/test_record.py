"""Records: identity, counts, opportunities, and the crops that go with suspect joints."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from inspect_pop.classify.model import OperatingPoint
from inspect_pop.core.classes import CLASSES
from inspect_pop.core.columns import JointTable
from inspect_pop.core.recipe import Interface, Package, Recipe, describe_disposition
from inspect_pop.diagnose import Cause
from inspect_pop.ingest import open_export
from inspect_pop.pipeline.record import (
    MOST_SUSPECTS,
    build_board_record,
    build_package_record,
    collect_crops,
    compute_record_id,
    find_passing_neighbour,
    scale_grey,
)
from inspect_pop.segment.windows import SIZE, Windows
from tests.drawn import drawn_interface

START = "2026-11-29T08:00:00+00:00"
POINT = OperatingPoint(pass_below=-1.0, fail_above=1.0, source="a test")
LOWER, UPPER = drawn_interface(4), drawn_interface(3, 500.0, "upper")


def windows_of(interface: Interface, slices: int) -> Windows:
    """Windows whose grey is the joint's number over 100 in the first slice, and brighter by 0.001 from slice to slice."""
    n = len(interface.ball)
    values = np.arange(n)[:, None, None, None] / 100 + np.arange(slices)[None, :, None, None] / 1000
    some = np.zeros(n, np.float32), np.zeros(n, bool)
    level = np.zeros(slices, np.float32)
    grey = np.broadcast_to(values, (n, slices, SIZE, SIZE)).astype(np.float32)
    return Windows(grey, np.arange(slices, dtype=float), 10.0, *some, level, level)


def joints_of(verdicts: list[str], refdes: str = "U1") -> JointTable:
    n = len(LOWER.ball)
    labels = [{"pass": "good", "fail": "open", "review": None}[v] for v in verdicts]
    interface = ["lower"] * n + ["upper"] * (len(verdicts) - n)
    return JointTable({"refdes": [refdes] * len(verdicts), "interface": interface, "label": labels, "verdict": verdicts})


def test_a_record_is_identified_by_all_that_it_follows_from(small_board: Path) -> None:
    export = open_export(small_board)
    same = compute_record_id(export, "model", "limits", POINT)
    assert compute_record_id(open_export(small_board), "model", "limits", POINT) == same
    others = [
        compute_record_id(export, "other", "limits", POINT),
        compute_record_id(export, "model", "other", POINT),
        compute_record_id(export, "model", "limits", OperatingPoint(pass_below=-1.0, fail_above=1.1, source="a test")),
    ]
    assert len({same, *others}) == 4


def test_a_board_is_counted(small_board: Path) -> None:
    export = open_export(small_board)
    (package,) = export.recipe.packages
    names = [i.name for i in package.interfaces for _ in i.ball]
    verdicts = ["fail", "review", "review"] + ["pass"] * (len(names) - 3)
    labels = ["bridged", "good", None] + ["good"] * (len(names) - 3)
    joints = JointTable({"refdes": [package.refdes] * len(names), "interface": names, "label": labels, "verdict": verdicts})
    part = build_package_record(export.serial, package, {}, None, joints, Cause("none", "one defect"))
    assert part.counts["lower"] == dict.fromkeys(CLASSES, 0) | {"good": 58, "bridged": 1, "none": 1, "review": 2, "rejected": 0}
    assert np.isnan([part.offset_x_um, part.warpage_um]).all()
    record = build_board_record(
        export,
        joints,
        [part],
        verdict="fail",
        causes=[Cause("warpage", "strong", (), 5.0), Cause("none", "weak")],
        missing=["U1/pre_stack height map"],
        model_digest="m",
        limits_digest="l",
        operating_point=POINT,
        profile="ipc-a-610",
        stray_solder=["U1/upper: 130 um at (10, 20) um"],
        started_at=START,
        finished_at=START,
    )
    assert (record.n_bridged, record.n_undecided, record.n_review, record.fpy) == (1, 1, 2, 0.0)
    assert record.dpmo == pytest.approx(1e6 / (len(names) + 4))
    assert (record.cause, record.disposition) == ("warpage", "rework_stack")
    assert record.operating_point == "pass below -1.00, fail from 1.00 (log-odds of a defect): a test"


@pytest.mark.parametrize(("interface", "disposition"), [("lower", "rework_stack"), ("upper", "rework_memory")])
def test_a_good_joint_that_fails_by_a_criterion_is_a_defect(small_board: Path, interface: str, disposition: str) -> None:
    """It keeps its label, and counts in DPMO and for the disposition."""
    export = open_export(small_board)
    (package,) = export.recipe.packages
    names = [i.name for i in package.interfaces for _ in i.ball]
    verdicts = ["pass"] * len(names)
    verdicts[names.index(interface)] = "fail"
    columns = {"refdes": [package.refdes] * len(names), "interface": names, "label": ["good"] * len(names), "verdict": verdicts}
    joints = JointTable(columns)
    part = build_package_record(export.serial, package, {}, None, joints, Cause("none", "no defect"))
    assert part.counts[interface]["rejected"] == 1
    record = build_board_record(
        export,
        joints,
        [part],
        verdict="fail",
        causes=[Cause("none", "weak")],
        missing=[],
        model_digest="m",
        limits_digest="l",
        operating_point=POINT,
        profile="ipc-a-610",
        stray_solder=[],
        started_at=START,
        finished_at=START,
    )
    assert (record.n_good, record.n_rejected, record.disposition) == (len(names), 1, disposition)
    assert record.dpmo == pytest.approx(1e6 / (len(names) + 4))


def grid(name: str, columns: int, rows: int, pitch_um: float = 400.0) -> Interface:
    """A full array, wider than high or not."""
    x, y = np.meshgrid((np.arange(columns) - (columns - 1) / 2) * pitch_um, ((rows - 1) / 2 - np.arange(rows)) * pitch_um)
    ball = tuple(f"{'ABCDEFGHJK'[r]}{c + 1}" for r in range(rows) for c in range(columns))
    return Interface(name, ball, x.ravel(), y.ravel(), pitch_um, 250.0, 230.0, "nsmd", (0.0, 170.0), "SAC305")


LOWER_60, UPPER_20 = grid("lower", 10, 6), grid("upper", 5, 4, 500.0)
TURNED_60 = replace(LOWER_60, x_um=-LOWER_60.y_um, y_um=LOWER_60.x_um)  # by 90 degrees, anticlockwise


def package(refdes: str, construction: str, *interfaces: Interface, body_um=(4400.0, 2800.0), a1_corner="upper_left") -> Package:
    return Package(refdes, "P", construction, body_um, 1350.0, 60.0, interfaces, a1_corner)


@pytest.mark.parametrize(
    ("packages", "failed", "dpmo", "disposition", "words"),
    [
        # one defect in 60 joints, a placement and a component: 1e6 / 62
        ((package("U1", "bga", LOWER_60),), ["U1 lower"], 16129.03, "rework_stack", "remove the package"),
        # one in 2 x (60 + 20 + 4) = 168, in the memory's joints of U2
        (
            (package("U1", "standard", LOWER_60, UPPER_20), package("U2", "psfccsp", LOWER_60, UPPER_20)),
            ["U2 upper"],
            5952.38,
            "rework_memory",
            "take the memory package off",
        ),
        # two in 84 + 62 = 146, in both
        (
            (package("U1", "tmv", LOWER_60, UPPER_20), package("U2", "bga", LOWER_60)),
            ["U1 upper", "U2 lower"],
            13698.63,
            "rework_stack",
            "remove the package",
        ),
        # a rectangular package, and one turned by 90 degrees: one in 84
        ((package("U1", "tmv", LOWER_60, UPPER_20),), ["U1 lower"], 11904.76, "rework_stack", "take the whole stack off"),
        (
            (package("U1", "tmv", TURNED_60, UPPER_20, body_um=(2800.0, 4400.0), a1_corner="lower_left"),),
            ["U1 upper"],
            11904.76,
            "rework_memory",
            "take the memory package off",
        ),
    ],
)
def test_counts_dpmo_and_words_of_every_construction(
    small_board: Path, packages: tuple[Package, ...], failed: list[str], dpmo: float, disposition: str, words: str
) -> None:
    sites = [f"{p.refdes} {i.name}" for p in packages for i in p.interfaces for _ in i.ball]
    bad = [sites.index(site) for site in failed]
    values = {"refdes": [s.split()[0] for s in sites], "interface": [s.split()[1] for s in sites]}
    values["label"] = ["open" if k in bad else "good" for k in range(len(sites))]
    values["verdict"] = ["fail" if k in bad else "pass" for k in range(len(sites))]
    export = replace(open_export(small_board), recipe=Recipe("r", 1, "P", packages, "d"))
    joints, cause = JointTable(values), Cause("none", "")
    parts = [build_package_record("S", p, {}, None, joints, cause) for p in packages]
    record = build_board_record(
        export,
        joints,
        parts,
        verdict="fail",
        causes=[cause],
        missing=[],
        model_digest="m",
        limits_digest="l",
        operating_point=POINT,
        profile="ipc-a-610",
        stray_solder=[],
        started_at=START,
        finished_at=START,
    )
    assert (record.n_joints, record.n_good, record.n_open) == (len(sites), len(sites) - len(bad), len(bad))
    assert record.dpmo == pytest.approx(dpmo, abs=0.01)
    assert record.disposition == disposition
    faulty = [p.construction for p in packages if any(p.refdes in site for site in failed)]
    assert describe_disposition(record.disposition, faulty).endswith(words)
    assert [p.counts["lower"]["good"] + p.counts["lower"]["open"] for p in parts] == [60] * len(packages)


def test_a_neighbour_passed_and_is_near() -> None:
    verdicts = np.full(16, "fail", dtype=object)
    assert find_passing_neighbour(LOWER, verdicts, 0) is None
    verdicts[[3, 6, 15]] = "pass"
    assert find_passing_neighbour(LOWER, verdicts, 5) == 6
    assert find_passing_neighbour(LOWER, verdicts, 15) == 6  # not the joint itself


def test_suspect_joints_are_pictured_with_their_neighbours() -> None:
    verdicts = ["pass"] * 25
    verdicts[5], verdicts[2], verdicts[20] = "review", "fail", "fail"
    crops = collect_crops(joints_of(verdicts), [(LOWER, windows_of(LOWER, 5)), (UPPER, windows_of(UPPER, 3))])
    assert crops is not None
    assert crops.row[:3].tolist() == [2, 20, 5]  # fails first
    assert crops.pixels.shape == (len(crops.row), 5, SIZE, SIZE)
    for row, reference in zip(crops.row[:3], crops.reference[:3], strict=True):
        assert verdicts[reference] == "pass" and (reference < 16) == (row < 16)
        assert reference in crops.row
    assert (crops.reference[3:] == -1).all()
    values = windows_of(UPPER, 3).values[4]
    np.testing.assert_array_equal(crops.pixels[1], scale_grey(values[[0, 1, 2, 2, 2]]))  # the last slice stands for the rest


def test_without_slices_or_suspects_there_are_no_crops() -> None:
    good = joints_of(["pass"] * 25)
    assert collect_crops(good, [(LOWER, windows_of(LOWER, 3)), (UPPER, None)]) is None
    assert collect_crops(joints_of(["review"] * 25), [(LOWER, None), (UPPER, None)]) is None


def test_no_more_suspects_than_a_person_looks_at() -> None:
    wide = drawn_interface(10, 400.0)
    twice = JointTable(
        {
            "refdes": ["U1"] * 200,
            "interface": ["lower"] * 100 + ["upper"] * 100,
            "label": [None] * 200,
            "verdict": ["review"] * 200,
        }
    )
    crops = collect_crops(twice, [(wide, windows_of(wide, 3)), (wide, windows_of(wide, 3))])
    assert crops is not None and len(crops.row) == MOST_SUSPECTS


def test_grey_fills_a_byte() -> None:
    assert scale_grey(np.array([-1.0, -0.15, 1.35, 2.0], np.float32)).tolist() == [0, 0, 255, 255]
