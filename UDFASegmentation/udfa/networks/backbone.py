"""The frozen vision transformer: DINOv2 from timm, or this project's own small `mini`.

Both are timm VisionTransformers and are run in quarters, so that adapters can work between them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import timm
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from udfa.config import BACKBONE_WIDTHS
from udfa.errors import CheckpointError, InvalidInputError
from udfa.safetensors_file import read_tensors

PATCH_SIZE = 14
"""Pixels per token side; the image is scaled by 7/8 so that the token grid has stride 16 in the image."""

QUARTERS = 4
"""Groups of blocks; an LGFA works before (and after) each."""

TIMM_NAMES: dict[str, str] = {
    "dinov2_vits14": "vit_small_patch14_dinov2.lvd142m",
    "dinov2_vitb14": "vit_base_patch14_dinov2.lvd142m",
    "dinov2_vitl14": "vit_large_patch14_dinov2.lvd142m",
    "dinov2_vits14_reg4": "vit_small_patch14_reg4_dinov2.lvd142m",
    "dinov2_vitb14_reg4": "vit_base_patch14_reg4_dinov2.lvd142m",
    "dinov2_vitl14_reg4": "vit_large_patch14_reg4_dinov2.lvd142m",
}


class _SpacesOnTheCpu(TorchFunctionMode):
    """Makes torch.linspace on the CPU: timm before 1.0.21 reads numbers from it, which the meta device has not."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        place = {"device": "cpu"} if func is torch.linspace else {}
        return func(*args, **{**(kwargs or {}), **place})


def create_vit(name: str) -> VisionTransformer:
    """Return the randomly initialised vision transformer of that name (a key of BACKBONE_WIDTHS)."""
    with _SpacesOnTheCpu():
        return _create_vit(name)


def _create_vit(name: str) -> VisionTransformer:
    if name == "mini":
        return VisionTransformer(
            img_size=224,
            patch_size=PATCH_SIZE,
            embed_dim=BACKBONE_WIDTHS["mini"],
            depth=12,
            num_heads=3,
            init_values=1e-1,
            num_classes=0,
            global_pool="",
            dynamic_img_size=True,
        )
    model = timm.create_model(TIMM_NAMES[name], pretrained=False, num_classes=0, dynamic_img_size=True)
    if not isinstance(model, VisionTransformer):
        raise CheckpointError(f"timm's {TIMM_NAMES[name]} is no VisionTransformer; install another timm version.")
    return model


class FrozenBackbone(nn.Module):
    """A vision transformer that never trains: always in eval mode, no parameter requires a gradient.

    Gradients still pass through it to adapters before it. Only `unfreeze`, which pre-training calls on purpose,
    lifts the freeze of the parameters; eval mode stays.

    Args:
        name: Key of BACKBONE_WIDTHS.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.vit = create_vit(name)
        self.vit.requires_grad_(False)
        self.train(False)

    @property
    def width(self) -> int:
        """Token width D."""
        return int(self.vit.embed_dim)

    def train(self, mode: bool = True) -> FrozenBackbone:
        """Stay in eval mode, whatever is asked."""
        super().train(False)
        return self

    def unfreeze(self) -> None:
        """Let the parameters train; for pre-training the `mini` backbone only."""
        if self.name != "mini":
            raise InvalidInputError(f"Only the 'mini' backbone is trained by this project; '{self.name}' stays frozen.")
        self.vit.requires_grad_(True)

    def embed(self, image: Tensor) -> Tensor:
        """(B, 3, 14h, 14w) -> tokens (B, P + hw, D), where P prefix tokens (class, registers) come first."""
        vit = self.vit
        tokens: Tensor = vit.norm_pre(vit.patch_drop(vit._pos_embed(vit.patch_embed(image))))
        return tokens

    def run_quarter(self, tokens: Tensor, quarter: int) -> Tensor:
        """Run one quarter of the blocks. (B, P + N, D) -> (B, P + N, D)."""
        per_quarter = len(self.vit.blocks) // QUARTERS
        for block in self.vit.blocks[quarter * per_quarter : (quarter + 1) * per_quarter]:
            tokens = block(tokens)
        return tokens

    def split(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """(B, P + N, D) -> prefix tokens (B, P, D) and patch tokens (B, N, D)."""
        prefix = self.vit.num_prefix_tokens
        return tokens[:, :prefix], tokens[:, prefix:]

    def forward(self, image: Tensor) -> Tensor:
        """The bare backbone without adapters. (B, 3, 14h, 14w) -> normalised tokens (B, P + hw, D)."""
        tokens = self.embed(image)
        for quarter in range(QUARTERS):
            tokens = self.run_quarter(tokens, quarter)
        normalised: Tensor = self.vit.norm(tokens)
        return normalised


def load_pretrained(backbone: FrozenBackbone, weights: Path | None = None) -> None:
    """Load DINOv2 weights into a backbone, in place.

    Args:
        backbone: A backbone whose name starts with `dinov2`.
        weights: A local `.safetensors` file with timm's parameter names. None asks timm for it, which downloads it
            from the Hugging Face hub on first use and then keeps it in the hub's cache.

    Raises:
        CheckpointError: The weights cannot be found, or do not fit the architecture.
    """
    timm_name = TIMM_NAMES[backbone.name]
    state = _weights_from_hub(timm_name) if weights is None else read_tensors(weights)
    expected = backbone.vit.state_dict()
    missing, foreign = sorted(set(expected) - set(state)), sorted(set(state) - set(expected))
    if missing or foreign:
        raise CheckpointError(
            f"{weights or timm_name} does not hold the weights of {backbone.name}: "
            f"{len(missing)} missing {missing[:3]}, {len(foreign)} foreign {foreign[:3]}. "
            f"Download model.safetensors of timm/{timm_name} and give that file."
        )
    wrong = [key for key in expected if expected[key].shape != state[key].shape]
    if wrong:
        raise CheckpointError(f"{weights or timm_name}: shapes differ for {wrong[:3]}; it is another architecture.")
    backbone.vit.load_state_dict(state, strict=True)


def _weights_from_hub(timm_name: str) -> dict[str, Tensor]:
    try:
        source = timm.create_model(timm_name, pretrained=True, num_classes=0, dynamic_img_size=True)
    except Exception as error:
        raise CheckpointError(
            f"The weights of {timm_name} could not be downloaded ({type(error).__name__}: {error}). "
            f"Without a network: download model.safetensors from huggingface.co/timm/{timm_name} on another computer, "
            f"copy it here and name it as the backbone weights file."
        ) from error
    return {key: value.to(torch.float32) for key, value in source.state_dict().items()}
