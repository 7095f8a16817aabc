"""Settings are checked before anything starts."""

from pathlib import Path

import pytest

from inspect_pop.classify.model import find_current_model
from inspect_pop.core.errors import UsageFault
from inspect_pop.station.settings import ServiceSettings, is_loopback


@pytest.mark.parametrize(
    ("options", "about"),
    [
        ({"host": "0.0.0.0"}, "token file"),
        ({"roots": ()}, "--root"),
        ({"roots": (Path("/nowhere/at/all"),)}, "a folder"),
        ({"queue": 0}, "queue"),
    ],
)
def test_settings_that_cannot_be_are_refused(tmp_path: Path, options: dict[str, object], about: str) -> None:
    with pytest.raises(UsageFault, match=about):
        ServiceSettings(**({"roots": (tmp_path,), "store": "x.db"} | options))


def test_a_new_model_comes_from_the_named_folders_or_from_next_to_the_current_one(tmp_path: Path) -> None:
    settings = ServiceSettings(roots=(tmp_path,), store="x.db", model=tmp_path / "models" / "one")
    assert settings.model_folders == (tmp_path / "models",)
    assert ServiceSettings(roots=(tmp_path,), store="x.db").model_folders == (find_current_model().resolve().parent,)


@pytest.mark.parametrize(
    ("host", "expected"), [("localhost", True), ("127.0.0.2", True), ("::1", True), ("10.0.0.1", False), ("a", False)]
)
def test_loopback(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected
