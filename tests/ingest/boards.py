"""A small good board made by hand, and the ways to spoil it that several tests share."""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

SERIAL = "PB2411-000123"
Z_UM = {"lower": [5.0, 45.0, 85.0, 125.0, 165.0], "upper": [525.0, 578.0, 630.0, 682.0, 735.0]}
PITCH_UM = {"lower": 400.0, "upper": 500.0}
SIDE = {"lower": 4, "upper": 3}


def recipe(**changes: Any) -> dict[str, Any]:
    """A package of 2.4 mm with 16 lower and 9 upper joints."""
    package = {
        "refdes": "U1",
        "part": "POP2-TMV",
        "construction": "tmv",
        "body_um": [2400, 2400],
        "stack_height_um": 1350,
        "warpage_limit_um": 60,
        "interfaces": [interface("lower", [0, 170], 250, 230), interface("upper", [520, 740], 300, 280)],
    }
    return {"schema": "pop-recipe/1", "name": "tiny-pop", "revision": 4, "product": "TINY", "packages": [package]} | changes


def interface(name: str, pads_z_um: list[float], ball_um: float, pad_um: float) -> dict[str, Any]:
    return {
        "name": name,
        "joints": f"U1_{name}.csv",
        "pitch_um": PITCH_UM[name],
        "ball_diameter_um": ball_um,
        "pad_diameter_um": pad_um,
        "pad_definition": "nsmd",
        "pads_z_um": pads_z_um,
        "solder": "SAC305",
    }


def joints(name: str) -> list[tuple[str, float, float]]:
    side, pitch_um = SIDE[name], PITCH_UM[name]
    half = (side - 1) / 2
    return [(f"{'ABCD'[r]}{c + 1}", (c - half) * pitch_um, (half - r) * pitch_um) for r in range(side) for c in range(side)]


def table(name: str) -> str:
    return "ball,x_um,y_um\n" + "".join(f"{ball},{x:g},{y:g}\n" for ball, x, y in joints(name))


def manifest() -> dict[str, Any]:
    slices = [
        {
            "kind": "xray_slices",
            "refdes": "U1",
            "interface": name,
            "file": f"xray/U1_{name}.tif",
            "z_um": Z_UM[name],
            "pixel_um": 50.0,
            "origin_um": [-1475.0, 1475.0],
            "polarity": "solder_bright",
            "method": "laminography",
        }
        for name in ("lower", "upper")
    ]
    maps = [
        {
            "kind": "height_map",
            "refdes": "U1",
            "stage": stage,
            "file": f"height/U1_{stage}.tif",
            "pixel_um": 75.0,
            "origin_um": [-1462.5, 1462.5],
            "scale_um": 1.0,
            "offset_um": 0.0,
            "no_data": None,
        }
        for stage in ("pre_stack", "post_reflow")
    ]
    return {
        "schema": "pop-export/1",
        "serial": SERIAL,
        "panel": "PN-07",
        "position": 3,
        "product": "TINY",
        "lot": "L1",
        "work_order": "W1",
        "line": "A",
        "station": "AXI-1",
        "operator": "op1",
        "recipe": "../../recipes/tiny.json",
        "inspected_at": "2026-11-22T08:27:51+01:00",
        "images": [*slices, *maps],
    }


def slices(name: str) -> np.ndarray:
    """(5, 60, 60) uint16: bright discs where the joints are, on noise."""
    rng = np.random.default_rng(len(name) + SIDE[name])
    values = rng.integers(900, 1100, (5, 60, 60)).astype(np.uint16)
    row, col = np.mgrid[0:60, 0:60]
    for _, x_um, y_um in joints(name):
        r, c = (1475.0 - y_um) / 50.0, (x_um + 1475.0) / 50.0
        values[:, (row - r) ** 2 + (col - c) ** 2 < 2.7**2] = 9000
    return values


def heights(stage: str) -> np.ndarray:
    """(40, 40) float32 um: a body above the board, one pixel without data."""
    values = np.zeros((40, 40), np.float32)
    values[4:36, 4:36] = {"pre_stack": 780.0, "post_reflow": 1350.0}[stage]
    values += np.random.default_rng(7).normal(0, 1, values.shape).astype(np.float32)
    values[0, 0] = np.nan
    return values


def write_board(batch: Path, serial_folder: str = "B1") -> Path:
    """The batch's recipe and one board; the board's folder."""
    recipes, board = batch / "recipes", batch / "boards" / serial_folder
    recipes.mkdir(parents=True, exist_ok=True)
    (recipes / "tiny.json").write_text(json.dumps(recipe()))
    for name in ("lower", "upper"):
        (recipes / f"U1_{name}.csv").write_text(table(name))
    (board / "xray").mkdir(parents=True)
    (board / "height").mkdir()
    for name in ("lower", "upper"):
        tifffile.imwrite(board / f"xray/U1_{name}.tif", slices(name), photometric="minisblack", compression="deflate")
    for stage in ("pre_stack", "post_reflow"):
        tifffile.imwrite(board / f"height/U1_{stage}.tif", heights(stage), photometric="minisblack")
    write_json(board / "export.json", manifest() | {"recipe": os.path.relpath(recipes / "tiny.json", board)})
    return board


def write_json(path: Path, document: Any) -> None:
    path.write_text(json.dumps(document))


def edit(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change the object in a JSON file in place."""
    document = json.loads(path.read_text())
    change(document)
    write_json(path, document)


def seal(board: Path) -> None:
    """Write each image's sha256 into the manifest."""

    def change(document: dict[str, Any]) -> None:
        for image in document["images"]:
            image["sha256"] = hashlib.sha256((board / image["file"]).read_bytes()).hexdigest()

    edit(board / "export.json", change)
