"""Which cause the pattern of one board, or of a lot, points to."""

from collections.abc import Sequence

from inspect_pop.causes.rules import RULES, Board, Clue
from inspect_pop.causes.sites import sites_of
from inspect_pop.causes.values import Cause, PackageState
from inspect_pop.joints import JointTable
from inspect_pop.limits import Limits
from inspect_pop.recipe import Package

__all__ = ["suspect"]

_JOINTS_IN_WORDS = 12


def suspect(joints: JointTable, package: Package, state: PackageState, limits: Limits | None = None) -> Cause:
    """The process step that the joints of one package point to, with its evidence; `none` where no pattern is clear.

    `joints` may hold other packages too: only rows of `package.refdes` are read. Labels count, whatever their verdict.
    """
    limits = limits or Limits()
    board = Board(sites_of(joints, package), package, state, limits)
    if not board.n_defects:
        return Cause("none", "no defects")
    clues = sorted((rule(board) for rule in RULES), key=lambda clue: -clue.strength)
    best = clues[0]
    if best.strength < limits.cause_strength:
        return Cause("none", _no_clear_cause(board, best))
    return Cause(best.name, f"{best.evidence}{_listed(best.joints)}", best.joints, best.strength)


def _no_clear_cause(board: Board, best: Clue) -> str:
    words = f"{board.n_defects} defects without a clear pattern"
    return words if best.strength <= 0 else f"{words}; nearest is {best.name} ({best.evidence})"


def _listed(joints: Sequence[str]) -> str:
    if not joints:
        return ""
    more = len(joints) - _JOINTS_IN_WORDS
    return ": " + ", ".join(joints[:_JOINTS_IN_WORDS]) + (f" and {more} more" if more > 0 else "")
