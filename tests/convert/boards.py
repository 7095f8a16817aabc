"""A small board whose planes are drawn from truncated spheres, in the forms that machines write."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from tests.ingest import boards

PADS_UM = {"lower": (0.0, 170.0), "upper": (520.0, 740.0)}
PAD_UM = {"lower": 230.0, "upper": 280.0}
PIXEL_UM = 20.0
SHAPE = (150, 160)


def draw_plane(
    z_um: float, *, interfaces: tuple[str, ...] = ("lower", "upper"), shift_um: tuple[float, float] = (0.0, 0.0)
) -> NDArray[Any]:
    """One plane (150, 160) uint16 of 20 um pixels through the joints of `tests.ingest.boards`, solder bright, with noise."""
    rng = np.random.default_rng(int(1000 + z_um * 10))
    picture = np.full(SHAPE, 8000.0, dtype=np.float32)
    for name in interfaces:
        low, high = PADS_UM[name]
        if low <= z_um <= high:
            radius = np.sqrt((PAD_UM[name] / 2) ** 2 + ((high - low) / 2) ** 2 - (z_um - (low + high) / 2) ** 2) / PIXEL_UM
            for _, x, y in boards.joints(name):
                col, row = (SHAPE[1] - 1) / 2 + (x + shift_um[0]) / PIXEL_UM, (SHAPE[0] - 1) / 2 - (y + shift_um[1]) / PIXEL_UM
                cv2.circle(picture, (round(col * 16), round(row * 16)), round(radius * 16), 30000.0, -1, cv2.LINE_AA, 4)
    return np.rint(cv2.GaussianBlur(picture, (0, 0), 1.0) + rng.normal(0, 150, SHAPE)).astype(np.uint16)


def draw_slices(name: str = "lower") -> NDArray[Any]:
    """The five slices of `tests.ingest.boards.Z_UM`."""
    return np.stack([draw_plane(z, interfaces=(name,)) for z in boards.Z_UM[name]])


def draw_volume(first_um: float = -100.0, step_um: float = 10.0, count: int = 95, **how: Any) -> NDArray[Any]:
    """A volume (count, 150, 160) of both interfaces."""
    return np.stack([draw_plane(first_um + k * step_um, **how) for k in range(count)])


def write_recipe(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tiny.json").write_text(json.dumps(boards.recipe()))
    for name in ("lower", "upper"):
        (folder / f"U1_{name}.csv").write_text(boards.table(name))


def write_map(
    folder: Path, *images: str, path: str = "{serial}_{time:%Y%m%d%H%M%S}", board: str = 'utc_offset = "+01:00"'
) -> Path:
    """A map with these tables of `[[image]]`, and its recipe beside it."""
    write_recipe(folder / "recipes")
    lines = ["[board]", f'path = "{path}"', 'line = "B"', 'station = "XT-1"', 'recipe = "recipes/tiny.json"', board]
    for image in images:
        lines += ["[[image]]", 'refdes = "U1"', image]
    (folder / "map.toml").write_text("\n".join(lines) + "\n")
    return folder / "map.toml"


def slices(files: str, *more: str, interface: str = "lower") -> str:
    """A table `[[image]]` of X-ray slices."""
    return "\n".join(['kind = "xray_slices"', f'interface = "{interface}"', f'files = "{files}"', *more])


def write_pictures(folder: Path, values: NDArray[Any], suffix: str = "png") -> None:
    """One file a plane; ten comes after nine, and sorts before it as text."""
    folder.mkdir(parents=True, exist_ok=True)
    for k, page in enumerate(values):
        assert cv2.imwrite(str(folder / f"slice{k + 8}.{suffix}"), page)


def write_vgi(folder: Path, planes: NDArray[Any], step_um: float = 10.0, **more: str) -> Path:
    """A VGSTUDIO pair; the header names the data by the machine's path."""
    folder.mkdir(parents=True, exist_ok=True)
    planes.astype("<u2").tofile(folder / "scan.vol")
    cols, rows, count = planes.shape[2], planes.shape[1], len(planes)
    fields = {"Size": f"{cols} {rows} {count}", "Name": "D:\\scans\\scan.vol", "BitsPerElement": "16"} | more
    text = "{volume1}\n[file1]\n" + "".join(f"{key} = {value}\n" for key, value in fields.items())
    text += f"[geometry]\nresolution = {PIXEL_UM / 1e3} {PIXEL_UM / 1e3} {step_um / 1e3}\nunit = mm\n"
    (folder / "scan.vgi").write_text(text)
    return folder / "scan.vgi"
