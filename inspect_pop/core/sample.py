"""Choose the joints that passed and that a person looks at all the same, so that escapes are found where nobody looks.

The choice follows from the record and the joints' names alone: whoever writes the windows of joints, keeps the queue or shows the
page chooses the same joints, and nobody can foresee them before the board is inspected.
"""

import hashlib

import numpy as np
from numpy.typing import NDArray

from inspect_pop.core.joint_table import JointTable

__all__ = ["DEFAULT_SAMPLE", "choose_sample"]

DEFAULT_SAMPLE = 1  # joints of each board: as many as the operator has time for beside the suspects


def choose_sample(record: str, joints: JointTable, n: int = DEFAULT_SAMPLE) -> NDArray[np.int64]:
    """Choose up to `n` joints that passed: those whose name has the smallest digest with the record's.

    Parameters
    ----------
    record
        The record's identifier.
    joints
        The board's joints, with verdicts.
    n
        Number of joints; fewer are returned where fewer passed.

    Returns
    -------
    (m,) int64, the rows of the chosen joints in the table, in ascending order.
    """
    passed = np.flatnonzero(joints["verdict"] == "pass")
    names = zip(*(joints[column][passed] for column in ("refdes", "interface", "ball")), strict=True)
    digests = [hashlib.sha256(f"{record}/{refdes}.{interface}.{ball}".encode()).digest() for refdes, interface, ball in names]
    chosen = sorted(range(len(digests)), key=digests.__getitem__)[: max(n, 0)]
    return np.sort(passed[chosen]).astype(np.int64)
