"""Training of the prompt encoder with simulated, iterative clicks; everything else is frozen."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Optional

import numpy as np
import torch
import torch.nn.functional as F
from monai.losses import DiceCELoss
from scipy import ndimage
from torch import Tensor, nn

from udfa.networks.udfa import UDFA, EncoderFeatures
from udfa.prompts import CLICK_RADIUS, PlaneClick, click_maps, one_hot_labels, prompt_tensor
from udfa_training.click_simulation import ReaderConfig, disturbed, next_click
from udfa_training.dataset import NO_LABEL
from udfa_training.hard_cases import Renamed, corrupted, renamed

START_SHARES = (0.5, 0.2, 0.3)
"""How often a sample starts from the automatic result, from nothing, and from a disturbed reference."""

NEAR_CLICK_PIXELS = 12.0
"""Pixels nearer than this to a click weigh extra: an edit is local."""

NEAR_CLICK_WEIGHT = 1.0

ON_CLICK_WEIGHT = 4.0
"""Weight of the pixels of a click's own disc among those near it: a click is to be followed."""


NEIGHBOUR_SHARE = 0.4
"""Share of the samples in which the neighbouring slice is known, as when a correction is carried."""

CARRY_SHARE = 0.6
"""Share of these in which nobody has clicked on the slice itself."""

FAULTY_NEIGHBOUR_SHARE = 0.3
"""Share of these in which the neighbouring slice has mistakes of its own."""


class ClickObjective(nn.Module):
    """One training step of the prompt encoder.

    A reader clicks one to `max_clicks` times; each click answers what the clicks before it led to. Only the last
    answer is trained, so that memory and time stay those of one decoder pass with gradients. Some samples know the
    labels of a neighbouring slice instead of clicks, or besides them.

    Args:
        network: U-DFA with a prompt encoder.
        max_clicks: Largest number of clicks per sample.
        reader: How the reader clicks.
    """

    def __init__(self, network: UDFA, max_clicks: int, reader: ReaderConfig) -> None:
        super().__init__()
        self.network = network
        self.max_clicks = max_clicks
        self.reader = reader
        self.criterion = DiceCELoss(include_background=False, to_onehot_y=True, softmax=True, batch=True)

    def forward(self, image: Tensor, label: Tensor, seed: int) -> Tensor:
        """Return the loss.

        Args:
            image: (B, 3, S, S).
            label: (B, 2, S, S) int64 labels of the slice and of a neighbouring one, NO_LABEL where there is none.
            seed: Fixes all draws.
        """
        random = np.random.default_rng((seed, 1))
        with torch.no_grad():
            features = corrupted(self.network.encode(image), random)
            automatic = self.network.decode(features)[0].argmax(dim=1).cpu().numpy()
        planes = label.cpu().numpy()
        samples = [self._sample(a, here, beside, random) for a, (here, beside) in zip(automatic, planes)]
        rounds = int(random.integers(1, self.max_clicks + 1))
        for i in range(rounds):
            for sample in samples:
                sample.click(random, self.reader)
            prompt = torch.stack([s.prompt(self.network.config.num_classes) for s in samples]).to(image.device)
            if i + 1 < rounds:
                with torch.no_grad():
                    logits = self._answer(features, prompt)
                for sample, answer in zip(samples, logits.argmax(dim=1).cpu().numpy()):
                    sample.current = accepted(sample.current, answer, sample.clicks)
        logits = self._answer(features, prompt).float()
        target = torch.from_numpy(np.stack([sample.target() for sample in samples])).to(image.device)
        near = torch.stack([_near(sample.clicks, label.shape[-2:]) for sample in samples]).to(image.device)
        pointwise = F.cross_entropy(logits, target, reduction="none")
        local = (pointwise * near).sum() / near.sum().clamp(min=1)
        loss: Tensor = self.criterion(logits, target[:, None]) + NEAR_CLICK_WEIGHT * local
        return loss

    def _sample(
        self, automatic: np.ndarray, labels: np.ndarray, beside: np.ndarray, random: np.random.Generator
    ) -> _Sample:
        """Draw what a reader finds on a slice, given the automatic result and the true labels here and beside it."""
        task = renamed(labels, self.network.config.num_classes, random)
        current = self._start(automatic, task.labels, random)
        known = random.random() < NEIGHBOUR_SHARE and not (beside == NO_LABEL).any()
        told_beside = known and bool((beside == task.value).any())
        beside = task.likewise(beside)
        if known and random.random() < FAULTY_NEIGHBOUR_SHARE:
            beside = disturbed(beside, random)
        clickable = not known or random.random() >= CARRY_SHARE
        return _Sample(labels, task, current, beside if known else None, told_beside, clickable)

    def _answer(self, features: EncoderFeatures, prompt: Tensor) -> Tensor:
        return self.network.decode(features, prompt=prompt)[0]

    @staticmethod
    def _start(automatic: np.ndarray, reference: np.ndarray, random: np.random.Generator) -> np.ndarray:
        start = random.choice(len(START_SHARES), p=START_SHARES)
        if start == 0:
            return automatic
        return np.zeros_like(automatic) if start == 1 else disturbed(reference, random)


@dataclass
class _Sample:
    """A slice while it is corrected.

    Attributes:
        original: (S, S) true labels.
        task: The labels to reach.
        current: (S, S) labels as they stand.
        neighbour: (S, S) labels of a neighbouring slice; None when they are not known.
        told_beside: Whether they show the task's renamed structure.
        clickable: Whether the reader clicks at all.
        clicks: Clicks so far.
    """

    original: np.ndarray
    task: Renamed
    current: np.ndarray
    neighbour: Optional[np.ndarray]
    told_beside: bool
    clickable: bool
    clicks: list[PlaneClick] = field(default_factory=list)

    def click(self, random: np.random.Generator, reader: ReaderConfig) -> None:
        """Let the reader click once more."""
        click = next_click(self.current, self.task.labels, random, reader) if self.clickable else None
        if click is not None:
            self.clicks.append(click)

    def prompt(self, classes: int) -> Tensor:
        """(3K, S, S)"""
        height, width = self.current.shape
        maps = click_maps(self.clicks, classes, (height, width))
        labels = one_hot_labels(torch.from_numpy(self.current), classes)
        known = None if self.neighbour is None else one_hot_labels(torch.from_numpy(self.neighbour), classes)
        return prompt_tensor(maps, labels, known, (height, width))[0]

    def target(self) -> np.ndarray:
        """(S, S) labels to learn. Nobody can know of a new name that neither a click nor the next slice has told."""
        known = self.told_beside or told(self.clicks, self.task.region)
        return self.task.labels if known else self.original


def accepted(current: np.ndarray, answer: np.ndarray, clicks: list[PlaneClick]) -> np.ndarray:
    """Return the labels after a click as a session would have them: only the difference connected with it changes.

    Args:
        current: (S, S) labels before.
        answer: (S, S) labels that the network wants.
        clicks: Clicks so far; the last one is new.
    """
    if not clicks:
        return current
    parts, _ = ndimage.label(current != answer, structure=np.ones((3, 3)))
    row, column = int(clicks[-1].row), int(clicks[-1].column)
    around = parts[max(0, row - 1) : row + 2, max(0, column - 1) : column + 2]
    return np.where(np.isin(parts, around[around > 0]), answer, current)


def told(clicks: list[PlaneClick], region: np.ndarray) -> bool:
    """Whether a click lies in a region."""
    return any(bool(region[int(click.row), int(click.column)]) for click in clicks)


def _near(clicks: list[PlaneClick], shape: torch.Size) -> Tensor:
    """Weights of the pixels: ON_CLICK_WEIGHT on a click, 1 near it, 0 elsewhere. -> (S, S) float32."""
    rows, columns = torch.arange(shape[0])[:, None], torch.arange(shape[1])[None, :]
    near, on = torch.zeros(shape), torch.zeros(shape)
    for click in clicks:
        squared = (rows - click.row) ** 2 + (columns - click.column) ** 2
        near[squared <= NEAR_CLICK_PIXELS**2] = 1.0
        on[squared <= CLICK_RADIUS**2] = ON_CLICK_WEIGHT
    return torch.maximum(near, on)
