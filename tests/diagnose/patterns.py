"""Boards as a cause leaves them, drawn from the descriptions in the field notes alone: for the rules, not for learning.

A background of defects without a cause lies on every board: opens and head-in-pillow rather where the gap is wide, bridges
in pairs rather where it is narrow, as it is with real joints.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inspect_pop.core.columns import CLASSES, JointTable, concat
from inspect_pop.core.recipe import Interface, Package
from inspect_pop.diagnose import Bulge, PackageState

Floats = NDArray[np.float64]
CLASS_SHARES = {"bridged": 0.3, "open": 0.3, "starved": 0.15, "head_in_pillow": 0.25}


def package(lower_side: int = 26, upper_side: int = 22) -> Package:
    """A full lower array and two peripheral rows above: 676 and 160 joints, as a 12 mm package has them."""
    lower = _interface("lower", lower_side, 400.0, 0, (0.0, 170.0), 230.0)
    upper = _interface("upper", upper_side, 500.0, 2, (520.0, 740.0), 280.0)
    return Package("U1", "POP12-TMV", "tmv", (12000.0, 12000.0), 1350.0, 80.0, (lower, upper))


def _interface(name: str, side: int, pitch: float, rows: int, pads: tuple[float, float], pad: float) -> Interface:
    row, col = (a.ravel() for a in np.mgrid[0:side, 0:side])
    edge = np.minimum.reduce([row, col, side - 1 - row, side - 1 - col])
    keep = edge < rows if rows else np.ones(len(row), bool)
    x, y = (col[keep] - (side - 1) / 2) * pitch, ((side - 1) / 2 - row[keep]) * pitch
    names = tuple(f"R{r + 1}C{c + 1}" for r, c in zip(row[keep], col[keep], strict=True))
    return Interface(name, names, x, y, pitch, 0.6 * pitch, pad, "nsmd", pads, "SAC305")


@dataclass
class _Board:
    """The board while it is drawn: labels and figures by interface."""

    rng: np.random.Generator
    package: Package
    warpage_um: float
    stack_off_um: float
    bulge: Bulge | None
    label: dict[str, NDArray[np.object_]]
    gap: dict[str, Floats]
    volume: dict[str, float]
    shear: dict[str, Floats]

    def put(self, interface: str, label: str, n: int, weight: Floats | None = None) -> None:
        """`n` joints that are still good become `label`, drawn by weight."""
        free = self.label[interface] == "good"
        chance = free * (np.ones(len(free)) if weight is None else weight)
        n = min(n, int((chance > 0).sum()))
        self.label[interface][self.rng.choice(len(free), n, replace=False, p=chance / chance.sum())] = label

    def bridge(self, interface: str, n: int, weight: Floats | None = None, along: str = "xy") -> None:
        """`n` pairs of neighbours become bridged."""
        of = self.package.interface(interface)
        weight = np.ones(len(of.ball)) if weight is None else weight
        for _ in range(n):
            first = int(self.rng.choice(len(weight), p=weight / weight.sum()))
            axis = along if len(along) == 1 else str(self.rng.choice(["x", "y"]))
            step = np.array([of.pitch_um, 0.0] if axis == "x" else [0.0, of.pitch_um]) * self.rng.choice([-1, 1])
            second = np.flatnonzero(np.hypot(of.x_um - of.x_um[first] - step[0], of.y_um - of.y_um[first] - step[1]) < 10)
            if len(second):
                self.label[interface][[first, second[0]]] = "bridged"

    def wide(self, interface: str, power: float) -> Floats:
        """Weight that rises with the gap."""
        gap = self.gap[interface]
        return np.exp(power * (gap - gap.mean()) / max(float(gap.std()), 1e-9))


def draw(
    rng: np.random.Generator, cause: str, background: float = 25.0, of: Package | None = None
) -> tuple[JointTable, Package, PackageState]:
    """One board: its joints, its package and what its height map would tell."""
    board = _plain(rng, of or package())
    _background(board, rng.poisson(background))
    _CAUSES[cause](board)
    shear = board.shear
    state = PackageState(board.warpage_um, board.package.stack_height_um + board.stack_off_um, board.bulge)
    return concat([_table(board, i, shear[i.name]) for i in board.package.interfaces]), board.package, state


def _plain(rng: np.random.Generator, of: Package) -> _Board:
    warpage = float(rng.normal(0, 0.5) * of.warpage_limit_um)
    board = _Board(rng, of, 0.0, float(rng.normal(0, 8)), Bulge(0.0, 0.0, abs(float(rng.normal(2, 1))), 2400.0), {}, {}, {}, {})
    for i in of.interfaces:
        board.label[i.name] = np.full(len(i.ball), "good", object)
        board.volume[i.name] = float(rng.normal(1, 0.05))
        board.shear[i.name] = rng.normal(0, 4, 2)
    _warp(board, warpage)
    return board


def _warp(board: _Board, warpage_um: float) -> None:
    board.warpage_um = warpage_um
    tilt = board.rng.normal(0, 8, 2)
    for i in board.package.interfaces:
        half = board.package.body_um[0] / 2
        bowl = 1 - (i.x_um**2 + i.y_um**2) / half**2
        board.gap[i.name] = i.gap_um + 0.5 * warpage_um * bowl + (tilt[0] * i.x_um + tilt[1] * i.y_um) / half


def _background(board: _Board, n: int) -> None:
    shares = board.rng.dirichlet(np.array(list(CLASS_SHARES.values())) * 20)
    for label, count in zip(CLASS_SHARES, board.rng.multinomial(n, shares), strict=True):
        for i in board.package.interfaces:
            part = round(count * len(i.ball) / sum(len(j.ball) for j in board.package.interfaces))
            if label == "bridged":
                board.bridge(i.name, (part + 1) // 2, board.wide(i.name, -0.7))
            else:
                board.put(i.name, label, part, board.wide(i.name, 0.5) if label != "starved" else None)


def _warpage(board: _Board) -> None:
    rng = board.rng
    _warp(board, float(rng.choice([-1, 1]) * rng.uniform(1.1, 1.9)) * board.package.warpage_limit_um)
    for name in board.gap:
        board.put(name, "head_in_pillow", int(rng.integers(8, 20)), board.wide(name, 2.5))
        board.put(name, "open", int(rng.integers(2, 10)), board.wide(name, 2.5))


def _excess_paste(board: _Board) -> None:
    board.volume["lower"] += board.rng.uniform(0.18, 0.4)
    board.bridge("lower", int(board.rng.integers(8, 20)))


def _insufficient_paste(board: _Board) -> None:
    rng = board.rng
    i = board.package.interface("lower")
    if rng.random() < 0.5:
        board.volume["lower"] -= rng.uniform(0.15, 0.28)
        weight = None
    else:
        centre = rng.uniform(-4000, 4000, 2)
        weight = np.exp(-((i.x_um - centre[0]) ** 2 + (i.y_um - centre[1]) ** 2) / (2 * 900.0**2)) + 1e-9
    board.put("lower", "starved", int(rng.integers(15, 35)), weight)
    board.put("lower", "open", int(rng.integers(2, 8)), weight)


def _shallow_dip(board: _Board) -> None:
    board.volume["upper"] -= board.rng.uniform(0.03, 0.15)
    for label in ("starved", "open", "head_in_pillow"):
        board.put("upper", label, int(board.rng.integers(4, 12)))


def _placement_offset(board: _Board) -> None:
    way = board.rng.uniform(0, 2 * np.pi)
    board.shear["upper"] = board.rng.uniform(25, 60) * np.array([np.cos(way), np.sin(way)])
    board.bridge("upper", int(board.rng.integers(8, 20)), along="x" if abs(np.cos(way)) > abs(np.sin(way)) else "y")


def _oxidised_balls(board: _Board) -> None:
    n = int(board.rng.integers(15, 40))
    sizes = {i.name: len(i.ball) for i in board.package.interfaces}
    for name, size in sizes.items():
        board.put(name, "head_in_pillow", round(n * size / sum(sizes.values())))


def _placement_force(board: _Board) -> None:
    board.stack_off_um = float(board.rng.choice([-1, 1]) * board.rng.uniform(35, 70))
    for name in board.gap:
        if board.stack_off_um < 0:
            board.bridge(name, int(board.rng.integers(4, 10)))
        else:
            board.put(name, "open", int(board.rng.integers(4, 10)))
            board.put(name, "head_in_pillow", int(board.rng.integers(4, 10)))


def _moisture(board: _Board) -> None:
    x, y = board.rng.uniform(-2500, 2500, 2)
    board.bulge = Bulge(float(x), float(y), float(board.rng.uniform(15, 40)), 3000.0)
    for i in board.package.interfaces:
        near = np.exp(-((i.x_um - x) ** 2 + (i.y_um - y) ** 2) / (2 * 1500.0**2)) + 1e-9
        board.put(i.name, "open", int(board.rng.integers(4, 10)), near)
        board.put(i.name, "head_in_pillow", int(board.rng.integers(4, 10)), near)


_CAUSES = {
    "none": lambda board: None,
    "warpage": _warpage,
    "excess_paste": _excess_paste,
    "insufficient_paste": _insufficient_paste,
    "shallow_dip": _shallow_dip,
    "placement_offset": _placement_offset,
    "oxidised_balls": _oxidised_balls,
    "placement_force": _placement_force,
    "moisture": _moisture,
}


def _table(board: _Board, i: Interface, shear: Floats) -> JointTable:
    n, rng, label = len(i.ball), board.rng, board.label[i.name]
    volume = board.volume[i.name] + rng.normal(0, 0.06, n)
    volume[label == "starved"] = rng.uniform(0.35, 0.66, int((label == "starved").sum()))
    return JointTable(
        {
            "serial": ["S"] * n,
            "refdes": ["U1"] * n,
            "interface": [i.name] * n,
            "ball": list(i.ball),
            "label": label,
            **{f"p_{c}": (label == c).astype(float) for c in CLASSES},
            "verdict": np.where(label == "good", "pass", "fail").astype(object),
            "volume_ratio": volume,
            "standoff_um": board.gap[i.name] + rng.normal(0, 1, n),
            "shear_x_um": shear[0] + rng.normal(0, 5, n),
            "shear_y_um": shear[1] + rng.normal(0, 5, n),
        }
    )
