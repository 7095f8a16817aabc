#!/usr/bin/env python
"""Fuzz a recipe and its joint table: JSON, a line of `===`, then the table that every interface names."""

from common import instrument, place, run

with instrument(__name__):
    from inspect_pop.core.errors import InputFault
    from inspect_pop.ingest.recipe_file import find_recipe_faults, read_recipe

NAME = "recipe"


def one(data: bytes) -> None:
    """Read the recipe, and all of its faults where it has any."""
    recipes = place() / "recipes"
    document, _, table = data.partition(b"\n===\n")
    (recipes / "fuzzed.json").write_bytes(document)
    (recipes / "fuzzed.csv").write_bytes(table)
    faults = find_recipe_faults(recipes / "fuzzed.json", place())
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
