"""Masked image modelling: the backbone learns by restoring hidden patches from those around them.

In the manner of SimMIM (arXiv 2111.09886): hidden patches are replaced by a learned mask token before the blocks, one
linear layer predicts their pixels, the loss is the mean absolute error of the hidden pixels. No decoder, no second
network, no large batch: it suits a small transformer and few processor cores.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from udfa.networks.backbone import PATCH_SIZE, QUARTERS, FrozenBackbone

MIDDLE = 1
"""Channel that is restored: the slice itself; the others are its neighbours."""


class MaskedImages(nn.Module):
    """Objective of the pre-training.

    Args:
        backbone: The `mini` backbone, which is unfrozen.
        masked_share: Share of masked tokens.
        mask_side: Side of masked blocks in tokens.
    """

    def __init__(self, backbone: FrozenBackbone, masked_share: float, mask_side: int) -> None:
        super().__init__()
        backbone.unfreeze()
        self.backbone = backbone
        self.masked_share = masked_share
        self.mask_side = mask_side
        self.mask_token = nn.Parameter(torch.zeros(backbone.width))
        nn.init.normal_(self.mask_token, std=0.02)
        self.to_pixels = nn.Linear(backbone.width, PATCH_SIZE**2)

    def forward(self, image: Tensor, label: Tensor, seed: int) -> Tensor:
        """Return the loss. Image (B, 3, S, S); the label that training slices come with is not looked at."""
        del label
        scaled = backbone_input(image)
        side = scaled.shape[-1] // PATCH_SIZE
        random = np.random.default_rng((seed, 2))
        drawn = [token_mask(side, self.masked_share, self.mask_side, random) for _ in image]
        mask = torch.from_numpy(np.stack(drawn)).to(image.device)
        predicted = self.restore(scaled, mask)
        error = (predicted.float() - patches(scaled[:, MIDDLE])).abs().mean(dim=2)
        hidden = mask.flatten(1)
        loss: Tensor = (error * hidden).sum() / hidden.sum()
        return loss

    def restore(self, scaled: Tensor, mask: Tensor) -> Tensor:
        """Predict all patches with the masked ones hidden. (B, 3, 14h, 14w), (B, h, w) -> (B, hw, 196)."""
        vit = self.backbone.vit
        embedded = vit.patch_embed(scaled)
        embedded = torch.where(mask[..., None], self.mask_token.to(embedded.dtype), embedded)
        tokens = vit.norm_pre(vit.patch_drop(vit._pos_embed(embedded)))
        for quarter in range(QUARTERS):
            tokens = self.backbone.run_quarter(tokens, quarter)
        predicted: Tensor = self.to_pixels(self.backbone.split(vit.norm(tokens))[1])
        return predicted


def backbone_input(image: Tensor) -> Tensor:
    """Scale an image by 7/8, as U-DFA does for its backbone. (B, 3, H, W) -> (B, 3, 7H/8, 7W/8) float32."""
    height, width = image.shape[-2:]
    size = (height // 8 * 7, width // 8 * 7)
    return F.interpolate(image.float(), size=size, mode="bilinear", antialias=True)


def patches(plane: Tensor) -> Tensor:
    """Cut planes into the backbone's patches, row by row. (B, 14h, 14w) -> (B, hw, 196)."""
    cut = plane.unfold(1, PATCH_SIZE, PATCH_SIZE).unfold(2, PATCH_SIZE, PATCH_SIZE)
    return cut.flatten(3).flatten(1, 2)


def token_mask(side: int, share: float, block: int, random: np.random.Generator) -> NDArray[np.bool_]:
    """Draw a mask of square blocks. -> (side, side), True where hidden.

    Args:
        side: Tokens per side.
        share: Share of the blocks that are hidden, rounded to whole blocks, at least one.
        block: Side of a block in tokens; blocks at the lower and right edge may be cut.
        random: Source of randomness.
    """
    cells = -(-side // block)
    chosen = np.zeros(cells * cells, dtype=bool)
    count = min(max(1, round(share * cells * cells)), cells * cells - 1) if cells > 1 else 1
    chosen[random.permutation(cells * cells)[:count]] = True
    grid = chosen.reshape(cells, cells).repeat(block, axis=0).repeat(block, axis=1)
    return np.ascontiguousarray(grid[:side, :side])
