"""Settings of self-supervised pre-training of the `mini` backbone."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Optional

from udfa.config import PreprocessingConfig
from udfa.errors import InvalidInputError
from udfa_training.augment import AugmentConfig
from udfa_training.budget_loop import Budget


@dataclass(frozen=True)
class PretrainSource:
    """Volumes that are prepared alike."""

    data: str
    """Folder written by `udfa-train prepare` (its training split is used), or any folder of NIfTI volumes."""
    preprocessing: PreprocessingConfig = field(default_factory=PreprocessingConfig)
    """How a volume becomes network input: that of the checkpoint that will use the backbone."""


@dataclass(frozen=True)
class PretrainConfig:
    """Settings of one pre-training run. No label is read."""

    sources: tuple[PretrainSource, ...]
    """Where the volumes come from; slices are drawn from all of them alike."""
    output: str
    """Folder for the run: state, log and `backbone.safetensors`."""
    init: Optional[str] = None
    """Backbone file, or file or name of a checkpoint with a `mini` backbone, to start from; None: random weights."""
    masked_share: float = 0.6
    """Share of the tokens that are masked."""
    mask_side: int = 2
    """Side of a masked block in tokens."""
    size: int = 128
    """Side S of the crops in pixels, a multiple of 32."""
    augment: AugmentConfig = field(default_factory=lambda: AugmentConfig(intensity_probability=0.1))
    """Strength of the augmentation."""
    budget: Budget = field(default_factory=lambda: Budget(steps=4000, batch_size=32, warmup_steps=100))
    """Steps, batch, learning rate, seed."""

    def __post_init__(self) -> None:
        if not self.sources:
            raise InvalidInputError("sources is empty; name at least one folder of volumes.")
        if self.size < 32 or self.size % 32:
            raise InvalidInputError(f"size is {self.size}, but must be a positive multiple of 32.")
        if not 0 < self.masked_share < 1:
            raise InvalidInputError(f"masked_share is {self.masked_share}, but must be between 0 and 1.")
        if not 1 <= self.mask_side <= self.size // 32:
            raise InvalidInputError(f"mask_side is {self.mask_side}, but must be within 1 and {self.size // 32}.")
