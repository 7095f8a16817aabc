"""A machine is qualified by labelled boards of its own that pass the gates, and by nothing less."""

import json
from pathlib import Path
from typing import Any

import pytest

from inspect_pop import cli
from inspect_pop.classify.model import LearntPicture, load
from inspect_pop.core.errors import LabelsFault, UsageFault
from inspect_pop.core.limits import Limits
from inspect_pop.evaluate.promotion import Gates, qualify_machine
from inspect_pop.store import Qualification, open_store
from tests.factories import make_inspection
from tests.learn.conftest import make_batch
from tests.learn.models import make_model

STRICT = Limits(unlike_forbids=1.0)
LARGEST = {"largest_escape_rate": 1, "largest_false_call_ppm": 1e6, "largest_review_share": 1, "largest_calibration_error": 1}
LENIENT = Gates.model_validate({"least_good": 100, **LARGEST})
STRANGE = LearntPicture(machine="A/1", method="laminography", source="a test", low={"sharpness": 4.0}, high={"sharpness": 5.0})


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_batch(tmp_path_factory.mktemp("labelled") / "batch", ["PB-0", "PB-1"])


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stand-in model to which every picture of the batch is unlike, and that names the boards that taught it."""
    folder = tmp_path_factory.mktemp("models") / "learnt"
    return make_model(folder, pictures=[STRANGE.model_dump()], data={"training boards": ["PB-9"]})


def attempt(batch: Path, model: Path, machine: str = "A/AXI-2", **more: Any) -> Qualification:
    return qualify_machine(machine, [batch], model, by="Ada", at="2026-03-02T08:00:00+00:00", gates=LENIENT, **more)


def test_boards_that_pass_the_gates_qualify_their_machine(pair: Path, learnt: Path) -> None:
    made = attempt(pair, learnt, limits=STRICT)
    assert made.passed
    assert (made.machine, made.qualified_by, made.profile) == ("A/AXI-2", "Ada", "ipc-a-610")
    assert [serial for serial, _ in made.boards] == [f"PB-{k}" for k in range(2)]
    assert all(len(digest) == 64 for _, digest in made.boards)
    assert made.holds_for(load(learnt).digest, STRICT.digest)
    assert made.holds_for(load(learnt).digest, Limits(unlike_forbids=0.0).digest)
    assert not made.holds_for(load(learnt).digest, Limits(void_fraction=0.1).digest)
    assert (made.figures["joints"], made.figures["defects"]) == (176, 16)
    assert {"low", "high", "rate"} <= made.figures["escape"].keys()
    assert made.figures["review"]["rate"] < 1  # every picture is unlike what was learnt; a review of everything says nothing


def test_a_gate_that_fails_does_not(pair: Path, learnt: Path) -> None:
    made = qualify_machine("A/AXI-2", [pair], learnt, by="Ada", at="2026-03-02T08:00:00+00:00")
    assert not made.passed
    assert any(not gate["passed"] for gate in made.figures["gates"])


def test_boards_that_taught_the_model_say_nothing(pair: Path, tmp_path: Path) -> None:
    model = make_model(tmp_path / "m", data={"training boards": ["PB-1"]})
    made = attempt(pair, model)
    (gate,) = (gate for gate in made.figures["gates"] if not gate["passed"])
    assert (made.passed, gate["explanation"]) == (False, "1 of 2 taught it")


def test_boards_of_other_machines_do_not_count(tmp_path: Path, learnt: Path) -> None:
    make_batch(tmp_path / "all" / "a", ["PB-1"])
    make_batch(tmp_path / "all" / "b", ["PB-2"], line="B")
    assert attempt(tmp_path / "all", learnt, "B/AXI-2").boards[0][0] == "PB-2"
    with pytest.raises(UsageFault, match="boards of A/AXI-2, B/AXI-2"):
        attempt(tmp_path / "all", learnt, "C/AXI-2")
    (tmp_path / "all" / "b" / "labels.csv").unlink()
    with pytest.raises(LabelsFault):
        attempt(tmp_path / "all", learnt, "B/AXI-2")


def test_the_command_keeps_the_result_and_writes_the_audit_trail(
    pair: Path, learnt: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url, gates = str(tmp_path / "r.db"), tmp_path / "gates.toml"
    with open_store(url) as store:
        digest = load(learnt).digest
        store.write(make_inspection(line="A", station="AXI-2", model_digest=digest, limits_digest=Limits().digest, unlike="x"))
    command = ["machines", "qualify", "A/AXI-2", str(pair), "--store", url, "--model", str(learnt), "--jobs", "1", "--by", "Ada"]
    assert cli.main(command) == 1
    assert "FAILED" in capsys.readouterr().out
    assert cli.main(["machines", "list", "--store", url]) == 1
    assert "unfamiliar" in capsys.readouterr().out
    gates.write_text("\n".join(f"{name} = {value}" for name, value in LENIENT.model_dump().items()))
    assert cli.main([*command, "--gates", str(gates)]) == 0
    assert "A/AXI-2: qualified by Ada" in capsys.readouterr().out
    assert cli.main(["machines", "list", "--store", url, "--json"]) == 0
    (machine,) = json.loads(capsys.readouterr().out)
    assert (machine["state"], machine["qualified_by"], len(machine["last_attempt"]["boards"])) == ("qualified", "Ada", 2)
    with open_store(url) as store:
        trail = [(entry.who, entry.action, entry.subject) for entry in store.list_audit()]
        judged = {limits.digest for limits in (Limits(), Limits(unlike_forbids=0.0))}  # before, and as a qualified machine's
        assert set(store.list_qualified()) == {("A/AXI-2", digest, limits) for limits in judged}
    assert trail == [("Ada", "machine not qualified", "A/AXI-2"), ("Ada", "machine qualified", "A/AXI-2")]
    assert cli.main(["machines", "show", "A/AXI-2", "--store", url]) == 0
    out = capsys.readouterr().out
    assert "too few" in out
    assert max(map(len, out.splitlines())) <= 80
