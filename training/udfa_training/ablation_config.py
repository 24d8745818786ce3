"""Settings of an ablation: one budget, several variants."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal, Optional

from udfa.config import ModelConfig, Norm
from udfa.errors import InvalidInputError
from udfa_training.augment import AugmentConfig
from udfa_training.budget_loop import Budget

Kind = Literal["udfa", "spa_unet", "unet", "swin_unetr"]


@dataclass(frozen=True)
class Variant:
    """One row of the table: what differs from U-DFA as configured."""

    name: str
    """Folder and row name."""
    kind: Kind = "udfa"
    """udfa; spa_unet: SPA and decoder without the backbone; unet: MONAI's BasicUNet; swin_unetr: MONAI's SwinUNETR."""
    backbone: Optional[str] = None
    """udfa: file with the weights of the frozen backbone (checkpoint or backbone file); None leaves it random."""
    lgfa_direction: Literal["both", "inject", "none"] = "both"
    """udfa: both directions, injection only, or no adapter (the decoder still gets the backbone's tokens)."""
    norm: Optional[Norm] = None
    """udfa, spa_unet: normalisation after the convolutions, if another than the model's."""
    match: Literal["trainable", "total"] = "trainable"
    """unet, swin_unetr: as large as U-DFA's trainable part, or as all of U-DFA."""
    size: Optional[int] = None
    """Side S of the training crops, if another than the common one."""
    batch_size: Optional[int] = None
    """Samples per step, if another than the common one."""
    in_slices: Optional[Literal[1, 3]] = None
    """1 slice or 3 (2.5D), if another than the model's."""
    in_plane_spacing_mm: Optional[float] = None
    """Pixel size in mm, if another than the model's."""

    def __post_init__(self) -> None:
        if not self.name or any(c in self.name for c in "/\\"):
            raise InvalidInputError(f"A variant's name is {self.name!r}, but must be usable as a folder name.")


@dataclass(frozen=True)
class AblationConfig:
    """Settings of an ablation; the same data, budget, augmentation, loss and validation for all variants."""

    data: str
    """Folder written by `udfa-train prepare`."""
    output: str
    """Folder for the runs, `results.json` and `table.md`."""
    model: ModelConfig
    """U-DFA as it is; variants differ from it."""
    variants: tuple[Variant, ...]
    """Rows of the table, in order."""
    size: int = 128
    """Side S of the training crops in pixels, a multiple of 32."""
    foreground_share: float = 0.8
    """Share of slices drawn class by class; the rest is drawn from all slices."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    """Strength of the augmentation."""
    budget: Budget = field(default_factory=Budget)
    """Steps, batch, learning rate, seed."""

    def __post_init__(self) -> None:
        names = [variant.name for variant in self.variants]
        if not names or len(set(names)) != len(names):
            raise InvalidInputError(f"An ablation needs variants with different names, got: {names}.")
        for size in (self.size, *(v.size for v in self.variants if v.size is not None)):
            if size < 32 or size % 32:
                raise InvalidInputError(f"size is {size}, but must be a positive multiple of 32.")

    def model_of(self, variant: Variant) -> ModelConfig:
        """The model configuration of a variant."""
        preprocessing = self.model.preprocessing
        if variant.in_slices is not None:
            preprocessing = replace(preprocessing, in_slices=variant.in_slices)
        if variant.in_plane_spacing_mm is not None:
            preprocessing = replace(preprocessing, in_plane_spacing_mm=variant.in_plane_spacing_mm)
        network = replace(self.model.network, lgfa_direction=variant.lgfa_direction)
        if variant.norm is not None:
            network = replace(network, norm=variant.norm)
        return replace(self.model, network=network, preprocessing=preprocessing)

    def budget_of(self, variant: Variant) -> Budget:
        """The budget of a variant."""
        return self.budget if variant.batch_size is None else replace(self.budget, batch_size=variant.batch_size)
