"""A segmenter whose network is a function of image, clicks and labels, for tests of correction by clicks."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, Optional

import numpy as np
import torch
from torch import Tensor, nn

from udfa.config import ModelConfig, NetworkConfig, PreprocessingConfig
from udfa.devices import ExecutionPlan
from udfa.geometry import Volume
from udfa.inference import Segmenter
from udfa.interaction import CorrectionSession, SessionOptions
from udfa.networks.udfa import UDFA, EncoderFeatures
from udfa.prompts import SparsePrompt

LIVER, SPLEEN, STOMACH = 1, 2, 3
LABELS = ("liver", "spleen", "stomach")
PROMPT_CHANNELS = (8, 8, 16, 16)

LPS_AXES = np.eye(3)[:, ::-1].copy()
"""Direction of an array whose axes (D, H, W) run towards superior, posterior and left."""

Opinion = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""(HU (S, S), click maps (K, S, S), one-hot labels (K, S, S)) -> labels (S, S) that the fake network is sure of."""


def click_config(**preprocessing: Any) -> ModelConfig:
    """A CT model with three labels that takes clicks, by default on the native pixel grid and without crop."""
    settings: dict[str, Any] = {"in_plane_spacing_mm": None, "tile_size": 64, "crop_to_body": False, **preprocessing}
    return ModelConfig(
        task="Test (CT)",
        labels=LABELS,
        network=NetworkConfig(num_classes=4, prompt_channels=PROMPT_CHANNELS),
        preprocessing=PreprocessingConfig(**settings),
    )


class FakeSegmenter:
    """Takes the place of `udfa.inference.Segmenter` in a session.

    Args:
        opinion: What the network thinks.
        preprocessing: Changes to the preprocessing of `click_config`.
    """

    def __init__(self, opinion: Opinion, **preprocessing: Any) -> None:
        self.opinion = opinion
        self.lock = threading.RLock()
        self.config = click_config(**preprocessing)
        self.network = SimpleNamespace(prompt_encoder=object())
        self.plan = ExecutionPlan("cpu", torch.float32, 1)
        self.encoded = 0
        self.prompts: list[Tensor] = []
        """What was shown with each question, (1, 3K, S, S)."""
        self.errors: list[BaseException] = []
        """Raised by the next calls of decode, one each."""

    def encode(self, tile: Tensor) -> EncoderFeatures:
        self.encoded += len(tile)
        return EncoderFeatures(tile, [], torch.zeros(len(tile), 1, tile.shape[-2] // 16, tile.shape[-1] // 16))

    def decode(self, features: EncoderFeatures, prompt: Optional[SparsePrompt] = None) -> Tensor:
        if self.errors:
            raise self.errors.pop(0)
        if prompt is None:
            nothing = torch.zeros(3 * (len(LABELS) + 1), *features.image.shape[2:])
            return torch.cat([self._answer(image, nothing) for image in features.image])
        dense = dense_prompt(prompt, len(LABELS) + 1)
        self.prompts.extend(dense.split(1))
        return torch.cat([self._answer(image, shown) for image, shown in zip(features.image, dense)])

    def _answer(self, image: Tensor, prompt: Tensor) -> Tensor:
        """(3, S, S), (3K, S, S) -> (1, K, S, S)."""
        settings = self.config.preprocessing
        low, high = settings.window_hu
        hu = image[1].numpy() * settings.std * (high - low) + low + settings.mean * (high - low)
        maps, labels, _ = (part.numpy() for part in prompt.chunk(3))
        classes = torch.from_numpy(self.opinion(hu, maps, labels).astype(np.int64))
        return 0.9 * nn.functional.one_hot(classes, len(maps)).permute(2, 0, 1)[None].float() + 0.1 / len(maps)

    def lighten(self, error: BaseException) -> str:
        lighter = self.plan.lighter()
        if lighter is None:
            raise error
        self.plan = lighter
        return ""


def dense_prompt(prompt: SparsePrompt, num_classes: int) -> Tensor:
    """All channels of a prompt. -> (B, 3K, H, W)."""
    values = prompt.values
    dense = torch.zeros(len(values), 3 * num_classes, *values.shape[2:])
    dense[:, list(prompt.channels)] = values
    return dense


def by_intensity(*bounds: tuple[float, float, int]) -> Opinion:
    """A network that goes by HU alone: label `value` for low <= HU < high, for each (low, high, value)."""

    def opinion(hu: np.ndarray, maps: np.ndarray, labels: np.ndarray) -> np.ndarray:
        classes = np.zeros(hu.shape, dtype=np.int64)
        for low, high, value in bounds:
            classes[(hu >= low) & (hu < high)] = value
        return classes

    return opinion


def always(value: int) -> Opinion:
    """A network that sees one label everywhere."""
    return lambda hu, maps, labels: np.full(hu.shape, value)


def stubborn(hu: np.ndarray, maps: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """A network that wants the labels as they stand, whatever is clicked."""
    return np.asarray(labels.argmax(axis=0))


def volume_of(hu: np.ndarray, spacing_mm: tuple[float, float, float] = (2.0, 1.0, 1.0)) -> Volume:
    """A volume whose axes run towards superior, posterior and left."""
    return Volume(np.asarray(hu, dtype=np.int16), spacing_mm, LPS_AXES)


def session_of(
    hu: np.ndarray,
    labelmap: np.ndarray,
    opinion: Opinion,
    options: Optional[SessionOptions] = None,
    **preprocessing: Any,
) -> CorrectionSession:
    """A session around a fake network; the volume has slices of 2 mm and pixels of 1 mm."""
    segmenter = FakeSegmenter(opinion, **preprocessing)
    return CorrectionSession(segmenter, volume_of(hu), labelmap.astype(np.uint8), options)  # type: ignore[arg-type]


def change_opinion(session: CorrectionSession, opinion: Opinion) -> None:
    """Let the network of a session of `session_of` answer otherwise from now on."""
    session.segmenter.opinion = opinion  # type: ignore[attr-defined]
    session.network.forget()


def mini_segmenter(seed: int = 0, **preprocessing: Any) -> Segmenter:
    """The real segmenter with a `mini` network of random weights, prompt encoder included, in float32 on the CPU."""
    config = click_config(**preprocessing)
    torch.manual_seed(seed)
    network = UDFA(config.network)
    wake_prompt_encoder(network, seed)
    network.eval().requires_grad_(False)
    return Segmenter(network, config, ExecutionPlan("cpu", torch.float32, 2))


def wake_prompt_encoder(network: UDFA, seed: int = 0) -> None:
    """Give the zero-initialised parts of the prompt encoder random weights, as after training."""
    assert network.prompt_encoder is not None
    torch.manual_seed(seed)
    with torch.no_grad():
        for layer in (*network.prompt_encoder.to_skip, network.prompt_encoder.to_output):
            layer.weight.normal_(std=0.5)
            layer.bias.normal_(std=0.5)


def with_carry(slices: int, **changes: Any) -> SessionOptions:
    """Options with another limit of the carrying."""
    return replace(SessionOptions(), carry_slices=slices, **changes)
