"""Looks follow from the tables of classes and columns."""

import re

from inspect_pop.core.classes import JOINT_CLASSES
from inspect_pop.core.columns import COLUMNS
from inspect_pop.report.page import CLASS_LOOKS, DISPLAYS, VERDICT_LOOKS, make_style


def test_every_class_has_a_look_of_its_own() -> None:
    assert list(CLASS_LOOKS) == [*(c.name for c in JOINT_CLASSES), "undecided"]
    for field in ("words", "colour", "letter"):
        assert len({getattr(look, field) for look in CLASS_LOOKS.values()}) == len(CLASS_LOOKS)
    assert [look.verdict for look in CLASS_LOOKS.values()] == ["pass", *["fail"] * (len(JOINT_CLASSES) - 1), "review"]


def test_letters_are_dark_on_bright_marks() -> None:
    assert CLASS_LOOKS["starved"].letter_colour == "#16202a"
    assert CLASS_LOOKS["open"].letter_colour == "#fff"


def test_the_style_names_every_class_and_verdict() -> None:
    style = make_style()
    assert re.findall(r"\.k-(\w+)", style) == list(CLASS_LOOKS)
    assert re.findall(r"--(\w+): #", style.splitlines()[0]) == list(VERDICT_LOOKS)


def test_every_column_with_a_display_is_shown_once_strips_first() -> None:
    assert sorted(DISPLAYS) == sorted(c.name for c in COLUMNS if c.display is not None)
    strips = [d.strip for d in DISPLAYS.values()]
    assert strips == sorted(strips, reverse=True)
