#!/usr/bin/env python3
"""Train the network of the plain peer and compare its accuracy with the released model, on the same boards.

    python scripts/studies/measure_peer.py [LABELLED...] [--work DIR] [--model DIR...] [--minutes M]

scripts/bench/peer_job.py describes the peer. Its network, a torchvision ResNet18 on crops of 64 x 64 pixels and five slices,
is trained on boards of the project's simulator that nothing else uses; the peer's code finds and cuts them. Its
thresholds are chosen on validation boards so that as many good joints are called (fail or review), and as many fail, as by the
first model on the same boards. Both then judge test boards and the LABELLED batches. Boards, crops and weights stay under
--work and are reused.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "bench"))
import one_thread  # noqa: F401

# isort: split
import argparse
import math
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import peer
import peer_job
import peer_slices
import torch
from numpy.typing import NDArray

from inspect_pop.classify.model import Model, load, resolve
from inspect_pop.core.columns import CLASSES, KEY
from inspect_pop.core.statistics import estimate_rate
from inspect_pop.evaluate.evaluation import HEAD, Outcomes, judge, outcomes_of, row
from inspect_pop.ingest import find_exports
from inspect_pop.simulate.board import SimulatedBoard, simulate_batch, simulate_board
from inspect_pop.simulate.catalog import find_machine, find_recipe

ROOT = Path(__file__).resolve().parents[2]
# (machine, product, boards, seed); no other script and no recipe under datasets/ uses these seeds.
TAUGHT = (
    ("line_a", "apx17", 24, 951),
    ("line_a", "pop14", 4, 952),
    ("line_a", "fine5", 12, 953),
    ("line_a", "tst4", 8, 954),
    ("line_b", "apx17", 14, 955),
    ("line_b", "tst4", 8, 956),
    ("worn_tube", "apx17", 10, 957),
)
VALIDATION = (("line_a", "apx17", 4, 941), ("line_b", "apx17", 4, 942), ("worn_tube", "apx17", 4, 943))
# The first kinds of scripts/studies/measure_accuracy.py: the same boards.
TESTED = (
    ("line-a, 12 mm", "line_a", "apx17", 901),
    ("line-a, 14 mm", "line_a", "pop14", 902),
    ("line-a, 350 um pitch", "line_a", "fine5", 903),
    ("line-b", "line_b", "apx17", 904),
    ("worn tube", "worn_tube", "apx17", 905),
)
DEFECT_RATE = 0.22  # as in the last training of the released model
LEARNING_RATE = 1e-3
BATCH = 64
SEED = 1
REPORT = 100  # steps
GOOD_SHARE = 0.62  # of the joints of an epoch, as there, because most good joints are alike


def load_crops(work: Path) -> tuple[NDArray[np.float16], NDArray[np.int64]]:
    """Crops (n, 5, 64, 64) of all simulated boards to learn from, and each joint's class; cut once, kept under `work`."""
    folder = work / "taught"
    folder.mkdir(parents=True, exist_ok=True)
    for machine, product, boards, seed in TAUGHT:
        path = folder / f"{machine}-{product}-{seed}-{boards}.npz"
        if not path.exists():
            made = [_crops_of(machine, product, seed, number) for number in range(boards)]
            images, labels = (np.concatenate(part) for part in zip(*made, strict=True))
            np.savez(path, images=images, labels=labels)
            print(f"{path.stem}: {len(labels)} joints, {(labels > 0).sum()} of them defective", flush=True)
    parts = [np.load(folder / f"{machine}-{product}-{seed}-{boards}.npz") for machine, product, boards, seed in TAUGHT]
    return np.concatenate([p["images"] for p in parts]), np.concatenate([p["labels"] for p in parts])


def _crops_of(machine: str, product: str, seed: int, number: int) -> tuple[NDArray[np.float16], NDArray[np.int64]]:
    random = np.random.default_rng([seed, number])
    board = simulate_board(random, find_recipe(product), find_machine(machine), defect_rate=DEFECT_RATE)
    images, labels = zip(*_by_interface(board), strict=True)
    return np.concatenate(images), np.concatenate(labels)


def _by_interface(board: SimulatedBoard) -> Iterator[tuple[NDArray[np.float16], NDArray[np.int64]]]:
    truth = board.truth
    for slices, interface in zip(board.stacks, board.recipe.packages[0].interfaces, strict=True):
        places = np.column_stack([interface.x_um, interface.y_um])
        design = peer_slices.Design(places, interface.pitch_um, interface.pad_diameter_um, interface.pads_z_um)
        pages = peer_slices.scale_grey(slices.values, slices.polarity == "solder_dark")
        stack = peer_slices.Stack(pages, np.array(slices.z_um), slices.grid.pixel_um, slices.grid.origin_um)
        middle = peer_slices.bodies_of(pages[stack.middle], interface.ball_diameter_um / stack.pixel_um)
        try:
            move = peer_slices.find_package(middle, stack, design)
        except ValueError:  # a package that is not found cannot be cut
            continue
        rows = {ball: k for k, ball in enumerate(truth["ball"]) if truth["interface"][k] == interface.name}
        labels = [CLASSES.index(truth["label"][rows[ball]]) for ball in interface.ball]
        yield peer_slices.crops(stack, move, design).astype(np.float16), np.array(labels)


def train_network(work: Path, minutes: float) -> Any:
    """The peer's network, taught for so long; its weights are kept under `work`."""
    torch.manual_seed(SEED)
    net = peer.network().to(memory_format=torch.channels_last)
    path = work / f"peer-{minutes:g}-minutes.pt"
    if not path.exists():
        fit(net, *load_crops(work), minutes)
        torch.save(net.state_dict(), path)
    net.load_state_dict(torch.load(path))
    return net.eval()


def fit(net: Any, images: NDArray[np.float16], labels: NDArray[np.int64], minutes: float) -> None:
    """Adam, a learning rate that rises and falls with the time that is used up, cross-entropy, flips and quarter turns."""
    random = np.random.default_rng(SEED)
    optimiser = torch.optim.Adam(net.parameters(), LEARNING_RATE)
    net.train()
    began, spent, step, losses, right = time.perf_counter(), time.process_time(), 0, 0.0, 0
    for chosen in batches(labels, random):
        used = (time.perf_counter() - began) / 60 / minutes
        if used >= 1:
            break
        optimiser.param_groups[0]["lr"] = LEARNING_RATE * one_cycle(used)
        batch = torch.from_numpy(rotate_crops(images[chosen], random)).contiguous(memory_format=torch.channels_last)
        truth = torch.from_numpy(labels[chosen])
        scores = net(batch)
        loss = torch.nn.functional.cross_entropy(scores, truth)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        step, losses, right = step + 1, losses + loss.item(), right + int((scores.argmax(1) == truth).sum())
        if step % REPORT == 0:
            mean = f"loss {losses / REPORT:.4f}, right {right / REPORT / BATCH:.4f}"
            print(f"  {100 * used:3.0f} %, {step * BATCH} crops: {mean}", flush=True)
            losses, right = 0.0, 0
    print(f"taught on {step * BATCH} crops in {(time.process_time() - spent) / 60:.1f} minutes of processor time", flush=True)


def batches(labels: NDArray[np.int64], random: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """Rows of one batch after the other, without end: all defective joints, and as many good ones as `GOOD_SHARE` asks for."""
    bad, good = np.flatnonzero(labels > 0), np.flatnonzero(labels == 0)
    n_good = min(len(good), round(len(bad) * GOOD_SHARE / (1 - GOOD_SHARE)))
    while True:
        order = random.permutation(np.concatenate([bad, random.choice(good, n_good, replace=False)]))
        yield from np.split(order[: len(order) // BATCH * BATCH], len(order) // BATCH)


def one_cycle(used: float) -> float:
    """Share of the highest learning rate: a straight rise over the first tenth, then half a cosine."""
    return used / 0.1 + 0.01 if used < 0.1 else 0.5 * (1 + math.cos(math.pi * (used - 0.1) / 0.9))


def rotate_crops(images: NDArray[np.float16], random: np.random.Generator) -> NDArray[np.float32]:
    """Each crop flipped or not, and turned by 0, 90, 180 or 270 degrees."""
    turns, flips = random.integers(0, 4, len(images)), random.random(len(images)) < 0.5
    pairs = zip(images, turns, flips, strict=True)
    return np.stack([np.rot90(x[:, :, ::-1] if flip else x, k, (1, 2)) for x, k, flip in pairs]).astype(np.float32)


def match_point(good_odds: NDArray[Any], called: int, failed: int) -> peer_job.Point:
    """Thresholds by which so many of these good joints are called (fail or review), and so many fail."""
    falling = np.sort(good_odds.astype(float))[::-1]
    falling = np.r_[falling[0] + 2, falling, falling[-1] - 2]
    pass_below, fail_above = ((falling[k] + falling[k + 1]) / 2 for k in (called, failed))
    return peer_job.Point(pass_below, fail_above)


def peer_outcomes(batch: Path, net: Any, point: peer_job.Point) -> tuple[Outcomes, NDArray[Any]]:
    """What the peer says of every labelled joint of a batch, and its log-odds; review where it does not find the package."""
    labels = pd.read_csv(batch / "labels.csv", dtype=str)
    tables = []
    for board, _ in find_exports([batch]):
        try:
            tables.append(peer_job.inspect(board, net, True, point).joints)
        except ValueError as error:
            print(f"  {board.name}: {error}", flush=True)
    joined = labels.rename(columns={"label": "truth"}).merge(pd.concat(tables), on=list(KEY), how="left", validate="one_to_one")
    number = {name: k for k, name in enumerate(CLASSES)}
    text = {name: joined[name].to_numpy(object) for name in ("serial", "refdes", "interface", "ball")}
    outcomes = Outcomes(
        truth=joined["truth"].map(number).to_numpy(np.int8),
        label=joined["label"].map(number).fillna(-1).to_numpy(np.int8),
        verdict=joined["verdict"].fillna("review").to_numpy(object),
        probabilities=joined[[f"p_{c}" for c in CLASSES]].to_numpy(np.float32),
        machine=np.full(len(joined), batch.name, object),
        reason=joined["reason"].fillna("not found").to_numpy(object),
        **text,
    )
    return outcomes, joined["log_odds"].to_numpy()


def simulate_boards(work: Path, machine: str, product: str, boards: int, seed: int) -> Path:
    """A labelled batch, made once; the same bytes as scripts/studies/measure_accuracy.py makes of the same seed."""
    batch = work / f"{machine}-{product}-{seed}-{boards}"
    if not (batch / "labels.csv").exists():
        simulate_batch(batch, boards, seed, machine=machine, product=product)
    return batch


def choose_point(work: Path, net: Any, model: Model) -> peer_job.Point:
    """The peer's thresholds, so that validation boards cost it as many good joints as they cost the model."""
    called = failed = 0
    good_odds = []
    for machine, product, boards, seed in VALIDATION:
        batch = simulate_boards(work, machine, product, boards, seed)
        theirs, _ = outcomes_of([batch], model)
        good = theirs.truth == 0
        called, failed = called + int((theirs.verdict[good] != "pass").sum()), failed + int(theirs.false_call.sum())
        ours, odds = peer_outcomes(batch, net, peer_job.Point())
        good_odds.append(odds[(ours.truth == 0) & np.isfinite(odds)])
    odds = np.concatenate(good_odds)
    point = match_point(odds, called, failed)
    print(f"validation: of {len(odds)} good joints {called} are called and {failed} fail; the peer as many with {point}\n")
    return point


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("labelled", type=Path, nargs="*")
    parser.add_argument("--model", type=Path, nargs="+", default=[ROOT / "models", ROOT / "models" / "pop-joints-5-simulated"])
    parser.add_argument("--work", type=Path, default=Path("out/peer"))
    parser.add_argument("--boards", type=int, default=8, help="test boards of each kind")
    parser.add_argument("--minutes", type=float, default=26, help="to teach the peer")
    options = parser.parse_args()
    torch.set_num_threads(1)
    net = train_network(options.work, options.minutes)
    models = [load(resolve(folder)) for folder in options.model]
    point = choose_point(options.work, net, models[0])
    tested = [
        (kind, simulate_boards(options.work, machine, product, options.boards, seed)) for kind, machine, product, seed in TESTED
    ]
    tested += [(f"{batch.name}, labelled", batch) for batch in options.labelled]
    print(HEAD, "|---" * HEAD.count(" | ") + "|---|", sep="\n")
    gathered: dict[tuple[str, bool], list[Outcomes]] = {}
    peer_odds: dict[bool, list[NDArray[Any]]] = {}
    for kind, batch in tested:
        ours, odds = peer_outcomes(batch, net, point)
        peer_odds.setdefault(batch in options.labelled, []).append(odds)
        found = {"peer": ours} | {m.card.name: outcomes_of([batch], m)[0] for m in models}
        for who, outcomes in found.items():
            print(row(f"{kind}: {who}", judge(outcomes)), flush=True)
            gathered.setdefault((who, batch in options.labelled), []).append(outcomes)
    for (who, labelled), parts in gathered.items():
        whole = Outcomes.concat(parts)
        print(row(f"{'labelled' if labelled else 'simulated'} boards together: {who}", judge(whole)))
    print("\nTogether, with the wider of the exact interval and the one over boards:")
    for (who, labelled), parts in gathered.items():
        print(f"{'labelled' if labelled else 'simulated'}, {who}: {by_board(Outcomes.concat(parts))}")
    for labelled, odds in peer_odds.items():
        ours, theirs = (Outcomes.concat(gathered[who, labelled]) for who in ("peer", models[0].card.name))
        print(f"{'labelled' if labelled else 'simulated'}, {trade(ours, np.concatenate(odds), theirs)}")


def trade(ours: Outcomes, odds: NDArray[Any], theirs: Outcomes) -> str:
    """What other thresholds would make of the peer, chosen on the very test boards: the most that it can do."""
    odds = np.where(np.isfinite(odds), odds, np.inf)
    bad, good = np.sort(odds[ours.truth != 0]), np.sort(odds[ours.truth == 0])
    called = int((theirs.verdict[theirs.truth == 0] != "pass").sum())
    passed = int((bad < (good[::-1][called - 1] if called else np.inf)).sum())
    escaped = int(theirs.escaped.sum())
    needed = int((good >= bad[escaped]).sum())
    return (
        f"the peer with the best threshold: {passed} of {len(bad)} defects pass where {called} of {len(good)} good joints are "
        f"called; as few as the model's {escaped} pass where {needed} ({100 * needed / len(good):.1f} %) are called"
    )


def by_board(o: Outcomes) -> str:
    """Shares of defects and of head-in-pillow that pass, and of good joints that are called."""
    pillow = o.truth == CLASSES.index("head_in_pillow")
    shares = {
        "defects passed": estimate_rate(o.escaped, o.truth != 0, o.board),
        "head-in-pillow passed": estimate_rate(o.escaped, pillow, o.board),
        "good joints called": estimate_rate(np.asarray(o.verdict != "pass"), o.truth == 0, o.board),
    }
    return "; ".join(f"{name} {rate}" for name, rate in shares.items())


if __name__ == "__main__":
    main()
