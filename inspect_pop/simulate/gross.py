"""Defects that anybody would see: thick bridges, puddles, stray balls, huge voids, missing, halved, torn and displaced balls.

They take the place of sound joints, each with sound joints between it and the next, and are as coarse as what trials paint into
real pictures; the varieties of `bodies` are graded near the classes' thresholds instead. A joint beside a stray ball, and one
with a huge void, is of class good: acceptance criteria must stop it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace

import numpy as np
from numpy.typing import NDArray

from inspect_pop.simulate.bodies import STARVED_BELOW, Bodies
from inspect_pop.simulate.scene import Population, Spurs, Voids

__all__ = ["CUT", "GROSS", "add_gross_defects"]

Floats = NDArray[np.float64]
_NEIGHBOUR = 1.05  # joints within this many pitches are neighbours
_SPACING = 1.5  # pitches around a gross defect whose joints stay as they are
_TRIES = 30  # times that the next place is drawn before the board counts as full


@dataclass
class Workpiece:
    """A population on which gross defects are put one by one."""

    rng: np.random.Generator
    of: Population
    label: NDArray[np.object_]
    variety: NDArray[np.object_]
    parts: Floats
    sagitta: Floats
    dx_um: Floats
    dy_um: Floats
    gap_um: Floats
    volume_ratio: Floats
    web_um: Floats
    emptied: NDArray[np.bool_]  # joints whose voids of before are gone
    voids: list[tuple[float, ...]] = field(default_factory=list)
    spurs: list[tuple[float, ...]] = field(default_factory=list)

    def find_neighbours(self, joint: int) -> NDArray[np.intp]:
        """Return the joints one pitch away."""
        x, y = self.of.interface.x_um, self.of.interface.y_um
        distance = np.hypot(x - x[joint], y - y[joint])
        return np.flatnonzero((distance > 0) & (distance <= _NEIGHBOUR * self.of.interface.pitch_um))

    def find_radius(self, joint: int) -> float:
        """Return the widest radius of a joint as it was."""
        u = np.linspace(0.02, 0.98, 33) * self.of.bodies.standoff[joint]
        return float(self.of.bodies.radius_at(np.broadcast_to(u, (len(self.label), 33)))[joint].max())

    def find_vector(self, joint: int, other: int) -> tuple[float, float]:
        """Return the vector from one joint's axis to another's."""
        interface = self.of.interface
        return (
            float(interface.x_um[other] + self.dx_um[other] - interface.x_um[joint] - self.dx_um[joint]),
            float(interface.y_um[other] + self.dy_um[other] - interface.y_um[joint] - self.dy_um[joint]),
        )

    def mark(self, joints: list[int], label: str, variety: str) -> None:
        """Give joints their class and variety."""
        self.label[joints], self.variety[joints] = label, variety

    def add_solder(self, joint: int, ends: tuple[float, float, float, float], width_um: float, height: float) -> None:
        """Add a capsule between two points relative to a joint's axis, at any height; `height`: extent over stand-off."""
        standoff = float(self.of.bodies.standoff[joint])
        semi = height * standoff / 2
        u = float(self.rng.uniform(semi, standoff - semi))
        self.spurs.append((joint, *ends, width_um, 1.0, 1.0, u, semi))

    def cut(self, joint: int, distance: float, angle: float, radius: float) -> None:
        """Take a sphere's solder out of a joint: centre at a distance from its axis, at half height."""
        self.emptied[joint] = True
        u = float(self.of.bodies.standoff[joint]) / 2
        self.voids.append((joint, distance * np.cos(angle), distance * np.sin(angle), u, radius))


def _join(work: Workpiece, joint: int, variety: str, widths: tuple[float, float]) -> bool:
    near = work.find_neighbours(joint)
    if not len(near):
        return False
    other = int(work.rng.choice(near))
    width = float(work.rng.uniform(*widths)) * work.of.interface.ball_diameter_um
    work.add_solder(joint, (0.0, 0.0, *work.find_vector(joint, other)), width, float(work.rng.uniform(0.5, 0.9)))
    work.mark([joint, other], "bridged", variety)
    work.web_um[[joint, other]] = width
    return True


def join_thickly(work: Workpiece, joint: int) -> bool:
    """Join two balls by one of a ball's width."""
    return _join(work, joint, "bridge_thick", (0.6, 1.0))


def join_widely(work: Workpiece, joint: int) -> bool:
    """Join two balls by solder wider than they are."""
    return _join(work, joint, "bridge_wide", (1.0, 1.5))


def flood(work: Workpiece, joint: int) -> bool:
    """Flood four balls of a square."""
    near = work.find_neighbours(joint)
    for first in work.rng.permutation(near).tolist():
        (ax, ay) = work.find_vector(joint, first)
        for second in near.tolist():
            (bx, by) = work.find_vector(joint, second)
            fourth = [k for k in work.find_neighbours(first).tolist() if k != joint and k in work.find_neighbours(second)]
            if abs(ax * bx + ay * by) > 0.1 * np.hypot(ax, ay) * np.hypot(bx, by) or not fourth:
                continue
            width = float(work.rng.uniform(1.5, 2.0)) * work.of.interface.pitch_um
            x, y = (ax + bx) / 2, (ay + by) / 2
            work.add_solder(joint, (x, y, x + 0.1, y), width, float(work.rng.uniform(0.5, 0.9)))
            four = [joint, first, second, fourth[0]]
            work.mark(four, "bridged", "puddle")
            work.web_um[four] = width
            return True
    return False


def leave_stray_ball(work: Workpiece, joint: int) -> bool:
    """Leave a ball between two others: it touches one, both or none, with next to no room left."""
    near = work.find_neighbours(joint)
    if not len(near):
        return False
    other = int(work.rng.choice(near))
    x, y = work.find_vector(joint, other)
    room = max(float(np.hypot(x, y)) - work.find_radius(joint) - work.find_radius(other), 40.0)
    width = room * float(work.rng.uniform(0.65, 1.6))
    at = work.find_radius(joint) + room / 2
    x, y = x / float(np.hypot(x, y)) * at, y / float(np.hypot(x, y)) * at
    standoff = float(work.of.bodies.standoff[joint])
    work.add_solder(joint, (x, y, x + 0.1, y), width, min(width / standoff, 0.95))
    work.mark([joint, other], "bridged" if width >= room else "good", "stray")
    return True


def blow_void(work: Workpiece, joint: int) -> bool:
    """Leave a void of 35 to 60 % of the ball's picture."""
    widest = work.find_radius(joint)
    radius = widest * float(np.sqrt(work.rng.uniform(0.35, 0.6)))
    offset = float(work.rng.random()) * max(widest - radius - 8, 0.0)
    work.cut(joint, offset, float(work.rng.uniform(0, 2 * np.pi)), radius)
    work.mark([joint], "good", "void_huge")
    return True


def remove_ball(work: Workpiece, joint: int) -> bool:
    """Take the ball away."""
    work.parts[joint], work.sagitta[joint], work.emptied[joint] = 0.0, np.nan, True
    work.gap_um[joint], work.volume_ratio[joint] = work.of.bodies.standoff[joint], 0.0
    work.mark([joint], "open", "ball_missing")
    return True


def halve(work: Workpiece, joint: int) -> bool:
    """Take away one side of the ball."""
    widest = work.find_radius(joint)
    radius = widest * float(work.rng.uniform(0.85, 1.05))
    room = work.of.interface.pitch_um - widest - radius  # the neighbours stay whole
    distance = min(widest * float(work.rng.uniform(0.65, 0.9)), room)
    work.cut(joint, distance, float(work.rng.uniform(0, 2 * np.pi)), radius)
    return _starve(work, joint, "half")


def tear(work: Workpiece, joint: int) -> bool:
    """Tear pieces out of the ball's outline."""
    widest, first = work.find_radius(joint), float(work.rng.uniform(0, 2 * np.pi))
    for k in range(3):
        angle = first + 2 * np.pi * k / 3 + float(work.rng.normal(0, 0.25))
        work.cut(joint, widest * float(work.rng.uniform(0.8, 1.0)), angle, widest * float(work.rng.uniform(0.55, 0.7)))
    return _starve(work, joint, "torn")


def _starve(work: Workpiece, joint: int, variety: str) -> bool:
    """Mark a joint by what its cuts leave of its volume."""
    standoff = float(work.of.bodies.standoff[joint])
    u = (np.arange(24) + 0.5) / 24 * standoff
    body = work.of.bodies.radius_at(np.broadcast_to(u, (len(work.label), 24)))[joint]
    side = np.linspace(-1, 1, 61) * body.max()
    inside = np.hypot(side[:, None], side[None, :]) <= body[:, None, None]
    left = inside.copy()
    for of, x, y, centre, radius in work.voids:
        if of == joint:
            squared = (side[:, None] - x) ** 2 + (side[None, :] - y) ** 2 + (u[:, None, None] - centre) ** 2
            left &= squared > radius**2
    work.volume_ratio[joint] *= left.sum() / max(inside.sum(), 1)
    work.mark([joint], "starved" if work.volume_ratio[joint] < STARVED_BELOW else "good", variety)
    return True


def displace(work: Workpiece, joint: int) -> bool:
    """Push the ball off its pads, where it may touch others."""
    interface = work.of.interface
    shift = max(float(work.rng.uniform(0.3, 0.45)) * interface.pitch_um, interface.pad_diameter_um / 2)
    angle = float(work.rng.uniform(0, 2 * np.pi))
    work.dx_um[joint] += shift * np.cos(angle)
    work.dy_um[joint] += shift * np.sin(angle)
    touched = [
        other
        for other in work.find_neighbours(joint).tolist()
        if np.hypot(*work.find_vector(joint, other)) < work.find_radius(joint) + work.find_radius(other)
    ]
    work.mark([joint, *touched], "bridged" if touched else "open", "displaced")
    return True


CUT = ("half", "torn")  # their voids are solder cut away, no gas
# Each puts one defect at a joint, or returns False where there is no room for it.
GROSS: dict[str, Callable[[Workpiece, int], bool]] = {
    "bridge_thick": join_thickly,
    "bridge_wide": join_widely,
    "puddle": flood,
    "stray": leave_stray_ball,
    "void_huge": blow_void,
    "ball_missing": remove_ball,
    "half": halve,
    "torn": tear,
    "displaced": displace,
}


def add_gross_defects(rng: np.random.Generator, population: Population, share: float) -> Population:
    """Return the population with gross defects, all kinds in turn, until `share` of its joints are among them or no room is left.

    They are put among sound joints only. `variety` names each one's kind, a key of `GROSS`.
    """
    bodies = population.bodies
    work = Workpiece(
        rng,
        population,
        population.label.copy(),
        population.variety.copy(),
        bodies.parts.copy(),
        bodies.sagitta.copy(),
        population.dx_um.copy(),
        population.dy_um.copy(),
        population.gap_um.copy(),
        population.volume_ratio.copy(),
        population.web_um.copy(),
        np.zeros(len(population.label), bool),
    )
    sound = population.variety.astype(str) == "plain"
    wanted = round(share * len(sound))
    kinds = list(rng.permutation(list(GROSS)))
    done = 0
    while done < wanted:
        placed = False
        for joint in rng.permutation(np.flatnonzero(sound))[:_TRIES].tolist():
            x, y = population.interface.x_um, population.interface.y_um
            around = np.hypot(x - x[joint], y - y[joint]) <= 1.5 * population.interface.pitch_um
            if not sound[around].all():
                continue
            if GROSS[kinds[0]](work, joint):
                changed = np.flatnonzero(work.variety != population.variety)
                done = len(changed)
                for at in changed[sound[changed]].tolist():
                    sound &= np.hypot(x - x[at], y - y[at]) > _SPACING * population.interface.pitch_um
                placed = True
                break
        if not placed:
            break
        kinds.append(kinds.pop(0))
    return _finish(work)


def _finish(work: Workpiece) -> Population:
    """Return the population that the work has made."""
    stays = ~work.emptied[work.of.voids.joint]
    voids = np.array(work.voids, float).reshape(-1, 5)
    spurs = np.array(work.spurs, float).reshape(-1, 10)
    new_voids = Voids(voids[:, 0].astype(np.int64), *voids[:, 1:].T)
    new_spurs = Spurs(spurs[:, 0].astype(np.int64), spurs[:, 1:5], spurs[:, 5], spurs[:, 6:8], spurs[:, 8], spurs[:, 9])
    all_voids = [np.concatenate([getattr(work.of.voids, f.name)[stays], getattr(new_voids, f.name)]) for f in fields(Voids)]
    all_spurs = [np.concatenate([getattr(work.of.spurs, f.name), getattr(new_spurs, f.name)]) for f in fields(Spurs)]
    bodies: Bodies = replace(work.of.bodies, parts=work.parts, sagitta=work.sagitta)
    return replace(
        work.of,
        label=work.label,
        variety=work.variety,
        bodies=bodies,
        dx_um=work.dx_um,
        dy_um=work.dy_um,
        gap_um=work.gap_um,
        volume_ratio=work.volume_ratio,
        web_um=work.web_um,
        voids=Voids(*all_voids),
        spurs=Spurs(*all_spurs),
    )
