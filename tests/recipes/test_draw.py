"""Drawings of recipes."""

from pathlib import Path
from xml.etree import ElementTree

import cv2
import pytest

from inspect_pop.core.errors import UsageFault
from inspect_pop.recipes.draw import DOUBT, EMPTY, draw_array, draw_recipe
from inspect_pop.recipes.from_image import read_array
from inspect_pop.simulate.catalog import find_recipe
from tests.recipes.samples import grid, picture


def test_every_ball_is_drawn_with_its_name(tmp_path: Path) -> None:
    recipe = find_recipe("tst4")
    draw_recipe(tmp_path / "a.svg", recipe)
    texts = [e.text for e in ElementTree.parse(tmp_path / "a.svg").iter("{http://www.w3.org/2000/svg}text")]
    balls = [ball for i in recipe.packages[0].interfaces for ball in i.ball]
    assert sorted(t for t in texts if t in set(balls)) == sorted(balls)
    draw_recipe(tmp_path / "a.png", recipe)
    assert cv2.imread(str(tmp_path / "a.png")).std() > 10
    with pytest.raises(UsageFault, match=r"\.svg"):
        draw_recipe(tmp_path / "a.pdf", recipe)


def test_doubts_and_empty_places_have_colours_of_their_own(tmp_path: Path) -> None:
    places = grid(11, 9)
    for name, balls, colours in (("sure", places, ()), ("holes", places[[k for k in range(99) if k != 50]], (EMPTY,))):
        image = picture(balls)
        draw_array(tmp_path / f"{name}.png", image, read_array(image, pitch_um=500.0))
        drawn = cv2.imread(str(tmp_path / f"{name}.png"))
        for colour in (DOUBT, EMPTY):
            assert bool((drawn == colour).all(axis=2).any()) == (colour in colours)
