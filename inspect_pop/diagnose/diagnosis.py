"""Which cause the pattern of one board points to."""

from collections.abc import Sequence

from inspect_pop.core.joint_table import JointTable
from inspect_pop.core.limits import Limits
from inspect_pop.core.recipe import Package
from inspect_pop.diagnose.cause import Cause, PackageState
from inspect_pop.diagnose.evidence import Board, Clue
from inspect_pop.diagnose.interface_joints import sites_of
from inspect_pop.diagnose.rules import (
    excess_paste,
    insufficient_paste,
    moisture,
    oxidised_balls,
    placement_force,
    placement_offset,
    shallow_dip,
    warpage,
)

__all__ = ["clues", "listed", "suspect"]

_RULES = (warpage, excess_paste, insufficient_paste, shallow_dip, placement_offset, oxidised_balls, placement_force, moisture)
_JOINTS_IN_WORDS = 12


def suspect(joints: JointTable, package: Package, state: PackageState, limits: Limits | None = None) -> Cause:
    """The process step that the joints of one package point to, with its evidence; `none` where no pattern is clear.

    `joints` may hold other packages too: only rows of `package.refdes` are read. Labels count, whatever their verdict.
    """
    limits = limits or Limits()
    board = Board(sites_of(joints, package), package, state, limits)
    if not board.n_defects:
        return Cause("none", "no defects")
    best = clues(board)[0]
    if best.strength < limits.cause_strength:
        return Cause("none", f"{board.n_defects} defects without a clear pattern{_nearest(best)}")
    return Cause(best.name, best.evidence + listed(best.joints), best.joints, best.strength)


def clues(board: Board) -> list[Clue]:
    """What speaks for each cause, the strongest first."""
    return sorted((rule(board) for rule in _RULES), key=lambda clue: -clue.strength)


def listed(joints: Sequence[str]) -> str:
    """The first of these joints, and how many more there are."""
    if not joints:
        return ""
    more = len(joints) - _JOINTS_IN_WORDS
    return ": " + ", ".join(joints[:_JOINTS_IN_WORDS]) + (f" and {more} more" if more > 0 else "")


def _nearest(best: Clue) -> str:
    return f"; nearest is {best.name.replace('_', ' ')} ({best.evidence})" if best.strength > 1 else ""
