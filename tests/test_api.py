"""The public API, its documentation page and the notebook."""

import io
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import inspect_pop as pop
from inspect_pop import api

ROOT = Path(__file__).resolve().parents[1]
BOARD = ROOT / "datasets/sample/boards/PB2411-010204"
WRITTEN = ("simulated", "records.db", "joint.png")


@pytest.fixture(scope="module")
def result() -> pop.InspectionResult:
    return pop.Inspector().inspect(BOARD)


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder that looks like the checkout's, so that examples write nothing into it."""
    (tmp_path / "datasets").symlink_to(ROOT / "datasets")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_package_offers_the_api_and_nothing_else() -> None:
    assert set(pop.__all__) == {*api.__all__, "__version__"}
    assert set(pop.__all__) <= set(dir(pop))
    for name in api.__all__:
        assert getattr(pop, name) is getattr(api, name)
    with pytest.raises(AttributeError, match="no attribute 'inspector'"):
        pop.inspector  # type: ignore[attr-defined]  # noqa: B018


def test_the_stub_names_what_the_package_offers() -> None:
    stub = (ROOT / "inspect_pop/__init__.pyi").read_text()
    assert set(re.findall(r"(\w+) as \w+", stub)) == set(api.__all__)


def test_importing_the_package_loads_nothing() -> None:
    code = "import sys; before = set(sys.modules); import inspect_pop; print(*(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert {name.partition(".")[0] for name in done.stdout.split()} - set(sys.stdlib_module_names) == {"inspect_pop"}


def test_the_api_never_loads_torch() -> None:
    code = "import sys, inspect_pop; inspect_pop.Inspector; inspect_pop.segment_picture; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split() == ["False"]


def test_a_result_is_its_record(result: pop.InspectionResult) -> None:
    assert (result.serial, result.verdict) == ("PB2411-010204", result.record.verdict)
    assert len(result) == len(result.joints) == result.record.n_joints
    assert [joint.verdict for joint in result.suspects] == [v for v in result.joints["verdict"] if v != "pass"]
    assert "PB2411-010204: fail; 88 joints" in repr(result)


def test_a_result_shows_a_map_of_every_interface(result: pop.InspectionResult) -> None:
    html = result._repr_html_()
    assert html.count("<svg") == html.count("</svg>") == 2
    assert html.count("<title>") == len(result)
    assert "A2: pass, good" in html


def test_joints_as_a_data_frame(result: pop.InspectionResult) -> None:
    pytest.importorskip("pandas")
    frame = result.to_pandas()
    assert list(frame.columns) == list(result.joints.names)
    assert len(frame.query("verdict != 'pass'")) == len(result.suspects)


def test_without_pandas_the_error_says_what_to_install(result: pop.InspectionResult, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(pop.PopError, match="pip install pandas"):
        result.to_pandas()


def test_a_joint_is_shown_above_its_passing_neighbour(result: pop.InspectionResult) -> None:
    joint = result.suspects[0]
    neighbour = joint.neighbour
    assert neighbour is not None and joint.slices is not None
    assert neighbour.verdict == "pass"
    assert joint.name.rpartition(".")[0] == neighbour.name.rpartition(".")[0]
    decoded = cv2.imdecode(np.frombuffer(joint._repr_png_() or b"", np.uint8), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(decoded, joint.show().pixels)
    assert decoded.shape[1] >= 3 * joint.slices.shape[0] * joint.slices.shape[1]


def test_every_joint_can_be_named(result: pop.InspectionResult) -> None:
    for row in (0, 59, 60, len(result) - 1):
        values = result.joints[row]
        joint = result.joint(f"{values['refdes']}.{values['interface']}.{values['ball']}")
        assert (joint.row, joint.to_dict()["ball"]) == (row, values["ball"])
    with pytest.raises(pop.PopError, match=r"joint U1\.lower\.Z9: expected a joint of board PB2411-010204"):
        result.joint("U1.lower.Z9")


def test_a_joint_without_slices_has_no_picture(small_board: Path) -> None:
    manifest = json.loads((small_board / "export.json").read_text())
    manifest["images"] = [image for image in manifest["images"] if image.get("interface") != "upper"]
    (small_board / "export.json").write_text(json.dumps(manifest))
    joint = pop.Inspector().inspect(small_board).suspects[-1]
    assert (joint.slices, joint._repr_png_(), joint.label) == (None, None, None)
    assert "no_slices" in joint.flags
    with pytest.raises(pop.PopError, match="expected X-ray slices"):
        joint.show()


def test_balls_of_a_file_and_of_an_array(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(195, 205, (300, 300)).astype(np.uint8)  # an even background is no data
    for x in range(50, 300, 66):
        cv2.circle(picture, (x, 150), 18, 80, cv2.FILLED)
    cv2.imwrite(str(tmp_path / "balls.png"), picture)
    found = pop.segment_picture(tmp_path / "balls.png", 36)
    assert len(found) == len(pop.segment_picture(picture, 36)) == 4
    assert found.show().pixels.shape == (300, 300, 3)
    marked = cv2.cvtColor(picture, cv2.COLOR_GRAY2BGR)
    cv2.putText(marked, "12.3 um", (20, 40), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 255))
    cv2.imwrite(str(tmp_path / "marked.png"), marked)
    found = pop.segment_picture(tmp_path / "marked.png", 36)  # text in colours is no solder
    assert len(found) == 4 and found.show().pixels.shape == (300, 300, 3)
    assert set(found.to_dict()) > {"row", "col", "diameter_px"}
    for wrong, message in (
        (tmp_path / "none.png", "a readable file"),
        (Path(__file__), "a picture: TIFF"),
        (np.zeros((2, 2, 3)), "one grey value per pixel"),
    ):
        with pytest.raises(pop.PopError, match=message):
            pop.segment_picture(wrong, 36)
    with pytest.raises(pop.PopError, match="polarity"):
        pop.segment_picture(picture, 36, "dark")


def test_yield_of_a_store_and_of_its_path(result: pop.InspectionResult, tmp_path: Path) -> None:
    with pop.open_store(tmp_path / "records.db") as store:
        store.write(result.inspection)
        groups = pop.compute_yield(store, by=["lot", "line"])
    assert groups == pop.compute_yield(tmp_path / "records.db", by=["lot", "line"])
    assert [(g["boards"], g["passed"]) for g in groups] == [(1, 0)]
    with pytest.raises(pop.PopError):
        pop.compute_yield(tmp_path / "none.db")


def test_limits_may_come_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "limits.toml").write_text("void_fraction = 0.1\n[profile.strict]\nvoid_fraction = 0.05\n")
    assert pop.Inspector(limits=tmp_path / "limits.toml", profile="strict").limits.void_fraction == 0.05
    with pytest.raises(pop.PopError, match="profile strict"):
        pop.Inspector(profile="strict")


def examples(page: str) -> Iterator[tuple[str, str | None]]:
    """Each Python block of a page, with the text block that shows its output."""
    for code, output in re.findall(r"```python\n(.*?)```\n(?:\n```text\n(.*?)```\n)?", page, re.DOTALL):
        yield code, output or None


def test_the_documentation_page_runs_as_printed(checkout: Path) -> None:
    pytest.importorskip("pandas")
    names: dict[str, Any] = {}
    for code, output in examples((ROOT / "docs/python-api.md").read_text()):
        printed = io.StringIO()
        with redirect_stdout(printed):
            exec(compile(code, "docs/python-api.md", "exec"), names)
        assert printed.getvalue() == (output or ""), code
    assert all((checkout / name).exists() for name in WRITTEN)


def test_the_notebook_runs(checkout: Path) -> None:
    pytest.importorskip("pandas")
    notebook = json.loads((ROOT / "docs/tour.ipynb").read_text())
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    ids = [cell["id"] for cell in notebook["cells"]]
    assert len(ids) == len(set(ids))
    names: dict[str, Any] = {}
    for cell in notebook["cells"]:
        assert set(cell) == {"cell_type", "id", "metadata", "source"} | (
            {"execution_count", "outputs"} if cell["cell_type"] == "code" else set()
        )
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), cell["id"], "exec"), names)
