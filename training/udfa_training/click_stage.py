"""Training of the prompt encoder with simulated, iterative clicks; everything else is frozen."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from monai.losses import DiceCELoss
from scipy import ndimage
from torch import Tensor, nn

from udfa.networks.udfa import UDFA, EncoderFeatures
from udfa.prompts import CLICK_RADIUS, PlaneClick, click_maps, one_hot_labels
from udfa_training.click_simulation import ReaderConfig, disturbed, next_click
from udfa_training.hard_cases import corrupted, renamed

START_SHARES = (0.5, 0.2, 0.3)
"""How often a sample starts from the automatic result, from nothing, and from a disturbed reference."""

NEAR_CLICK_PIXELS = 12.0
"""Pixels nearer than this to a click weigh extra: an edit is local."""

NEAR_CLICK_WEIGHT = 1.0

ON_CLICK_WEIGHT = 4.0
"""Weight of the pixels of a click's own disc among those near it: a click is to be followed."""


class ClickObjective(nn.Module):
    """One training step of the prompt encoder.

    A reader clicks one to `max_clicks` times; each click answers what the clicks before it led to. Only the last
    answer is trained, so that memory and time stay those of one decoder pass with gradients.

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
        """Return the loss. Image (B, 3, S, S), label (B, 1, S, S) int64; seed fixes all draws."""
        random = np.random.default_rng((seed, 1))
        original = label[:, 0].cpu().numpy()
        tasks = [renamed(plane, self.network.config.num_classes, random) for plane in original]
        reference = np.stack([task.labels for task in tasks])
        with torch.no_grad():
            features = corrupted(self.network.encode(image), random)
            automatic = self.network.decode(features)[0].argmax(dim=1).cpu().numpy()
        current = np.stack([self._start(a, r, random) for a, r in zip(automatic, reference)])
        clicks: list[list[PlaneClick]] = [[] for _ in current]
        rounds = int(random.integers(1, self.max_clicks + 1))
        for i in range(rounds):
            self._click(clicks, current, reference, random)
            prompt = self._prompt(clicks, current).to(image.device)
            if i + 1 < rounds:
                with torch.no_grad():
                    logits = self._answer(features, prompt)
                answers = logits.argmax(dim=1).cpu().numpy()
                current = np.stack([accepted(c, a, found) for c, a, found in zip(current, answers, clicks)])
        logits = self._answer(features, prompt).float()
        # Nobody can know of a new name that no click has told.
        settled = [t.labels if told(c, t.region) else o for c, t, o in zip(clicks, tasks, original)]
        target = torch.from_numpy(np.stack(settled)).to(image.device)
        near = torch.stack([_near(c, label.shape[-2:]) for c in clicks]).to(image.device)
        pointwise = F.cross_entropy(logits, target, reduction="none")
        local = (pointwise * near).sum() / near.sum().clamp(min=1)
        loss: Tensor = self.criterion(logits, target[:, None]) + NEAR_CLICK_WEIGHT * local
        return loss

    def _answer(self, features: EncoderFeatures, prompt: Tensor) -> Tensor:
        return self.network.decode(features, prompt=prompt)[0]

    @staticmethod
    def _start(automatic: np.ndarray, reference: np.ndarray, random: np.random.Generator) -> np.ndarray:
        start = random.choice(len(START_SHARES), p=START_SHARES)
        if start == 0:
            return automatic
        return np.zeros_like(automatic) if start == 1 else disturbed(reference, random)

    def _click(
        self, clicks: list[list[PlaneClick]], current: np.ndarray, reference: np.ndarray, random: np.random.Generator
    ) -> None:
        for found, labels, wanted in zip(clicks, current, reference):
            click = next_click(labels, wanted, random, self.reader)
            if click is not None:
                found.append(click)

    def _prompt(self, clicks: list[list[PlaneClick]], current: np.ndarray) -> Tensor:
        """(B, 2K, S, S)"""
        classes = self.network.config.num_classes
        shape = (int(current.shape[1]), int(current.shape[2]))
        prompts = [
            torch.cat([click_maps(found, classes, shape), one_hot_labels(torch.from_numpy(labels), classes)])
            for found, labels in zip(clicks, current)
        ]
        return torch.stack(prompts)


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
