"""Small CAD files and pictures of arrays for the tests of recipes, and where the shared samples are."""

from pathlib import Path

import cv2
import numpy as np
import pytest

SHARED = Path(__file__).resolve().parents[3] / "shared"


def shared(name: str) -> Path:
    """A file of the shared samples; the test is skipped where it is not."""
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"{path} is not here")
    return path


def picture(
    places: np.ndarray, size: tuple[int, int] = (290, 350), *, radius: float = 9.0, dark: bool = False, noise: float = 3.0
) -> np.ndarray:
    """8-bit picture of balls at places (n, 2), column and row in pixels."""
    row, col = np.mgrid[: size[0], : size[1]].astype(float)
    cover = np.zeros(size)
    for x, y in places:
        cover = np.maximum(cover, np.clip(radius - np.hypot(col - x, row - y) + 0.5, 0, 1))
    cover = cv2.GaussianBlur(cover, (0, 0), 1.2)
    grey = (200 - 120 * cover) if dark else (50 + 150 * cover)
    return np.clip(grey + np.random.default_rng(1).normal(0, noise, size), 0, 255).astype(np.uint8)


def grid(
    columns: int, rows: int, pitch: float = 26.0, at: tuple[float, float] = (60.0, 60.0), turn_deg: float = 0.0
) -> np.ndarray:
    """Places (rows * columns, 2) of a full array, row by row, turned clockwise in the picture about its first ball."""
    x, y = (axis.ravel() * pitch for axis in np.meshgrid(np.arange(columns), np.arange(rows)))
    c, s = np.cos(np.radians(turn_deg)), np.sin(np.radians(turn_deg))
    return np.column_stack([at[0] + c * x - s * y, at[1] + s * x + c * y])


FOOTPRINT = """(footprint "BGA-9_3.0x3.0mm_Layout3x3_P0.8mm_Ball0.4mm_Pad0.4mm" (version 20221018) (generator pcbnew)
  (layer "F.Cu")
  (fp_text reference "REF**" (at 0 -2) (layer "F.SilkS"))
  (fp_line (start -1.5 -1.5) (end 1.5 -1.5) (layer "F.Fab") (width 0.1))
  (fp_line (start 1.5 -1.5) (end 1.5 1.5) (layer "F.Fab") (width 0.1))
  (pad "" smd circle (at 0 0) (size 0.3 0.3) (layers "F.Paste"))
%s)
"""


def footprint(margin: str = "") -> str:
    """A KiCad footprint of nine balls, A1 upper left; y points down in the file."""
    rest = f'(size 0.4 0.4) {margin}(layers "F.Cu" "F.Mask"))'
    pads = [
        f'  (pad "{"ABC"[r]}{c + 1}" smd circle (at {(c - 1) * 0.8:g} {(r - 1) * 0.8:g}) {rest}'
        for r in range(3)
        for c in range(3)
    ]
    return FOOTPRINT % "\n".join(pads)


def board(turn: float = 90.0, layer: str = "F.Cu") -> str:
    """A KiCad board with that footprint as U7 at (50, 40), and a resistor."""
    part = footprint().replace('(layer "F.Cu")', f'(layer "{layer}") (at 50 40 {turn:g})', 1).replace("REF**", "U7")
    resistor = '(footprint "R_0402" (layer "F.Cu") (at 1 1) (fp_text reference "R1")'
    resistor += ' (pad "1" smd rect (at 0 0) (size 1 1) (layers "F.Cu")))'
    return f"(kicad_pcb (version 20221018)\n{part}\n{resistor}\n)"


def netlist(access: str = "01", turn: int = 0) -> str:
    """An IPC-D-356A netlist with an array of 12 balls at a pitch of 0.4 mm as U4, in 0.0001 inch, and a resistor."""
    lines = ["P  JOB   test", "P  UNITS CUST 0", "327GND              R1    -1          A01X+000100Y+000100X0200Y0200R000 S1"]
    for r in range(3):
        for c in range(4):
            x, y = (c, -r) if turn == 0 else (r, c)  # turned by 90 degrees counter-clockwise
            at = f"X{round((10_000 + 400 * x) / 2.54):+07d}Y{round((20_000 + 400 * y) / 2.54):+07d}"
            lines.append(f"327NET{r}{c}            U4    -{'ABC'[r]}{c + 1}          A{access}{at}X0090Y    R000 S1")
    return "\r\n".join([*lines, "999", ""])


def ipc2581(rotation: str = "90.000", units: str = "MILLIMETER") -> str:
    """An IPC-2581 board with nine balls as U1, turned."""
    scale = {"MILLIMETER": 1.0, "INCH": 1 / 25.4}[units]
    circle = '<StandardPrimitiveRef id="C1"/>'
    pins = "".join(
        f'<Pin number="{"ABC"[r]}{c + 1}"><Location x="{(c - 1) * scale:.6f}" y="{(1 - r) * scale:.6f}"/>{circle}</Pin>'
        for r in range(3)
        for c in range(3)
    )
    corners = ((-2, -2), (2, -2), (2, 2.5), (-2, 2.5))
    outline = "".join(
        f'<{"PolyBegin" if not k else "PolyStepSegment"} x="{x * scale}" y="{y * scale}"/>' for k, (x, y) in enumerate(corners)
    )
    circles = f'<EntryStandard id="C1"><Circle diameter="{0.5 * scale}"/></EntryStandard>'
    return (
        '<?xml version="1.0"?><IPC-2581 revision="C" xmlns="http://webstds.ipc.org/2581"><Content>'
        f'<DictionaryStandard units="{units}">{circles}</DictionaryStandard></Content>'
        f'<Ecad><CadHeader units="{units}"/><CadData><Step>'
        f'<Package name="BGA_9"><Outline><Polygon>{outline}</Polygon></Outline>{pins}</Package>'
        f'<Component refDes="U1" packageRef="BGA_9" layerRef="TOP" part="P"><Xform rotation="{rotation}"/>'
        '<Location x="1" y="1"/></Component></Step></CadData></Ecad></IPC-2581>'
    )
