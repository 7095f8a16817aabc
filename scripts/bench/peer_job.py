"""The plain peer that does the same job as `inspect_board`: from an export's folder to a table of joints and a record.

It is written as an engineer would write it in a notebook: files and digests, the package in each picture, every joint in every
slice, voids, free space to the neighbours, volume, stand-offs, domes, warpage, crops at the measured places, a torchvision
ResNet18 in eager torch, two thresholds, a table with the contract's column names. It leaves out: the slices' true heights, lost
or repeated slices, saturation, the blur of the X-ray in diameters, calibrated probabilities, crops unlike the training data, a
bridge's partner, pictures turned by 180 degrees (except by the pin-1 mark), the process cause, pictures for the page, and every
check of the files except their digests. A package that it does not find is an error.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
import pandas as pd
import peer_heights as heights
import peer_slices as slices
import tifffile
import torch
from numpy.typing import NDArray

from inspect_pop.core.classes import CLASSES

__all__ = ["Inspected", "Point", "inspect", "log_odds"]

BATCH = 64
_VOLUME_LIMIT = 4 / 3


@dataclass(frozen=True)
class Point:
    """A joint passes below one threshold of its log-odds to be defective and fails from the other on."""

    pass_below: float = 0.0
    fail_above: float = 0.0


@dataclass
class Inspected:
    """What comes out: a row a joint, the board's record, and seconds of processor time by step."""

    joints: pd.DataFrame
    record: dict[str, Any]
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time what is inside."""
        start = process_time()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + process_time() - start


def inspect(board: Path, net: Any, batched: bool, point: Point = Point()) -> Inspected:
    """One board, all of it."""
    done = Inspected(pd.DataFrame(), {})
    with done.step("read"):
        manifest = json.loads((board / "export.json").read_text())
        recipe_path = board / manifest["recipe"]
        recipe = json.loads(recipe_path.read_text())
        images = [(entry, _pixels(board / entry["file"], entry.get("sha256"))) for entry in manifest["images"]]
    tables, packages = [], []
    for package in recipe["packages"]:
        mine = [(entry, values) for entry, values in images if entry["refdes"] == package["refdes"]]
        table, found = _package(package, recipe_path.parent, mine, net, batched, done)
        tables.append(table)
        packages.append(found)
    with done.step("decide"):
        joints = pd.concat(tables, ignore_index=True)
        joints.insert(0, "serial", manifest["serial"])
        _decide(joints, point, turned=any(p["turned"] for p in packages))
        done.joints, done.record = joints, _record(manifest, recipe, joints, packages)
    return done


def _pixels(path: Path, digest: str | None) -> NDArray[Any]:
    if digest and hashlib.sha256(path.read_bytes()).hexdigest() != digest:
        raise ValueError(f"{path} is not the file that was written")
    return tifffile.imread(path)


def _package(
    package: dict[str, Any],
    folder: Path,
    images: list[tuple[dict[str, Any], NDArray[Any]]],
    net: Any,
    batched: bool,
    done: Inspected,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """All rows of one package, and what is said of it."""
    with done.step("read"):
        drawn = {i["name"]: (i, pd.read_csv(folder / i["joints"], dtype={"ball": str})) for i in package["interfaces"]}
        designs = {name: _design(i, table) for name, (i, table) in drawn.items()}
    with done.step("heights"):
        maps = {e["stage"]: heights.HeightMap.of(values, e) for e, values in images if e["kind"] == "height_map"}
        moves = {stage: heights.find_body(found) for stage, found in maps.items()}
        tops = {stage: heights.measure_top(found, moves[stage], tuple(package["body_um"])) for stage, found in maps.items()}
        after, before = tops.get("post_reflow"), tops.get("pre_stack")
        gaps = {name: np.full(len(d.places), np.nan) for name, d in designs.items()}
        if after is not None:
            gaps = heights.standoffs_um(designs, after, before, package["stack_height_um"])
        domes = {}
        if before is not None and "upper" in designs:
            domes["upper"] = heights.domes_um(maps["pre_stack"], moves["pre_stack"], before, designs["upper"])
    tables = []
    for entry, values in images:
        if entry["kind"] == "xray_slices":
            name = entry["interface"]
            sizes, joints = drawn[name]
            table, move = _interface(values, entry, sizes, designs[name], gaps[name], net, batched, done)
            table = table.assign(refdes=package["refdes"], interface=name, ball=joints["ball"], dome_um=domes.get(name, np.nan))
            tables.append(table)
    found = {"refdes": package["refdes"], "offset_x_um": move.translation[0], "offset_y_um": move.translation[1]}
    found["rotation_deg"] = float(np.degrees(move.rotation))
    found["warpage_um"] = after.warpage_um if after else np.nan
    found["stack_height_um"] = after.height_um if after else np.nan
    corner = package.get("a1_corner", "upper_left")
    found["turned"] = after is not None and heights.find_pin1_corner(after, tuple(package["body_um"])) != corner
    return pd.concat(tables, ignore_index=True), found


def _design(interface: dict[str, Any], table: pd.DataFrame) -> slices.Design:
    places = table[["x_um", "y_um"]].to_numpy(float)
    return slices.Design(places, interface["pitch_um"], interface["pad_diameter_um"], tuple(interface["pads_z_um"]))


def _interface(
    values: NDArray[Any],
    entry: dict[str, Any],
    sizes: dict[str, Any],
    design: slices.Design,
    gap: NDArray[np.float64],
    net: Any,
    batched: bool,
    done: Inspected,
) -> tuple[pd.DataFrame, Any]:
    """The rows of one interface, and where the package lies in its slices."""
    with done.step("scale"):
        pages = slices.scale_grey(values, entry["polarity"] == "solder_dark")
        stack = slices.Stack(pages, np.array(entry["z_um"]), entry["pixel_um"], tuple(entry["origin_um"]))
    with done.step("bodies"):
        ball = sizes["ball_diameter_um"] / stack.pixel_um
        bodies = [slices.bodies_of(page, ball) for page in pages]
    with done.step("find"):
        move = slices.find_package(bodies[stack.middle], stack, design)
    with done.step("measure"):
        measured = slices.measure(stack, bodies, move, design)
        volume = slices.volume_ratio(measured["diameter"], stack, design, gap)
    with done.step("voids"):
        voids = slices.void_fraction(stack, bodies, move, design)
    with done.step("free space"):
        clearance = slices.clearance_um(stack, move, design)
    with done.step("crops"):
        cut = slices.crops(stack, move, design)
    with done.step("network"):
        p, odds = _classify(net, cut, batched)
    with done.step("table"):
        table = _columns(measured, stack, move, design)
        table |= {"volume_ratio": volume, "void_fraction": voids, "standoff_um": gap, "clearance_um": clearance, "log_odds": odds}
        table |= {f"p_{name}": p[:, k] for k, name in enumerate(CLASSES)}
    return pd.DataFrame(table), move


def _columns(measured: dict[str, Any], stack: slices.Stack, move: Any, design: slices.Design) -> dict[str, NDArray[Any]]:
    """The contract's columns of what was measured in the slices."""
    diameter, offset, mid = measured["diameter"], measured["offset"], stack.middle
    off = np.where(np.isfinite(offset[:, mid]), offset[:, mid], 0)
    place = move.inverse(move(design.places) + off)
    away = place - design.places
    shear = offset[:, -1] - offset[:, 0]
    named = {"diameter_um": mid, "diameter_low_um": 0, "diameter_high_um": -1}
    columns = {"x_um": place[:, 0], "y_um": place[:, 1], "dx_um": away[:, 0], "dy_um": away[:, 1]}
    columns |= {"shear_x_um": shear[:, 0], "shear_y_um": shear[:, 1]}
    columns |= {name: diameter[:, k] for name, k in named.items()}
    inner = diameter[:, 1:-1] if diameter.shape[1] > 2 else diameter
    columns["waist"] = inner.min(axis=1) / np.maximum(diameter.max(axis=1), 1e-6)
    columns |= {"roundness": measured["roundness"][:, mid], "grey": measured["grey"][:, mid]}
    z = {"z_low": 0, "z_mid": mid, "z_high": -1}
    return columns | {name: heights.against_neighbours(diameter[:, k], design)[1] for name, k in z.items()}


def _classify(net: Any, crops: NDArray[np.float32], batched: bool) -> tuple[NDArray[Any], NDArray[Any]]:
    """Probabilities (n, classes) and log-odds (n,) to be defective."""
    size = BATCH if batched else 1
    with torch.inference_mode():
        images = torch.from_numpy(crops).contiguous(memory_format=torch.channels_last)
        scores = torch.cat([net(images[start : start + size]) for start in range(0, len(images), size)])
        return scores.softmax(1).numpy(), log_odds(scores).numpy()


def log_odds(scores: torch.Tensor) -> torch.Tensor:
    """The network's scores (n, classes) as log-odds (n,) to be defective rather than good."""
    return scores[:, 1:].logsumexp(1) - scores[:, 0]


def _decide(joints: pd.DataFrame, point: Point, *, turned: bool) -> None:
    """Label, verdict and reason of each joint, in place."""
    p, odds = joints[[f"p_{c}" for c in CLASSES]].to_numpy(), joints["log_odds"].to_numpy()
    passes, fails = odds < point.pass_below, odds >= max(point.fail_above, point.pass_below)
    label = np.where(passes, 0, np.where(fails, 1 + p[:, 1:].argmax(axis=1), p.argmax(axis=1)))
    joints["label"] = np.array(CLASSES)[label]
    joints["verdict"] = np.where(fails, "fail", np.where(passes & (not turned), "pass", "review"))
    joints["reason"] = np.where(joints["verdict"] != "review", "", "pictures lie turned" if turned else "between the thresholds")


def _record(
    manifest: dict[str, Any], recipe: dict[str, Any], joints: pd.DataFrame, packages: list[dict[str, Any]]
) -> dict[str, Any]:
    """The board's record as far as it can be had."""
    counts = joints["label"].value_counts()
    failed = joints[joints["verdict"] == "fail"]
    review = int((joints["verdict"] == "review").sum())
    verdict = "fail" if len(failed) else "review" if review else "pass"
    rework = "rework_memory" if set(failed["interface"]) == {"upper"} else "rework_stack"
    defects = int(counts.drop("good", errors="ignore").sum())
    names = ("serial", "panel", "position", "product", "lot", "work_order", "line", "station", "inspected_at")
    return {
        **{name: manifest.get(name) for name in names},
        "recipe": recipe["name"],
        "verdict": verdict,
        "n_joints": len(joints),
        **{f"n_{name}": int(counts.get(name, 0)) for name in CLASSES},
        "n_review": review,
        "n_excess": int((joints["volume_ratio"] > _VOLUME_LIMIT).sum()),
        "fpy": int(verdict == "pass"),
        "dpmo": 1e6 * defects / (len(joints) + 4 * len(packages)),
        "disposition": {"pass": "ship", "review": "review"}.get(verdict, rework),
        "missing": "",
        "packages": packages,
    }
