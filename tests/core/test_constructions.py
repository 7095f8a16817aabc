"""The table of constructions."""

import pytest

from inspect_pop.core.constructions import (
    CONSTRUCTIONS,
    DISPOSITION_ORDER,
    DISPOSITION_WORDS,
    OPPORTUNITIES_PER_INTERFACE,
    describe_construction,
    describe_disposition,
)


def test_a_pop_has_two_placements_and_two_components_a_bga_one_of_each() -> None:
    for name in ("standard", "tmv", "exposed_die_tmv", "psfccsp"):
        assert describe_construction(name).opportunities == 4
    assert describe_construction("bga").opportunities == 2
    for construction in CONSTRUCTIONS.values():  # so that the interfaces' opportunities add up to the site's
        assert construction.opportunities == OPPORTUNITIES_PER_INTERFACE * len(construction.interfaces)


def test_an_unknown_construction_is_an_error() -> None:
    with pytest.raises(KeyError):
        describe_construction("flip")


@pytest.mark.parametrize(
    ("disposition", "constructions", "words"),
    [
        ("ship", ["bga"], "Ship the board"),
        ("rework_memory", ["tmv"], "Rework: take the memory package off"),
        ("rework_stack", ["tmv"], "Rework: take the whole stack off"),
        ("rework_stack", ["bga"], "Rework: remove the package"),
        ("rework_stack", ["tmv", "bga", "bga"], "Rework: take the whole stack off; Rework: remove the package"),
        ("rework_stack", [], "Rework: take the whole stack off"),
        ("scrap", ["bga"], "scrap"),
    ],
)
def test_what_follows_is_said_in_the_words_of_the_construction(disposition: str, constructions: list[str], words: str) -> None:
    assert describe_disposition(disposition, constructions) == words


def test_every_disposition_has_its_words() -> None:
    assert set(DISPOSITION_ORDER) == set(DISPOSITION_WORDS)
