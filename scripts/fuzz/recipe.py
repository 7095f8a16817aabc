#!/usr/bin/env python
"""Fuzz a recipe and its table of joints: JSON, a line of `===`, then the table that every interface names."""

from common import instrumented, place, run

with instrumented(__name__):
    from inspect_pop.core.errors import InputFault
    from inspect_pop.ingest.recipe_file import read_recipe, recipe_faults

NAME = "recipe"


def one(data: bytes) -> None:
    """Read the recipe, and all of its faults where it has any."""
    recipes = place() / "recipes"
    document, _, table = data.partition(b"\n===\n")
    (recipes / "fuzzed.json").write_bytes(document)
    (recipes / "fuzzed.csv").write_bytes(table)
    faults = recipe_faults(recipes / "fuzzed.json", place())
    for fault in faults:
        str(fault).encode()
    try:
        recipe = read_recipe(recipes / "fuzzed.json", place())
    except InputFault:
        if not faults:
            raise RuntimeError("a recipe without faults was refused") from None
    else:
        if faults or recipe.n_joints < 1:
            raise RuntimeError("a recipe with faults was read")


if __name__ == "__main__":
    run(one, NAME)
