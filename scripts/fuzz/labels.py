#!/usr/bin/env python
"""Fuzz labels.csv: arbitrary bytes, and the labels that result, read against a valid recipe."""

from common import instrument, place, run

with instrument(__name__):
    from inspect_pop.core.classes import CLASSES
    from inspect_pop.core.errors import InputFault
    from inspect_pop.ingest.pop_export import check_labels, read_labels
    from inspect_pop.ingest.recipe_file import read_recipe

NAME = "labels"


def one(data: bytes) -> None:
    """Read the labels, and compare them with the sample's recipe."""
    path = place() / "labels.csv"
    path.write_bytes(data)
    try:
        labels = read_labels(path)
        check_labels(labels, dict.fromkeys(labels.serials, read_recipe(place() / "recipes/tst4-pop.json", place())))
    except InputFault as fault:
        str(fault).encode()


if __name__ == "__main__":
    run(one, NAME, words=CLASSES)
