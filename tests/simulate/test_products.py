import csv
from pathlib import Path

import numpy as np
import pytest

from inspect_pop.core.errors import UsageFault
from inspect_pop.simulate.catalog import PRODUCTS, ball_names, draw_recipe, find_recipe


def test_ball_names_are_jedecs():
    names = ball_names(28, 2)
    assert names[0] == ["A1", "A2"]
    assert [row[0][:-1] for row in names[8:10]] == ["J", "K"]
    assert [row[0][:-1] for row in names[19:22]] == ["Y", "AA", "AB"]


@pytest.mark.parametrize("name", ["tst4", "apx17"])
def test_sample_products_are_those_of_the_samples(shared: Path, name):
    for interface in PRODUCTS[name].packages[0].interfaces:
        with (shared / f"exports/line-a/recipes/{name}-pop_U1_{interface.name}.csv").open(encoding="utf-8") as file:
            rows = {r["ball"]: (float(r["x_um"]), float(r["y_um"])) for r in csv.DictReader(file)}
        assert rows == dict(zip(interface.ball, zip(interface.x_um, interface.y_um, strict=True), strict=True))


def test_an_unknown_product_is_refused():
    with pytest.raises(UsageFault, match="tst4"):
        find_recipe("moon")


@pytest.mark.parametrize("seed", range(12))
def test_random_products_are_possible(seed):
    recipe = draw_recipe(np.random.default_rng(seed))
    (package,) = recipe.packages
    assert 40 <= recipe.n_joints <= 500
    for i in package.interfaces:
        assert i.nominal_mid_diameter_um < 0.85 * i.pitch_um
        assert np.abs(i.x_um).max() + i.ball_diameter_um / 2 < package.body_um[0] / 2
        assert len(set(i.ball)) == len(i.ball)
    assert package.interfaces[0].pads_z_um[1] < package.interfaces[1].pads_z_um[0]
