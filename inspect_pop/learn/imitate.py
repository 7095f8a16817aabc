"""What a small network loses that is to say what a larger one says (distillation: Hinton et al., 2015).

The small one looks at all joints first, and is believed where it is sure and the joint is familiar. So beside the classes it
must tell the same log-odds of a defect, and place each joint at the same place of the embedding, from which follows how
familiar it is.
"""

import torch
from torch import Tensor
from torch.nn import functional

from inspect_pop.learn.network import Outputs

__all__ = ["imitation"]

# Beyond this a joint is good or bad by any threshold, and how much more so need not be learnt.
_FAR = 12.0
_ODDS, _PLACE = 0.2, 0.2
_LEAST_SPREAD = 0.05  # of a number of the embedding that hardly any joint moves


def imitation(said: Outputs, taught: Outputs) -> Tensor:
    """Mean loss of a batch: Kullback-Leibler divergence of the classes, and how far log-odds and embedding are off."""
    ours, theirs = said.logits.float(), taught.logits.float()
    classes = functional.kl_div(
        functional.log_softmax(ours, 1), functional.log_softmax(theirs, 1), reduction="batchmean", log_target=True
    )
    odds = functional.smooth_l1_loss(_odds(ours), _odds(theirs))
    place = taught.embedding.float()
    away = (said.embedding.float() - place) / place.std(0).clamp(min=_LEAST_SPREAD)
    return classes + _ODDS * odds + _PLACE * away.square().mean()


def _odds(logits: Tensor) -> Tensor:
    """(n,) log-odds of a defect, cut where they say no more."""
    return (torch.logsumexp(logits[:, 1:], 1) - logits[:, 0]).clamp(-_FAR, _FAR)
