"""What a retraining leaves of the model that it began with: all of it, but for the machines that it was taught on."""

from pathlib import Path

import pytest

from inspect_pop.classify.model import load
from inspect_pop.learn.package_model import About, add_own, own_folder
from tests.learn.models import make_model

ABOUT = About("new", "2", "2026-11-22T08:00:00+00:00", {"training boards": ["PB-1"]}, {"name": "retrain"})


def taught(before: Path, out: Path, machines: list[str], weight: float) -> Path:
    make_model(out / own_folder(machines), weight=weight)
    add_own(load(before), out, machines, ABOUT)
    return out


def test_other_machines_keep_the_model_before(tmp_path: Path) -> None:
    before = make_model(tmp_path / "before", quick=9.0, data={"kept": 1})
    new = load(taught(before, tmp_path / "new", ["A/1"], 5.0))
    old = load(before)
    assert (new.network, new.quick) == (old.network, old.quick)
    assert (new.card.calibration, new.card.operating_point) == (old.card.calibration, old.card.operating_point)
    assert (new.card.name, new.card.version, new.card.data) == ("new", "2", {"kept": 1, "training boards": ["PB-1"]})
    assert new.card.metrics == {}
    assert new.of_machine("A/1").network != old.network
    assert "On boards of A/1" in (tmp_path / "new" / "README.md").read_text()


def test_networks_of_other_machines_stay_and_the_same_machine_gets_a_new_one(tmp_path: Path) -> None:
    first = taught(make_model(tmp_path / "before"), tmp_path / "first", ["A/1", "A/2"], 5.0)
    second = taught(first, tmp_path / "second", ["A/2"], 6.0)
    third = load(taught(second, tmp_path / "third", ["A/2"], 7.0))
    assert third.of_machine("A/1").network == load(first).of_machine("A/1").network
    networks = [load(folder).of_machine("A/2").network for folder in (first, second)] + [third.of_machine("A/2").network]
    assert len(set(networks)) == 3
    assert sorted(p.name for p in third.folder.glob("own-*")) == sorted({own_folder(["A/1", "A/2"]), own_folder(["A/2"])})


@pytest.mark.parametrize("machines", [["A/1"], ["../etc/passwd"], ["線/1", ""]])
def test_a_folder_is_named_by_no_ones_text(machines: list[str]) -> None:
    name = own_folder(machines)
    assert name.removeprefix("own-").isalnum()
    assert own_folder(machines * 2) == name
