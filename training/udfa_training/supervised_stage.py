"""Training of adapters and decoder with the labels, under deep supervision."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from monai.losses import DiceCELoss
from torch import Tensor, nn

from udfa.networks.udfa import UDFA

STRIDE_WEIGHTS = (1.0, 0.5, 0.25, 0.125)
"""Loss weights of the logits at strides 1, 2, 4 and 8 before normalisation, halving as in nnU-Net."""


class SupervisedObjective(nn.Module):
    """Dice plus cross-entropy of the logits at strides 1, 2, 4 and 8.

    Args:
        network: U-DFA.
    """

    def __init__(self, network: UDFA) -> None:
        super().__init__()
        self.network = network
        self.criterion = DiceCELoss(include_background=False, to_onehot_y=True, softmax=True, batch=True)

    def forward(self, image: Tensor, label: Tensor, seed: int) -> Tensor:
        """Return the loss. Image (B, 3, S, S), label (B, 1, S, S) int64; nothing is drawn, so seed is unused."""
        logits = self.network.decode(self.network.encode(image), deep_supervision=True)
        losses = [self.criterion(output.float(), resized(label, output)) for output in logits]
        weights = torch.tensor(STRIDE_WEIGHTS, device=label.device) / sum(STRIDE_WEIGHTS)
        return (torch.stack(losses) * weights).sum()


def resized(label: Tensor, like: Tensor) -> Tensor:
    """Labels at the resolution of some logits, by nearest neighbour. (B, 1, S, S), (B, K, s, s) -> (B, 1, s, s)."""
    size = (int(like.shape[-2]), int(like.shape[-1]))
    if label.shape[-2:] == size:
        return label
    return F.interpolate(label.float(), size=size, mode="nearest-exact")
