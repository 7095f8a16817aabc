"""The images of a board one after the other; the next one can be decoded while the one before it is worked on."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice

from inspect_pop.geometry import HeightMap, SliceStack
from inspect_pop.ingest.contract import ImageSource

__all__ = ["read_in_turn"]


def read_in_turn(sources: Sequence[ImageSource], *, ahead: bool) -> Iterator[SliceStack | HeightMap]:
    """Each image when it is asked for, or, `ahead`, by then: a thread reads the next one, which takes as much more memory.

    What is wrong with an image is raised when its turn comes.
    """
    if not ahead:
        yield from (source.read() for source in sources)
        return
    left, coming = iter(sources), deque[Future[SliceStack | HeightMap]]()
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="read-ahead") as thread:
        coming.extend(thread.submit(source.read) for source in islice(left, 1))
        while coming:
            image = coming.popleft().result()
            coming.extend(thread.submit(source.read) for source in islice(left, 1))
            yield image
            del image  # not kept while the caller waits for the next one
