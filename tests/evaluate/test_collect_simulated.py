"""Training sets from the simulator: the same recipe gives the same set, with everything the simulator knows."""

from pathlib import Path

import numpy as np
import pytest

from inspect_pop.core.errors import LimitsFault
from inspect_pop.evaluate.collect import Group, SetRecipe, load_set_recipe, make_set

RECIPES = Path(__file__).parents[2] / "datasets" / "recipes"
SMALL = SetRecipe(name="small", groups=(Group(machine="line_a", product="tst4", boards=1, defect_rate=0.3, seed=5),))


def test_a_set_knows_what_the_simulator_knows(tmp_path: Path) -> None:
    samples = make_set(SMALL, tmp_path / "one")
    assert len(samples) == 88
    assert set(samples.label) >= {0, 1}
    assert "plain" in samples.varieties
    assert np.isfinite(samples.volume_ratio).all()
    assert np.isnan(samples.web_um[samples.label == 0]).all()
    again = make_set(SMALL, tmp_path / "two")
    assert np.array_equal(samples.images, again.images)
    assert np.array_equal(samples.label, again.label)


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.toml")), ids=lambda p: p.stem)
def test_committed_recipes_can_be_read(path: Path) -> None:
    assert load_set_recipe(path).groups


def test_an_unknown_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text('name = "x"\ncolour = 3\ngroups = []\n')
    with pytest.raises(LimitsFault, match="colour"):
        load_set_recipe(path)


def test_held_boards_are_others(tmp_path: Path) -> None:
    teach, held = (load_set_recipe(RECIPES / f"release-1{part}.toml") for part in ("", "-held"))
    assert not {g.seed for g in teach.groups} & {g.seed for g in held.groups}
