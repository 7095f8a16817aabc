"""The way to a released model, on sets so small that it learns nothing: what it writes can be loaded and used."""

from pathlib import Path

import pytest

pytest.importorskip("torch")
from inspect_pop.classify.model import load
from inspect_pop.core.errors import LimitsFault
from inspect_pop.evaluate.collect import load_set_recipe
from inspect_pop.learn.fit import FitRecipe
from inspect_pop.learn.network import NETWORK, JointNet, Shape, load_network, save_network
from inspect_pop.learn.release import ReleaseRecipe, Sets, gather_sets, load_release_recipe, release
from tests.learn.sets import make_samples

pytestmark = [pytest.mark.training, pytest.mark.filterwarnings("ignore::DeprecationWarning")]
TINY = FitRecipe(widths=(8, 8), blocks=(1, 1), epochs=1, samples_an_epoch=64, batch=16, mixed_precision=False)


def test_a_release_is_a_model(tmp_path: Path) -> None:
    sets = Sets(
        (make_samples(boards=3), make_samples(boards=1, seed=4)), make_samples(boards=2, seed=1), make_samples(boards=2, seed=2)
    )
    recipe = ReleaseRecipe(name="tiny", teach=("a",), held=("b",), repeats=2, fit=TINY, second=TINY)
    card = release(sets, recipe, tmp_path / "out", tmp_path / "work", now="2026-11-22T08:00:00+00:00")
    assert load(tmp_path / "out").card == card
    assert card.data["labelled boards learnt from"] == list(sets.labelled.boards)  # type: ignore[union-attr]
    assert set(card.data["calibration boards"]) == set(sets.held.boards)


def test_a_release_that_begins_with_a_wider_network_narrows_it(tmp_path: Path) -> None:
    wide = JointNet(Shape((12, 8), (1, 1), 5, first=5))
    save_network(wide, make_samples(boards=1).varieties, tmp_path / "wide.safetensors")
    recipe = ReleaseRecipe(name="tiny", teach=("a",), held=("b",), fit=TINY, second=TINY)
    sets = Sets((make_samples(boards=3),), make_samples(boards=2, seed=1), None)
    out = tmp_path / "out"
    release(sets, recipe, out, tmp_path / "work", now="2026-11-22T08:00:00+00:00", start=tmp_path / "wide.safetensors")
    shape = load_network(out / NETWORK)[0].shape
    assert (shape.widths, shape.first) == ((8, 8), 3)


def test_the_committed_recipe_can_be_read() -> None:
    top = Path(__file__).parents[2]
    recipe = load_release_recipe(top / "training" / "recipes" / "release.toml")
    sets = [load_set_recipe(top / name) for name in (*dict.fromkeys(recipe.teach), *recipe.held)]
    seeds = [group.seed for found in sets for group in found.groups]
    assert len(seeds) == len(set(seeds))  # no board is drawn twice, nor calibrated on after it was learnt from


def test_a_recipe_with_an_unknown_key_is_refused(tmp_path: Path) -> None:
    (tmp_path / "release.toml").write_text("colour = 1")
    with pytest.raises(LimitsFault, match="a recipe of a release"):
        load_release_recipe(tmp_path / "release.toml")


def test_what_an_earlier_start_has_simulated_is_taken_up(tmp_path: Path) -> None:
    (tmp_path / "set.toml").write_text(
        'name = "s"\ngroups = [{ machine = "line_a", product = "tst4", boards = 1, defect_rate = 0.2, seed = 7 }]'
    )
    recipe = ReleaseRecipe(name="tiny", teach=("set.toml",), held=("set.toml",), fit=TINY, second=TINY)
    said: list[str] = []
    first = gather_sets(recipe, tmp_path, [], tmp_path / "work", progress=said.append)
    again = gather_sets(recipe, tmp_path, [], tmp_path / "work", progress=said.append)
    assert said == ["s: board 1 of 1"] and len(again.held) == len(first.teach[0]) > 80
