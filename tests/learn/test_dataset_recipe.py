from pathlib import Path

import pytest

pytest.importorskip("torch")
from inspect_pop.core.errors import LimitsFault
from inspect_pop.learn.dataset import load_recipe

RECIPES = [Path(__file__).resolve().parents[2] / "training" / "recipes" / f"{name}.toml" for name in ("retrain", "scratch")]
pytestmark = pytest.mark.training


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_committed_recipes_can_be_read(path: Path) -> None:
    recipe = load_recipe(path)
    assert recipe.name == path.stem
    assert recipe.digest != recipe.model_copy(update={"copies": 17}).digest


@pytest.mark.parametrize(
    "text",
    [
        "copies = 1",
        "name = 'a'\ncopys = 1",
        "name = 'a'\n[fit]\nepochs = 0",
        "name = 'a'\n[jitter]\nnoize = 1",
        "name = '../a'",
        "=",
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "r.toml").write_text(text)
    with pytest.raises(LimitsFault, match="training recipe"):
        load_recipe(tmp_path / "r.toml")


def test_an_absent_recipe_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LimitsFault):
        load_recipe(tmp_path / "none.toml")
