"""Labels that may be wrong: joints whose given label a model that never saw it thinks very unlikely.

Out of fold by board: a quick classifier (logistic regression on the released network's embeddings) learns from all
boards but some, and gives its opinion on those (Northcutt et al., 2021: confident learning). One wrong label in fifty
costs a retrained model more than ten boards fewer; a person who looks at twenty joints can put most of them right.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inspect_pop.core.joint_table import CLASSES
from inspect_pop.evaluate.samples import Samples
from inspect_pop.evaluate.split import folds

__all__ = ["Suspect", "out_of_fold", "suspects"]

_FOLDS = 5
# Listed where the given label gets less than this and another one more than that: few, and mostly right.
_UNLIKELY = 0.05
_LIKELY = 0.9
# Inverse strength of the pull towards even odds: some hundred joints stand against thirty-odd features.
_STRENGTH = 1.0


@dataclass(frozen=True)
class Suspect:
    """A joint whose label should be looked at again: what was given, what looks likelier, and how likely each is."""

    serial: str
    refdes: str
    interface: str
    ball: str
    label: str
    p_label: float
    suggestion: str
    p_suggestion: float

    def __str__(self) -> str:
        joint = f"{self.serial} {self.refdes} {self.interface} {self.ball}"
        return f"{joint}: labelled {self.label} ({self.p_label:.1%}), looks {self.suggestion} ({self.p_suggestion:.1%})"


def out_of_fold(features: NDArray[np.floating], label: NDArray[np.integer], board: NDArray[np.str_]) -> NDArray[np.float64]:
    """(n, 5) probabilities of each class for every joint, from boards other than its own.

    A class that no other board shows is NaN in that row: nobody can accuse a joint of not being what was never seen.
    With a single board every row is NaN.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    p = np.full((len(label), len(CLASSES)), np.nan)
    parts = folds(board.tolist(), _FOLDS)
    for part in parts if len(parts) > 1 else ():
        away = np.isin(board, part)
        known = label[~away]
        if len(np.unique(known)) < 2:
            continue
        scaler = StandardScaler().fit(features[~away])
        model = LogisticRegression(C=_STRENGTH, max_iter=2000).fit(scaler.transform(features[~away]), known)
        p[np.ix_(away, model.classes_)] = model.predict_proba(scaler.transform(features[away]))
    return p


def suspects(samples: Samples, features: NDArray[np.floating]) -> list[Suspect]:
    """The joints whose labels disagree with their pictures, the least likely label first.

    `features` (n, k) are what a network that has not seen these labels says of the joints: its embedding and its logits.
    """
    label, serial = samples.label.astype(int), samples.serials
    p = out_of_fold(features, label, serial)
    given, best = p[np.arange(len(label)), label], np.nan_to_num(p, nan=-1.0).argmax(axis=1)
    top = p[np.arange(len(label)), best]
    found = np.flatnonzero((given < _UNLIKELY) & (top > _LIKELY) & (best != label))
    return [
        Suspect(
            serial=str(serial[k]),
            refdes=str(samples.refdes[k]),
            interface=str(samples.interface[k]),
            ball=str(samples.ball[k]),
            label=CLASSES[label[k]],
            p_label=float(given[k]),
            suggestion=CLASSES[best[k]],
            p_suggestion=float(top[k]),
        )
        for k in found[np.argsort(given[found])]
    ]
