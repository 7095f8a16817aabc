import subprocess
import sys
from pathlib import Path

import pytest

from inspect_pop.classify.model import load
from inspect_pop.core.errors import UsageFault
from inspect_pop.evaluate.outcomes import judge
from inspect_pop.learn.package_model import seal
from tests.evaluate.test_outcomes import make_outcomes
from tests.learn.models import make_model


def test_a_sealed_folder_can_be_loaded_and_its_page_read(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "m")
    data = {"training boards": [f"B{k}" for k in range(9)], "labels": {"good": 7}}
    card = load(folder).card.model_copy(update={"metrics": judge(make_outcomes()), "data": data, "measured_on": "two boards"})
    sealed = seal(folder, card)
    assert set(sealed.files) == {"model.onnx", "calibration.parquet", "README.md"}
    assert load(folder).card == sealed
    page = (folder / "README.md").read_text()
    assert page.startswith("# m 1")
    assert "training boards: 9 (B0, B1, B2, B3, B4, …)" in page
    assert "Judged on two boards" in page and "defects that pass" in page
    assert "by hand" in page
    assert "| A/AXI-1 | 4 | 400 |" in page and "| B/AXI-2 | 4 | 400 |" in page


def test_kinds_of_boards_stand_in_the_card_s_table_before_machines(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "m")
    figures = judge(make_outcomes())
    card = load(folder).card.model_copy(update={"metrics": figures | {"kinds": {"nine slices": figures}}})
    before = (folder / "model.onnx").read_bytes()
    seal(folder, card)
    page = (folder / "README.md").read_text()
    assert "| nine slices | 8 | 800 |" in page and "A/AXI-1" not in page
    assert (folder / "model.onnx").read_bytes() == before
    assert load(folder).card.metrics["kinds"]["nine slices"]["escape"] == figures["escape"]


def test_what_a_measurement_printed_goes_into_the_card(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "m")
    script = Path(__file__).resolve().parents[2] / "scripts" / "into_card"
    call = [sys.executable, script, folder, "Promises kept"]
    for told in ("| promise | kept |\n|---|---|\n| 1 % | 19 of 20 |\n", "| promise | kept |\n|---|---|\n| 1 % | 20 of 20 |\n"):
        subprocess.run(call, input=told, text=True, check=True, capture_output=True)
    page = (folder / "README.md").read_text()
    assert "### Promises kept" in page and "20 of 20" in page and "19 of 20" not in page
    assert load(folder).card.metrics["tables"] == {"Promises kept": told.strip()}
    assert subprocess.run(call, input="", text=True, check=False, capture_output=True).returncode == 2


def test_a_folder_without_a_network_is_not_sealed(tmp_path: Path) -> None:
    card = load(make_model(tmp_path / "m")).card
    with pytest.raises(UsageFault, match=r"model\.onnx"):
        seal(tmp_path, card)
