"""Training of adapters and decoder with the labels, under deep supervision."""

from __future__ import annotations

import torch
import torch.distributed
import torch.nn.functional as F
from monai.losses import DiceCELoss
from torch import Tensor, nn

from udfa.networks.udfa import UDFA

STRIDE_WEIGHTS = (1.0, 0.5, 0.25, 0.125)
"""Loss weights of the logits at strides 1, 2, 4 and 8 before normalisation, halving as in nnU-Net."""

SMOOTH = 1e-5
"""MONAI's smoothing of numerator and denominator of Dice."""


class SupervisedObjective(nn.Module):
    """Dice plus cross-entropy of the logits at strides 1, 2, 4 and 8.

    Dice is that of the whole batch, not the mean over slices, since most slices lack most labels. It is therefore no
    mean over parts of a batch. When a batch is spread over processes or passes, each part gets the sums of all parts;
    the mean of the parts' losses, and of their gradients, is then that of the batch in one piece.

    Args:
        network: U-DFA.
        parts: Equal parts of a batch: processes x passes.
    """

    def __init__(self, network: UDFA, parts: int = 1) -> None:
        super().__init__()
        self.network = network
        self.parts = parts
        self.criterion = DiceCELoss(include_background=False, to_onehot_y=True, softmax=True, batch=True)

    def forward(self, image: Tensor, label: Tensor, seed: int, total: Tensor | None = None) -> Tensor:
        """Return the loss of a batch or of a part of one.

        Args:
            image: (B, 3, S, S).
            label: (B, 1, S, S) int64.
            seed: Unused: nothing is drawn.
            total: (4, 2, K) Dice sums over all parts as in `dice_sums`; None collects them from the processes.
        """
        logits = self.network.decode(self.network.encode(image), deep_supervision=True)
        if self.parts == 1:
            losses = torch.stack([self.criterion(output.float(), resized(label, output)) for output in logits])
        else:
            own = torch.stack([_dice_sums(output, label) for output in logits])
            pointwise = [F.cross_entropy(output.float(), resized(label, output)[:, 0].long()) for output in logits]
            total = over_processes(own.detach()) if total is None else total
            losses = torch.stack(pointwise) + self._pooled_dice(own, total)
        weights = torch.tensor(STRIDE_WEIGHTS, device=label.device) / sum(STRIDE_WEIGHTS)
        return (losses * weights).sum()

    def dice_sums(self, image: Tensor, label: Tensor) -> Tensor:
        """Return the sums that Dice is made of, (4, 2, K) for the strides: overlap, and both areas together."""
        logits = self.network.decode(self.network.encode(image), deep_supervision=True)
        return torch.stack([_dice_sums(output, label) for output in logits])

    def _pooled_dice(self, own: Tensor, total: Tensor) -> Tensor:
        """Dice losses of the whole batch (4,), with `parts` times the gradient that comes from the own part."""
        overlap, areas = (own + (total - own).detach()).unbind(dim=1)
        dice = (1 - (2 * overlap + SMOOTH) / (areas + SMOOTH)).mean(dim=1)
        return self.parts * dice - (self.parts - 1) * dice.detach()


def over_processes(sums: Tensor) -> Tensor:
    """Return the sum over all processes."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        sums = sums.clone()
        torch.distributed.all_reduce(sums)
    return sums


def _dice_sums(logits: Tensor, label: Tensor) -> Tensor:
    """(B, K + 1, s, s), (B, 1, S, S) -> (2, K) overlap and areas of all labels but the background."""
    shares = logits.float().softmax(dim=1)[:, 1:]
    plane = resized(label, logits)[:, 0].long()
    reference = F.one_hot(plane, logits.shape[1]).movedim(-1, 1)[:, 1:].to(shares.dtype)
    axes = (0, 2, 3)
    return torch.stack([(shares * reference).sum(axes), shares.sum(axes) + reference.sum(axes)])


def resized(label: Tensor, like: Tensor) -> Tensor:
    """Labels at the resolution of some logits, by nearest neighbour. (B, 1, S, S), (B, K, s, s) -> (B, 1, s, s)."""
    size = (int(like.shape[-2]), int(like.shape[-1]))
    if label.shape[-2:] == size:
        return label
    return F.interpolate(label.float(), size=size, mode="nearest-exact")
