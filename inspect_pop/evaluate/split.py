"""Which boards train, which calibrate, and which are kept apart to judge: always whole boards, never joints.

Joints of one board on both sides of a split flatter every figure. The golden boards follow from a hash of their serials,
so that they are the same in every retraining, on any machine, whatever other boards join; those that were golden once
(the model's record names them) stay so.
"""

import hashlib
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from inspect_pop.core.errors import LabelsFault

__all__ = ["Split", "folds", "place", "split_boards"]

# Below this many boards none can be spared to judge by.
LEAST_BOARDS = 3


@dataclass(frozen=True)
class Split:
    """Serials, each in one part only, in sorted order. Without boards to calibrate on, those of `train` do it in turn."""

    train: tuple[str, ...]
    calibrate: tuple[str, ...]
    golden: tuple[str, ...]

    def to_dict(self) -> dict[str, list[str]]:
        """For the record of a training."""
        return {"train": list(self.train), "calibrate": list(self.calibrate), "golden": list(self.golden)}


def place(serial: str, purpose: str) -> float:
    """A number in 0 to 1 that follows from the serial and what it is for, and from nothing else."""
    digest = hashlib.sha256(f"{purpose}\n{serial}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def split_boards(
    serials: Iterable[str],
    *,
    golden_share: float = 0.2,
    calibrate_share: float = 0.2,
    kept_golden: Collection[str] = (),
    kept_train: Collection[str] = (),
) -> Split:
    """Split by board; at least one board in each part that is asked for.

    Parameters
    ----------
    golden_share, calibrate_share
        Of all boards, about; 0 to calibrate asks for none, and for no more golden ones than that share.
    kept_golden
        Serials that were golden before: they stay.
    kept_train
        Serials that the model began with: judging on them would flatter it, so they never become golden.

    Raises
    ------
    LabelsFault
        Fewer than three boards, or all of them were taken by `kept_golden` or `kept_train`.
    """
    boards = sorted(set(serials))
    if len(boards) < LEAST_BOARDS:
        raise LabelsFault(
            "labelled boards",
            expected=f"at least {LEAST_BOARDS}: to train, to calibrate and to judge",
            found=str(len(boards)),
            remedy="Label more boards; four are enough to help a new machine.",
        )
    golden = [b for b in boards if b in kept_golden]
    free = sorted((b for b in boards if b not in kept_golden and b not in kept_train), key=lambda b: place(b, "golden"))
    # Where boards are so few that none calibrates, each more that judges is one that does not teach.
    most = len(free) if calibrate_share else max(1, round(golden_share * len(boards)))
    golden += [b for b in free if place(b, "golden") < golden_share][:most]
    if not golden and free:
        golden = [free[0]]
    rest = sorted((b for b in boards if b not in golden), key=lambda b: place(b, "calibrate"))
    if not golden or len(rest) < 2:
        raise LabelsFault(
            "labelled boards",
            expected="at least one board to judge by and two to train and calibrate",
            found=f"{len(golden)} to judge by, {len(rest)} others",
            remedy="Label boards that no earlier training has used.",
        )
    count = max(1, min(len(rest) - 1, round(calibrate_share * len(boards)))) if calibrate_share else 0
    return Split(train=tuple(sorted(rest[count:])), calibrate=tuple(sorted(rest[:count])), golden=tuple(sorted(golden)))


def folds(serials: Iterable[str], count: int) -> list[tuple[str, ...]]:
    """Boards in `count` parts of nearly equal size (fewer where there are fewer boards), the same ones every time."""
    order = sorted(set(serials), key=lambda b: place(b, "fold"))
    count = max(1, min(count, len(order)))
    return [tuple(order[k::count]) for k in range(count)]
