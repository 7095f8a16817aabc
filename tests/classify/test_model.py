"""A model folder is taken whole and unchanged, or not at all; the current one where none is named."""

import json
from pathlib import Path
from typing import Any

import pytest

from inspect_pop.classify.model import find_current_model, load
from inspect_pop.core.classes import CLASSES
from inspect_pop.core.errors import ModelFault
from tests.evaluate.test_promotion import make_model as make_listed_model
from tests.learn.models import add_machine_model, make_model


def _other_classes(classes: tuple[str, ...]) -> dict[str, Any]:
    """What the card of a model of these classes has otherwise."""
    return {"classes": classes, "calibration": {"temperature": 1.0, "bias": [0.0] * len(classes)}}


def test_a_whole_folder_is_taken(tmp_path: Path) -> None:
    model = load(make_model(tmp_path / "m"))
    assert model.card.name == "m"
    assert model.network
    assert model.network_8bit == b""
    assert len(model.digest) == 64


def test_an_8bit_network_is_loaded_with_it(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "m", quick=9.0)
    assert load(folder).network_8bit == (folder / "quick.onnx").read_bytes()


def test_the_digest_follows_the_card(tmp_path: Path) -> None:
    one, other = load(make_model(tmp_path / "m")), load(make_model(tmp_path / "n", version="2"))
    assert one.digest != other.digest


@pytest.mark.parametrize("name", ["model.onnx", "quick.onnx", "calibration.parquet"])
@pytest.mark.parametrize("how", ["cut", "swapped", "gone"])
def test_a_changed_file_is_refused(tmp_path: Path, name: str, how: str) -> None:
    folder = make_model(tmp_path / "m", quick=9.0)
    content = (folder / name).read_bytes()
    if how == "gone":
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content[: len(content) // 2] if how == "cut" else content[::-1])
    with pytest.raises(ModelFault, match=name):
        load(folder)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"schema": "inspect-pop-model/9"}, "card.json"),  # of a later version
        ({"contract": "joint-inputs/0"}, "contract"),  # made for other inputs
        (_other_classes(CLASSES[:-1]), "expected contract .* and classes .*Train it again"),  # of a version with fewer classes
        (_other_classes((*CLASSES, "cold")), "expected contract .* and classes .*Train it again"),  # of a version with more
        ({"classes": CLASSES[:-1]}, "calibration.bias: expected one of each"),  # a card that contradicts itself
        ({"files": {}}, "model.onnx"),  # no network
        ({"files": {"../model.onnx": "0" * 64}}, "beside the card"),  # a path out of the folder
        ({"surprise": 1}, "surprise"),  # an unknown key
        ({"calibration": {"temperature": 0, "bias": [0] * len(CLASSES)}}, "temperature"),  # nothing divides by zero
    ],
)
def test_an_unusable_card_is_refused(tmp_path: Path, change: dict, says: str) -> None:
    folder = make_model(tmp_path / "m", **change)
    with pytest.raises(ModelFault, match=says):
        load(folder)


def test_not_a_model_at_all(tmp_path: Path) -> None:
    with pytest.raises(ModelFault, match="a folder with"):
        load(tmp_path / "nothing")
    (tmp_path / "card.json").write_text("{")
    with pytest.raises(ModelFault, match="inspect-pop-model/1"):
        load(tmp_path)


def test_a_card_survives_being_written(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "m")
    again = load(folder).card.model_dump(mode="json", by_alias=True)
    (folder / "card.json").write_text(json.dumps(again))
    assert load(folder).card.operating_point.pass_below == -1.0


def test_a_machine_may_have_a_machine_model(tmp_path: Path) -> None:
    model = load(add_machine_model(make_model(tmp_path / "m"), "A/AXI-2", weight=5.0))
    assert model.for_machine("A/AXI-3") is model
    own = model.for_machine("A/AXI-2")
    assert own.network != model.network
    assert own.digest == model.digest  # a record names the whole model


def test_a_changed_machine_model_is_refused(tmp_path: Path) -> None:
    folder = add_machine_model(make_model(tmp_path / "m"), "A/AXI-2")
    card = json.loads((folder / "machine-1" / "card.json").read_text())
    (folder / "machine-1" / "card.json").write_text(json.dumps(card | {"version": "2"}))
    with pytest.raises(ModelFault, match="machine-1"):
        load(folder)
    (folder / "machine-1" / "card.json").unlink()
    with pytest.raises(ModelFault, match="machine-1"):
        load(folder)


def test_a_network_of_a_machine_lies_below_the_card(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "m", machines={"A/AXI-2": {"folder": "../n", "card": "0" * 64}})
    with pytest.raises(ModelFault, match="beside the card"):
        load(folder)


def test_the_folder_of_the_environment_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_listed_model(tmp_path / "mine")
    (tmp_path / "current.json").write_text('{"schema": "inspect-pop-models/1", "current": "mine"}')
    monkeypatch.setenv("INSPECT_POP_MODELS", str(tmp_path))
    assert find_current_model() == tmp_path / "mine"
    assert load(None).folder == load(tmp_path).folder == tmp_path / "mine"


def test_none_there_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INSPECT_POP_MODELS", str(tmp_path))
    with pytest.raises(ModelFault, match="found neither"):
        load(None)
