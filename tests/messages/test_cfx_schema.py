"""The models of CFX messages: what the standard does not know is refused."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from inspect_pop.core.classes import JOINT_CLASSES
from inspect_pop.messages import Envelope, from_inspection
from tests.factories import make_inspection

HANDLE = "ACME.AXI-1"


@pytest.mark.parametrize("of_class", JOINT_CLASSES[1:], ids=lambda c: c.name)
def test_every_class_of_defect_has_a_valid_message(of_class: Any) -> None:
    messages = list(from_inspection(make_inspection(defects={"U1.lower.A1": of_class.name}), HANDLE))
    for message in messages:
        assert Envelope.model_validate(json.loads(message.text)).to_json() == message.text
    assert any(of_class.cfx_code in m.text and of_class.cfx_category in m.text for m in messages)


@pytest.mark.parametrize(
    ("where", "value"),
    [
        (("MessageBody", "InspectionMethod"), "Fused"),
        (("MessageBody", "InspectedUnits", 0, "OverallResult"), "Review"),
        (("MessageBody", "InspectedUnits", 0, "Verification"), "Maybe"),
        (("MessageBody", "Unknown"), 1),
        (("MessageBody", "$type"), "CFX.Other, CFX"),
        (("MessageBody", "InspectedUnits", 0, "Inspections", 0, "DefectsFound", 0, "DefectCategory"), "Opens"),
        (("TimeStamp",), "2026-03-02T09:00:00"),
        (("Version",), "1.7"),
        (("UniqueID",), "x"),
    ],
)
def test_what_the_standard_does_not_know_is_refused(where: tuple[Any, ...], value: object) -> None:
    payload = json.loads(list(from_inspection(make_inspection(defects={"U1.lower.A1": "open"}), HANDLE))[2].text)
    inner = payload
    for key in where[:-1]:
        inner = inner[key]
    inner[where[-1]] = value
    with pytest.raises(ValidationError):
        Envelope.model_validate(payload)
