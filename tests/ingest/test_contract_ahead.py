"""Images in turn: the next one is read while the caller has the one before it, and nothing further."""

import threading
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from inspect_pop.core.errors import ImageFault
from inspect_pop.core.geometry import Grid, HeightMap
from inspect_pop.ingest.contract import ImageSource, read_in_turn


@dataclass
class Reading:
    """What was read, and by which threads."""

    events: list[threading.Event] = field(default_factory=lambda: [threading.Event() for _ in range(4)])
    threads: set[int] = field(default_factory=set)

    def source(self, k: int) -> ImageSource:
        def read() -> HeightMap:
            self.threads.add(threading.get_ident())
            self.events[k].set()
            if k == 2:
                raise ImageFault("the third", expected="a picture", found="none")
            return HeightMap(f"U{k}", "pre_stack", np.zeros((2, 2), np.float32), Grid((2, 2), 1.0, (0.0, 0.0)))

        return ImageSource("height_map", f"U{k}", None, "pre_stack", Path("x"), read)

    def read(self) -> list[bool]:
        return [event.is_set() for event in self.events]


def test_the_next_one_is_read_meanwhile_and_no_more() -> None:
    reading = Reading()
    images = read_in_turn([reading.source(k) for k in range(4)], ahead=True)
    assert reading.read() == [False] * 4
    assert next(images).refdes == "U0"
    assert reading.events[1].wait(10)
    assert next(images).refdes == "U1"  # though the third, which cannot be read, is on its way
    assert reading.events[2].wait(10)
    assert not reading.events[3].is_set()
    with pytest.raises(ImageFault, match="the third"):
        next(images)
    assert threading.get_ident() not in reading.threads


def test_in_turn_each_is_read_when_it_is_asked_for() -> None:
    reading = Reading()
    images = read_in_turn([reading.source(k) for k in range(4)], ahead=False)
    assert [next(images).refdes for _ in range(2)] == ["U0", "U1"]
    assert reading.read() == [True, True, False, False]
    assert reading.threads == {threading.get_ident()}


@pytest.mark.parametrize("ahead", [True, False])
def test_of_nothing_comes_nothing(ahead: bool) -> None:
    assert list(read_in_turn([], ahead=ahead)) == []


def test_who_stops_asking_leaves_no_thread_behind() -> None:
    before = threading.active_count()
    images = read_in_turn([Reading().source(k) for k in range(2)], ahead=True)
    next(images)
    images.close()
    assert threading.active_count() == before
