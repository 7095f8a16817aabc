"""The way to a released model, on sets so small that it learns nothing: what it writes can be loaded and used."""

import tomllib
from pathlib import Path

import pytest

pytest.importorskip("torch")
from inspect_pop.classify.model import load
from inspect_pop.learn.fit import FitRecipe
from inspect_pop.learn.release import ReleaseRecipe, Sets, release
from tests.learn.sets import make_samples

pytestmark = [pytest.mark.training, pytest.mark.filterwarnings("ignore::DeprecationWarning")]
TINY = FitRecipe(widths=(8, 8), blocks=(1, 1), epochs=1, samples_an_epoch=64, batch=16, mixed_precision=False)


def test_a_release_is_a_model(tmp_path: Path) -> None:
    sets = Sets(make_samples(boards=3), make_samples(boards=2, seed=1), make_samples(boards=2, seed=2))
    recipe = ReleaseRecipe(name="tiny", teach="a", held="b", repeats=2, fit=TINY, second=TINY)
    card = release(sets, recipe, tmp_path / "out", tmp_path / "work", now="2026-11-22T08:00:00+00:00")
    assert load(tmp_path / "out").card == card
    assert card.data["labelled boards learnt from"] == list(sets.labelled.boards)  # type: ignore[union-attr]
    assert set(card.data["calibration boards"]) == set(sets.held.boards)


def test_the_committed_recipe_can_be_read() -> None:
    path = Path(__file__).parents[2] / "training" / "recipes" / "release.toml"
    recipe = ReleaseRecipe.model_validate(tomllib.loads(path.read_text()))
    assert (path.parents[2] / recipe.teach).is_file()
    assert (path.parents[2] / recipe.held).is_file()
