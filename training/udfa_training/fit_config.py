"""Settings of a training run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Optional

from udfa.config import ModelConfig
from udfa.errors import InvalidInputError
from udfa_training.augment import AugmentConfig
from udfa_training.bounds import Precision, check_at_least, check_positive, check_shares
from udfa_training.click_simulation import ReaderConfig

COUNTS = (
    *("size", "batch_size", "accumulate", "steps", "devices", "num_nodes", "max_clicks"),
    *("log_every", "save_every", "validate_every", "quick_cases"),
)
"""Settings that must be at least 1."""


@dataclass(frozen=True)
class FitConfig:
    """Settings of one training run; the same fields in YAML files, on the command line and in the record."""

    data: str
    """Folder written by `udfa-train prepare`."""
    output: str
    """Folder for the run: state, log and the checkpoint."""
    model: ModelConfig
    """Model to train."""
    fold: Optional[int] = None
    """Validate on this fold, as `prepare --folds` recorded it, and train on the others; null: the split of the data."""
    init: Optional[str] = None
    """Checkpoint whose weights the run starts from: a .safetensors file or the name of a bundled model."""
    stage: Literal["network", "clicks"] = "network"
    """network: what `train` names. clicks: the prompt encoder only, so that the automatic result stays as it is."""
    train: Literal["everything-but-backbone", "adapters", "decoder", "heads"] = "everything-but-backbone"
    """Stage network: what learns. The heads always do, since labels may be new: adapters means SPA, LGFA and heads."""
    train_backbone: bool = False
    """Pre-training of `mini`: also train the backbone, which is otherwise frozen."""
    backbone_weights: Optional[str] = None
    """File with the weights of the backbone. DINOv2: timm's model.safetensors; null downloads it once. mini: what
    `udfa-train pretrain` wrote, or a checkpoint with such a backbone; with init, the backbone is that of init."""
    max_clicks: int = 4
    """Stage clicks: most clicks per sample."""
    reader: ReaderConfig = field(default_factory=ReaderConfig)
    """Stage clicks: how the simulated reader clicks."""
    size: int = 160
    """Side S of the training crops in pixels, a multiple of 32. Normalisation averages over the crop: to
    fine-tune, take the tile size of the preprocessing."""
    batch_size: int = 12
    """Slices per pass and process."""
    accumulate: int = 1
    """Passes per optimiser step: a step sees accumulate x batch_size slices per process, in the memory of one pass."""
    steps: int = 4000
    """Optimiser steps."""
    warmup_steps: int = 100
    """Steps of linear learning-rate warm-up before the cosine."""
    learning_rate: float = 1e-3
    """Peak learning rate of AdamW."""
    backbone_learning_rate: float = 5e-4
    """Peak learning rate of the backbone while it is pre-trained."""
    weight_decay: float = 0.02
    """Weight decay of AdamW."""
    pull: float = 0.0
    """With init: draws the weights back to those of init, by learning rate x pull at each step, so that none goes much
    further than 1 / pull away. 0: not at all. For few cases, which would otherwise be learnt by heart."""
    gradient_clip: float = 1.0
    """Largest gradient norm."""
    ema_decay: float = 0.998
    """Decay of the exponential moving average of the weights, which is what gets validated and published."""
    foreground_share: float = 0.8
    """Share of slices drawn class by class; the rest is drawn from all slices."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    """Strength of the augmentation."""
    accelerator: str = "auto"
    """Device kind for Lightning Fabric: auto, cpu, cuda, mps."""
    devices: int = 1
    """Processes or GPUs on each node."""
    num_nodes: int = 1
    """Computers; with more than one, start the command on each by torchrun."""
    precision: Precision = "bf16-mixed"
    """Precision for Lightning Fabric."""
    workers: int = 1
    """Loader processes."""
    cache: Optional[str] = "auto"
    """Folder for cases on the network's grid, so that later starts need not prepare them again. auto: `cache` in the
    data folder; null: none."""
    seed: int = 0
    """Seed of initialisation and sampling."""
    log_every: int = 20
    """Steps between rows of the log."""
    save_every: int = 200
    """Steps between saved states."""
    validate_every: int = 1000
    """Steps between whole-volume validations."""
    quick_cases: int = 3
    """Validation cases used for these; all are used at the end."""

    def __post_init__(self) -> None:
        check_at_least(1, self, COUNTS)
        check_at_least(0, self, ("warmup_steps", "workers", "weight_decay", "pull", "seed"))
        check_positive(self, ("learning_rate", "backbone_learning_rate", "gradient_clip"))
        check_shares(self, ("foreground_share", "ema_decay"))
        if self.pull and self.init is None:
            raise InvalidInputError("pull draws the weights back to those of a checkpoint; name it with init.")
        if self.size % 32:
            raise InvalidInputError(f"size is {self.size}, but must be a multiple of 32, such as 160, 192 or 256.")
        if self.train_backbone and self.model.network.backbone != "mini":
            raise InvalidInputError("train_backbone is for the 'mini' backbone only; DINOv2 stays frozen.")
        if self.train_backbone and self.train != "everything-but-backbone":
            raise InvalidInputError(f"train is '{self.train}', but train_backbone trains everything. Leave one out.")
        if self.init is not None and self.backbone_weights is not None and self.model.network.backbone == "mini":
            raise InvalidInputError("init brings its own mini backbone along. Leave out init or backbone_weights.")
        if self.stage == "clicks":
            self._check_clicks()

    def _check_clicks(self) -> None:
        if self.train_backbone:
            raise InvalidInputError("Stage clicks trains the prompt encoder only; set train_backbone to false.")
        if self.model.network.prompt_channels is None:
            raise InvalidInputError("Stage clicks needs model.network.prompt_channels, such as [16, 24, 32, 48].")
        if self.init is None:
            raise InvalidInputError("Stage clicks starts from a trained checkpoint; name it with init.")
