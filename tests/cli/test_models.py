"""Commands on models: the registry, operating points, and files that come with the program."""

import json
import sys
from pathlib import Path

import pytest

from inspect_pop import cli
from inspect_pop.cli.models import find_shipped_file
from tests.learn.models import make_model

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("first", "second"):
        make_model(tmp_path / name, metrics={"boards": 12, "escape_rate": 0.01 if name == "first" else 0.005})
    return tmp_path


def test_promote_roll_back_and_list(folder: Path, capsys: Captured) -> None:
    for name in ("first", "second"):
        assert cli.main(["models", "promote", name, "--models", str(folder), "--reason", "gates passed"]) == 0
    assert cli.main(["models", "rollback", "--models", str(folder), "--reason", "too many false calls"]) == 0
    capsys.readouterr()
    assert cli.main(["models", "list", "--models", str(folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["* first", "  second"]


def test_list_as_json(folder: Path, capsys: Captured) -> None:
    assert cli.main(["models", "list", "--models", str(folder), "--json"]) == 0
    assert [e["name"] for e in json.loads(capsys.readouterr().out)] == ["first", "second"]


def test_compare(folder: Path, capsys: Captured) -> None:
    assert cli.main(["models", "compare", "first", "second", "--models", str(folder), "--json"]) == 0
    rows = {r["figure"]: r for r in json.loads(capsys.readouterr().out)}
    assert rows["escape_rate"]["better"] == "second"
    assert cli.main(["models", "compare", "first", "second", "--models", str(folder)]) == 0
    assert "escape_rate" in capsys.readouterr().out


def test_the_shipped_models_are_listed_from_any_folder(tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("INSPECT_POP_MODELS", raising=False)
    assert cli.main(["models", "list"]) == 0
    assert "pop-joints-5" in capsys.readouterr().out


def test_a_comparison_of_different_boards_says_so(tmp_path: Path, capsys: Captured) -> None:
    name = "a-long-name-of-a-model"
    make_model(tmp_path / name, metrics={"boards": 64, "escape_rate": 0.01})
    make_model(tmp_path / "b", metrics={"boards": 75, "escape_rate": 0.0097})
    assert cli.main(["models", "compare", name, "b", "--models", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert f"  {name}  " in text.splitlines()[0]
    assert "judged on different boards" in text


def test_two_models_are_compared_on_the_same_boards(folder: Path, small_batch: Path, capsys: Captured) -> None:
    command = ["models", "compare", "first", "second", str(small_batch), "--models", str(folder), "--jobs", "1"]
    assert cli.main([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["boards"], found["joints"], found["learnt_from"]) == (1, 88, [None, None])
    assert "not better than what you have" in found["verdict"]
    assert cli.main(command) == 0
    assert "not better than what you have" in capsys.readouterr().out.splitlines()[-1]
    assert cli.main(["models", "compare", "first", "first", "--models", str(folder)]) == 2


def test_a_model_that_cannot_be_loaded_is_refused(folder: Path, capsys: Captured) -> None:
    (folder / "second" / "model.onnx").write_bytes(b"cut")
    assert cli.main(["models", "promote", "second", "--models", str(folder), "--reason", "x"]) == 2
    assert "sha256" in capsys.readouterr().err


def test_a_promise_that_the_model_cannot_support_is_refused(folder: Path, capsys: Captured) -> None:
    assert cli.main(["operating-point", "--model", str(folder / "first"), "--max-escape-rate", "1e-9", "--json"]) == 2
    assert "expected at least" in capsys.readouterr().err


def test_shipped_files_are_found_in_the_tree_and_in_an_installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = Path("training", "gates.toml")
    assert find_shipped_file(config).is_file()
    installed = tmp_path / "share" / "inspect-pop" / "only-installed.toml"
    installed.parent.mkdir(parents=True)
    installed.touch()
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    assert find_shipped_file(Path("only-installed.toml")) == installed
    assert find_shipped_file(Path("nowhere.toml")) == installed.with_name("nowhere.toml")
