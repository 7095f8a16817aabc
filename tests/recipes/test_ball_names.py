"""JEDEC names, and the corner at which they begin."""

import numpy as np
import pytest

from inspect_pop.recipes.draft import find_a1_corner, list_names, name_ball, parse_ball, turn_to_a1


def test_letters_are_skipped_and_doubled() -> None:
    assert [name_ball(row, 0)[:-1] for row in (0, 7, 8, 12, 19, 20, 39, 40)] == ["A", "H", "J", "N", "Y", "AA", "AY", "BA"]
    assert all(parse_ball(name_ball(row, column)) == (row, column) for row in range(450) for column in (0, 8, 98))


@pytest.mark.parametrize("name", ["I1", "O3", "Q1", "S1", "X2", "Z9", "A0", "1A", "", "GND", "AAAA1"])
def test_other_names_are_none(name: str) -> None:
    assert parse_ball(name) is None


@pytest.mark.parametrize(
    ("corner", "names"),
    [
        ("upper_left", ["A1", "A2", "A3", "B1", "B2", "B3"]),
        ("upper_right", ["C1", "B1", "A1", "C2", "B2", "A2"]),
        ("lower_right", ["B3", "B2", "B1", "A3", "A2", "A1"]),
        ("lower_left", ["A2", "B2", "C2", "A1", "B1", "C1"]),
    ],
)
def test_names_turn_with_the_package_and_the_corner_is_found_again(corner: str, names: list[str]) -> None:
    column, row = np.array([0, 1, 2, 0, 1, 2]), np.array([0, 0, 0, 1, 1, 1])
    assert list(list_names(column, row, corner)) == names
    assert find_a1_corner(names, column.astype(float), -row.astype(float)) == corner
    assert find_a1_corner(names, column.astype(float), row.astype(float)) is None, "mirrored"
    assert [len(axis) for axis in turn_to_a1(column, row, corner)] == [6, 6]
