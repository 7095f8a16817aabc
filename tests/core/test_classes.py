"""The table of classes: what must hold for every class that is added to it."""

import re

import pytest

from inspect_pop.core.classes import CLASSES, DEFECTS, GOOD, JOINT_CLASSES, JointClass, joint_class
from inspect_pop.core.columns import COLUMNS
from inspect_pop.core.inspection import BoardRecord


def test_the_first_class_is_the_one_that_may_pass() -> None:
    assert (GOOD, *DEFECTS) == CLASSES
    assert JOINT_CLASSES[0].chance == 0
    assert sum(c.chance for c in JOINT_CLASSES) == pytest.approx(1.0)
    assert all(joint_class(c).chance > 0 < joint_class(c).events for c in DEFECTS)  # causes are weighed against chance


@pytest.mark.parametrize("field", ["name", "words", "heading", "precedence", "colour", "letter", "outline", "cfx_code"])
def test_classes_can_be_told_apart(field: str) -> None:
    values = [getattr(c, field) for c in JOINT_CLASSES]
    assert len(set(values)) == len(values)


@pytest.mark.parametrize("joint", JOINT_CLASSES, ids=lambda c: c.name)
def test_every_class_is_complete(joint: JointClass) -> None:
    assert joint_class(joint.name) is joint
    assert re.fullmatch(r"[a-z_]+", joint.name)
    assert re.fullmatch(r"#[0-9a-f]{6}", joint.colour)
    assert joint.outline.startswith("M") and joint.label_remedy


@pytest.mark.parametrize("name", CLASSES)
def test_every_class_has_its_probability_and_its_count(name: str) -> None:
    assert f"p_{name}" in [column.name for column in COLUMNS]
    assert f"n_{name}" in BoardRecord.__dataclass_fields__


def test_an_unknown_class_is_refused() -> None:
    with pytest.raises(KeyError):
        joint_class("cold")
