#!/usr/bin/env python
"""Fuzz export.json: any bytes in the place of a good board's manifest."""

from common import instrumented, place, run

with instrumented(__name__):
    from inspect_pop.core.errors import InputFault
    from inspect_pop.ingest.pop_export import READER

NAME = "manifest"


def one(data: bytes) -> None:
    """Open the board, its recipe and the paths of its images; decode nothing."""
    (board,) = (place() / "boards").iterdir()
    (board / "export.json").write_bytes(data)
    try:
        export = READER.open(board, place())
    except InputFault as fault:
        str(fault).encode()  # a message that cannot be written is no message
    else:
        export.serial.encode()


if __name__ == "__main__":
    run(one, NAME)
