"""A good board, small enough to make anew for each test."""

from pathlib import Path

import pytest

from tests.ingest.boards import write_board


@pytest.fixture
def board(tmp_path: Path) -> Path:
    """The folder of one good board in a batch at `tmp_path / "batch"`."""
    return write_board(tmp_path / "batch")
