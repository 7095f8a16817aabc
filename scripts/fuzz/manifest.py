#!/usr/bin/env python
"""Fuzz export.json: arbitrary bytes in place of a valid manifest."""

from common import instrument, place, run

with instrument(__name__):
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
        str(fault).encode()  # every message must be encodable
    else:
        export.serial.encode()


if __name__ == "__main__":
    run(one, NAME)
