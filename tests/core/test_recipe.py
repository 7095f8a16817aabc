"""Figures that follow from a recipe."""

import math

import pytest

from inspect_pop.core.recipe import (
    CONSTRUCTIONS,
    DISPOSITION_ORDER,
    DISPOSITION_WORDS,
    HEIGHT_ERROR_UM,
    OPPORTUNITIES_PER_INTERFACE,
    Package,
    Recipe,
    describe_construction,
    describe_disposition,
)
from tests.drawn import drawn_interface

LOWER, UPPER = drawn_interface(), drawn_interface(4, 500.0, "upper")
PACKAGE = Package("U1", "POP", "tmv", (4000.0, 4000.0), 1350.0, 60.0, (LOWER, UPPER))


def test_the_gap_is_between_the_pads() -> None:
    assert (LOWER.gap_um, UPPER.gap_um) == (170.0, 220.0)


def test_a_ball_that_is_not_squeezed_has_its_full_width_and_volume() -> None:
    """A truncated sphere between pads of radius a at distance h has radius sqrt(a^2 + h^2 / 4)."""
    a, h = LOWER.pad_diameter_um / 2, LOWER.gap_um
    radius = math.hypot(a, h / 2)
    caps = 2 * math.pi * (radius - h / 2) ** 2 * (3 * radius - (radius - h / 2)) / 3
    assert LOWER.nominal_mid_diameter_um == pytest.approx(2 * radius)
    assert LOWER.nominal_volume_um3 == pytest.approx(4 / 3 * math.pi * radius**3 - caps)


def test_slices_near_a_pad_may_miss_the_joints() -> None:
    low, high = LOWER.pads_z_um
    assert LOWER.may_miss(low + HEIGHT_ERROR_UM - 1) and LOWER.may_miss(high - HEIGHT_ERROR_UM + 1)
    assert not LOWER.may_miss((low + high) / 2)


def test_interfaces_by_name_and_joints_in_all() -> None:
    assert PACKAGE.interface("upper") is UPPER
    with pytest.raises(KeyError):
        PACKAGE.interface("middle")
    assert Recipe("r", 1, "P", (PACKAGE, PACKAGE), "d").n_joints == 2 * (36 + 16)


# Constructions


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
