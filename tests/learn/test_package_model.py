"""What a retraining leaves of the model that it began with: all of it, but for the machines that it was taught on."""

import subprocess
import sys
from pathlib import Path

import pytest

from inspect_pop.classify.model import load
from inspect_pop.core.errors import UsageFault
from inspect_pop.evaluate.evaluation import judge
from inspect_pop.learn.package_model import ModelDescription, add_machine_model, machine_folder, seal
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
    script = Path(__file__).resolve().parents[2] / "scripts" / "release" / "add_to_card.py"
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


ABOUT = ModelDescription("new", "2", "2026-11-22T08:00:00+00:00", {"training boards": ["PB-1"]}, {"name": "retrain"})


def taught(before: Path, out: Path, machines: list[str], weight: float) -> Path:
    make_model(out / machine_folder(machines), weight=weight)
    add_machine_model(load(before), out, machines, ABOUT)
    return out


def test_other_machines_keep_the_model_before(tmp_path: Path) -> None:
    before = make_model(tmp_path / "before", quick=9.0, data={"kept": 1})
    new = load(taught(before, tmp_path / "new", ["A/1"], 5.0))
    old = load(before)
    assert (new.network, new.network_8bit) == (old.network, old.network_8bit)
    assert (new.card.calibration, new.card.operating_point) == (old.card.calibration, old.card.operating_point)
    assert (new.card.name, new.card.version, new.card.data) == ("new", "2", {"kept": 1, "training boards": ["PB-1"]})
    assert new.card.metrics == {}
    assert new.for_machine("A/1").network != old.network
    assert "On boards of A/1" in (tmp_path / "new" / "README.md").read_text()


def test_networks_of_other_machines_stay_and_the_same_machine_gets_a_new_one(tmp_path: Path) -> None:
    first = taught(make_model(tmp_path / "before"), tmp_path / "first", ["A/1", "A/2"], 5.0)
    second = taught(first, tmp_path / "second", ["A/2"], 6.0)
    third = load(taught(second, tmp_path / "third", ["A/2"], 7.0))
    assert third.for_machine("A/1").network == load(first).for_machine("A/1").network
    networks = [load(folder).for_machine("A/2").network for folder in (first, second)] + [third.for_machine("A/2").network]
    assert len(set(networks)) == 3
    assert sorted(p.name for p in third.folder.glob("machine-*")) == sorted(
        {machine_folder(["A/1", "A/2"]), machine_folder(["A/2"])}
    )


@pytest.mark.parametrize("machines", [["A/1"], ["../etc/passwd"], ["線/1", ""]])
def test_a_folder_is_named_by_no_ones_text(machines: list[str]) -> None:
    name = machine_folder(machines)
    assert name.removeprefix("machine-").isalnum()
    assert machine_folder(machines * 2) == name
