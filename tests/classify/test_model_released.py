"""The model that is taken where none is named."""

from pathlib import Path

import pytest

from inspect_pop.classify.model import load, released
from inspect_pop.core.errors import ModelFault
from tests.evaluate.test_promotion_registry import make_model


def test_the_folder_of_the_environment_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_model(tmp_path / "mine")
    (tmp_path / "current.json").write_text('{"schema": "inspect-pop-models/1", "current": "mine"}')
    monkeypatch.setenv("INSPECT_POP_MODELS", str(tmp_path))
    assert released() == tmp_path / "mine"
    assert load(None).folder == load(tmp_path).folder == tmp_path / "mine"


def test_none_there_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INSPECT_POP_MODELS", str(tmp_path))
    with pytest.raises(ModelFault, match="found neither"):
        load(None)
