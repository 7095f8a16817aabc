#!/usr/bin/env python3
"""Measure the whole loop of learning from decisions on a machine that nobody trained for, by the product's doors alone.

    scripts/studies/measure_learning.py [--machine NAME|SEED] [--product NAME] [--boards N] [--sample N] [--work DIR] [--worse]

Boards are inspected; a script that knows the truth judges every suspect and a sample of the joints that passed, as people
would at the verify station; the station's trainer trains from the store; gates decide; the model is promoted; other boards are
inspected with the model before and after; the promotion is rolled back, and the verdicts of before must come again, bit for
bit. With --worse the same is done by a person who calls every second defect good, on all boards but the golden ones: the model
must not be offered.
"""

import argparse
import shutil
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from measure_retraining import NAMED

from inspect_pop import cli
from inspect_pop.classify.model import load, resolve
from inspect_pop.core.classes import GOOD
from inspect_pop.evaluate.comparison import compare_models, find_disagreements, forecast_training
from inspect_pop.evaluate.decision_labels import collect_decision_labels
from inspect_pop.evaluate.promotion import promote
from inspect_pop.evaluate.samples import hash_board
from inspect_pop.ingest.pop_export import Labels, read_labels
from inspect_pop.simulate.board import simulate_batch
from inspect_pop.simulate.catalog import Machine, draw_machine
from inspect_pop.station.trainer import Trainer, TrainingState
from inspect_pop.store import Decision, open_store

TOP = Path(__file__).resolve().parents[2]
TRUTH = "truth-labels.csv"  # where training does not look
GOLDEN_SHARE = 0.25  # of training/configs/retrain.toml
AT = "2026-03-02T12:00:00+00:00"
ODD, _ = NAMED["odd"]


@dataclass(frozen=True)
class LoopResult:
    """What came of one loop: the training's end, the comparison on other boards (None where no model was offered)."""

    state: TrainingState
    lines: tuple[str, ...]
    verdicts_came_again: bool | None
    errors_before: tuple[int, int] | None = None  # escapes, false calls
    errors_after: tuple[int, int] | None = None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=TOP / "models")
    parser.add_argument("--machine", default="odd")
    parser.add_argument("--product", default="tst4")
    parser.add_argument("--boards", type=int, default=12, help="boards to learn from, and as many others to judge by")
    parser.add_argument("--sample", type=int, default=60, help="joints that passed and are looked at, per board")
    parser.add_argument("--work", type=Path, default=Path("out/learning"))
    parser.add_argument("--config", type=Path, help="training configuration")
    parser.add_argument("--worse", action="store_true", help="also try a person who calls every second defect good")
    options = parser.parse_args()
    seed = 0 if options.machine == "odd" else int(options.machine)
    machine = ODD if options.machine == "odd" else draw_machine(np.random.default_rng([7001, seed]))
    for is_wrong in (False, True) if options.worse else (False,):
        print(f"\n## machine {options.machine}, {'a person who errs' if is_wrong else 'a person who knows'}\n", flush=True)
        work = options.work / f"{options.machine}-{options.product}-{options.boards}-{options.sample}-{is_wrong}"
        result = run_loop(machine, work, options, seed=seed, is_wrong=is_wrong)
        print(*result.lines, sep="\n", flush=True)


def run_loop(machine: Machine, work: Path, options: argparse.Namespace, *, seed: int = 0, is_wrong: bool = False) -> LoopResult:
    """Inspect, verify, train, promote, inspect others, roll back."""
    shutil.rmtree(work, ignore_errors=True)
    models = copy_model(resolve(options.model), work / "models")
    taught = simulate(work / "taught", options.boards, 40_000 + seed, machine, options.product)
    others = simulate(work / "others", options.boards, 50_000 + seed, machine, options.product)
    store = work / "records.db"
    open_store(store, verify_sample=options.sample).close()
    inspect(taught, work / "run", models, store)
    lines = [verify(store, taught, is_wrong=is_wrong), *describe(store, models)]
    command = [sys.executable, "-m", "inspect_pop", "train", *(["--config", str(options.config)] if options.config else [])]
    trainer = Trainer(str(store), command=command)
    began = time.monotonic()
    trainer.start(by="Ada", model=resolve(models))
    while trainer.read_state().state == "running":
        time.sleep(1)
    state = trainer.read_state()
    lines.append(f"training: {state.state} after {time.monotonic() - began:.0f} s{f': {state.reason}' if state.reason else ''}")
    if state.state == "failed":
        lines += trainer.read_lines()
    if state.state != "offered":
        return LoopResult(state, tuple(lines), None)
    before, name = inspect(others, work / "others-before", models), resolve(models).name
    change = trainer.install(models, by="Ada")
    trainer.note_promotion(change)
    inspect(others, work / "others-after", models)
    trainer.note_rollback(by="Ada")
    again = inspect(others, work / "others-again", models)
    came_again = before.equals(again) and resolve(models).name == name
    lines.append(f"after rollback the verdicts of before come again, bit for bit: {'yes' if came_again else 'NO'}")
    (others / TRUTH).rename(others / "labels.csv")
    both = {"before": load(models / name), "after": load(Path(change.model))}
    found = compare_models([others], both, processes=1)
    rates = {rate.what: rate for rate in found.rates}
    counts = [tuple(getattr(rates[what], which) for what in ("escapes", "false calls")) for which in ("first", "second")]
    return LoopResult(state, (*lines, *found.lines()), came_again, counts[0], counts[1])


def copy_model(model: Path, models: Path) -> Path:
    """A folder of models with this one in it, as the current one."""
    shutil.copytree(model, models / model.name)
    promote(models, model.name, at=AT, reason="to begin with")
    return models


def simulate(folder: Path, boards: int, seed: int, machine: Machine, product: str) -> Path:
    """A batch whose truth lies where training does not look."""
    simulate_batch(folder, boards, seed, machine=machine, product=product)
    (folder / "labels.csv").rename(folder / TRUTH)
    for name in ("truth.csv", "truth_boards.csv"):
        (folder / name).unlink()
    return folder


def inspect(batch: Path, out: Path, models: Path, store: Path | None = None) -> pa.Table:
    """Inspect a batch by the current model; its joints in order, without what names the run."""
    to = ["--store", str(store)] if store else []
    if cli.main(["run", str(batch), "--out", str(out), "--model", str(models), "--jobs", "1", "--pages", "none", *to]):
        raise SystemExit(f"{batch}: not all boards were inspected")
    return pq.read_table(out / "joints.parquet").sort_by([(c, "ascending") for c in ("serial", "refdes", "interface", "ball")])


def verify(store: Path, batch: Path, *, is_wrong: bool) -> str:
    """Judge every suspect and every joint of the sample, as a person at the station who knows the truth would."""
    truth, count, odd = read_labels(batch / TRUTH), 0, np.random.default_rng(0)
    with open_store(store) as opened:
        for serial in truth.serials:
            (stored,) = opened.board(serial)
            suspects = {(d.refdes, d.interface, d.ball) for d in stored.defects if d.verdict != "pass"}
            for joint in sorted(suspects | set(opened.sample(stored.board.record))):
                label = find_truth(truth, serial, joint)
                if is_wrong and label != GOOD and hash_board(serial, "golden") >= GOLDEN_SHARE and odd.random() < 0.5:
                    label = GOOD
                opened.add_decision(make_decision(stored.board.record, joint, label, is_suspect=joint in suspects))
                count += 1
    return f"{count} joints judged"


def find_truth(truth: Labels, serial: str, joint: tuple[str, ...]) -> str:
    refdes, interface, ball = joint
    return truth[serial, refdes, interface, ball].label


def make_decision(record: str, joint: tuple[str, ...], label: str, *, is_suspect: bool) -> Decision:
    state = (
        {True: "DefectRejected", False: "PassConfirmed"} if label == GOOD else {True: "DefectConfirmed", False: "DefectMissed"}
    )
    given = None if label == GOOD else label
    refdes, interface, ball = joint
    return replace(Decision(record, refdes, interface, ball, state[is_suspect], "Ada", AT), label=given)


def describe(store: Path, models: Path) -> list[str]:
    """The numbers of the disagreements."""
    model = load(models)
    with open_store(store) as opened:
        found = collect_decision_labels(opened)
        return find_disagreements(opened, found, forecast_training(found, model.card, model.folder)).lines(3)


if __name__ == "__main__":
    main()
