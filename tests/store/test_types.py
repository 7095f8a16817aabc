"""Times and texts that the store takes."""

import json
import math
from dataclasses import replace

import pytest

from inspect_pop.core.errors import StoreFault
from inspect_pop.store import Message, Store
from inspect_pop.store.types import escape_text, parse_time_us
from tests.factories import make_inspection


def test_a_time_is_an_instant_whatever_its_offset() -> None:
    assert parse_time_us("1970-01-01T01:00:00.000001+01:00", "at") == 1
    for bad in ("1970-01-01T00:00:00", "noon"):
        with pytest.raises(StoreFault, match="at"):
            parse_time_us(bad, "at")


def test_text_that_a_database_cannot_hold_is_escaped() -> None:
    assert escape_text("a\udcff\0ü") == "a\\udcff\\x00ü"
    assert escape_text("plain") == "plain"


def test_a_message_gives_the_content_of_its_json() -> None:
    assert Message("m", "Heartbeat", '{"n": [1, null]}', "now").payload == {"n": [1, None]}


def test_a_stored_board_becomes_json_without_nan(store: Store) -> None:
    one = make_inspection("S", defects={"U1.lower.A1": "open"})
    store.write(replace(one, packages=(replace(one.packages[0], warpage_um=math.nan),)))
    found = json.loads(json.dumps(store.board("S")[0].to_dict(), allow_nan=False))
    assert found["packages"][0]["warpage_um"] is None
    assert (found["serial"], found["inspection_no"], found["final"]) == ("S", 1, "fail")
    assert found["defects"][0]["label"] == "open"
