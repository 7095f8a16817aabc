"""Small labelled sets made by hand."""

import numpy as np

from inspect_pop.classify.inputs import CHANNELS, SCALARS
from inspect_pop.core.columns import CLASSES
from inspect_pop.evaluate.samples import Samples
from inspect_pop.segment.windows import SIZE


def make_samples(boards: int = 3, joints: int = 10, *, seed: int = 0, machine: str = "A/AXI-1", prefix: str = "B") -> Samples:
    """`joints` a board; every fifth is defective. A defect's class shows in the mean of one channel, so that it can be learnt."""
    rng = np.random.default_rng(seed)
    n = boards * joints
    within = np.tile(np.arange(joints), boards)
    label = np.where(within % 5 == 4, 1 + rng.integers(0, len(CLASSES) - 1, n), 0).astype(np.int8)
    images = rng.normal(0, 0.05, (n, CHANNELS, SIZE, SIZE)).astype(np.float16)
    images[np.arange(n), label] += 1
    return Samples(
        images=images,
        scalars=rng.normal(0, 1, (n, len(SCALARS))).astype(np.float32),
        label=label,
        variety=label.astype(np.int16),
        volume_ratio=rng.normal(1, 0.05, n).astype(np.float32),
        web_um=np.full(n, np.nan, np.float32),
        gap_um=np.full(n, np.nan, np.float32),
        board=np.repeat(np.arange(boards), joints).astype(np.int32),
        machine=np.full(n, machine),
        refdes=np.full(n, "U1"),
        interface=np.where(within % 2 == 0, "lower", "upper"),
        ball=np.array([f"A{k + 1}" for k in within]),
        weight=np.ones(n, np.float32),
        boards=tuple(f"{prefix}{k}" for k in range(boards)),
        varieties=tuple(f"{name} {prefix}" for name in CLASSES),
    )
