"""Automatic segmentation: a volume in, a labelmap on exactly its grid out.

Slices go through the network in batches, slab by slab, so that probabilities never exist for the whole volume.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from udfa.checkpoint import Checkpoint
from udfa.checks import check_volume
from udfa.config import ModelConfig
from udfa.devices import ExecutionPlan, free_cached_memory, is_out_of_memory, make_plan
from udfa.errors import CancelledError, InvalidInputError, UDFAError
from udfa.geometry import Volume, canonical_orientation, reorient
from udfa.networks.udfa import UDFA, EncoderFeatures
from udfa.postprocessing import keep_largest_component, remove_small_parts
from udfa.preprocessing import (
    IntensityRule,
    PlaneGrid,
    gaussian_window,
    intensity_rule,
    network_slices,
    plane_grid,
    resize_planes,
    tile_side,
    tile_starts,
)
from udfa.prompts import SparsePrompt


@dataclass(frozen=True)
class Progress:
    """State of a run after a batch."""

    done: int
    """Slices finished."""
    total: int
    """Slices in all."""
    seconds_left: float | None
    """Estimated time left; None before the first batch is done."""
    message: str = ""
    """What changed, such as a fall-back to another device; empty normally."""

    def of_series(self, index: int, count: int, elapsed_s: float) -> Progress:
        """Return the state of a run on several volumes of as many slices each, of which this is one.

        Args:
            index: Which volume this is, from 0.
            count: How many there are.
            elapsed_s: Seconds since the first one was begun.
        """
        done, total = index * self.total + self.done, count * self.total
        return replace(self, done=done, total=total, seconds_left=elapsed_s / done * (total - done) if done else None)


ProgressCallback = Callable[[Progress], None]
CancelCheck = Callable[[], bool]


@dataclass(frozen=True)
class SegmentOptions:
    """What the user can choose for a run."""

    labels: tuple[str, ...] | None = None
    """Names of the labels to keep; None keeps all."""
    uncertainty: bool = False
    """Also return the per-voxel uncertainty."""
    remove_islands: bool = True
    """Remove the small connected parts of the labels for which the checkpoint says that it helps."""


@dataclass
class SegmentationResult:
    """What a run returns."""

    labelmap: NDArray[np.uint8]
    """(D, H, W) on the input's grid; 0 is background, 1..K the checkpoint's labels."""
    uncertainty: NDArray[np.uint8] | None
    """(D, H, W) entropy of the class probabilities, 0 (certain) to 255 (all classes equally likely), or None."""
    plan: ExecutionPlan
    """Device, precision and batch size at the end of the run."""
    seconds: float
    """Wall time of the run."""
    warnings: list[str] = field(default_factory=list)
    """What looked wrong with the input, and fall-backs during the run, in plain words."""


class NotFiniteError(UDFAError, RuntimeError):
    """The network gave NaN or infinity, as where half precision overflows."""


@dataclass(frozen=True)
class _Task:
    """One run's fixed parts."""

    array: NDArray[np.generic]
    grid: PlaneGrid
    rule: IntensityRule
    config: ModelConfig
    keep: Tensor


class Segmenter:
    """Segments volumes with one checkpoint. Keeps the network on its device between runs.

    Args:
        network: The network in eval mode.
        config: Its configuration.
        plan: Where and how to run; None chooses.

    Attributes:
        lock: Held while the network is used, batch by batch, so that several threads can share it. Hold it to use the
            network several times on one plan.
    """

    def __init__(self, network: UDFA, config: ModelConfig, plan: ExecutionPlan | None = None) -> None:
        self.lock = threading.RLock()
        self.network = network
        self.config = config
        self.plan = plan or make_plan()
        self._chosen: ExecutionPlan | None = None

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint, plan: ExecutionPlan | None = None) -> Segmenter:
        """Return a segmenter for a loaded checkpoint."""
        return cls(checkpoint.network, checkpoint.info.config, plan)

    def segment(
        self,
        volume: Volume,
        options: SegmentOptions | None = None,
        progress: ProgressCallback | None = None,
        cancelled: CancelCheck | None = None,
    ) -> SegmentationResult:
        """Segment a volume of any orientation.

        Args:
            volume: Scalar (D, H, W) volume.
            options: The user's choices.
            progress: Called after each batch and on a fall-back, on the calling thread.
            cancelled: Asked before each batch and after the last one; True stops the run.

        Raises:
            InvalidInputError: The volume or an option cannot be used.
            CancelledError: `cancelled` returned True.
            UDFAError: Memory ran out even on the lightest plan.
        """
        started = time.monotonic()
        options = options or SegmentOptions()
        keep = self._kept_classes(options)
        warnings = check_volume(volume, self.config.preprocessing)
        orientation = canonical_orientation(volume, self.config.preprocessing.slice_axis)
        canonical = reorient(volume, orientation)
        grid = plane_grid(canonical.array, canonical.spacing_mm, self.config.preprocessing)
        rule = intensity_rule(canonical.array, self.config.preprocessing)
        task = _Task(canonical.array, grid, rule, self.config, keep)
        labelmap = np.zeros(canonical.array.shape, dtype=np.uint8)
        uncertainty = np.zeros(canonical.array.shape, dtype=np.uint8) if options.uncertainty else None
        for start, labels, entropy, message in self._batches(task, options.uncertainty, progress, cancelled):
            if message:
                warnings.append(message)
                continue
            row, row_end, column, column_end = grid.crop
            labelmap[start : start + len(labels), row:row_end, column:column_end] = labels
            if uncertainty is not None and entropy is not None:
                uncertainty[start : start + len(labels), row:row_end, column:column_end] = entropy
        if options.remove_islands:
            self._clean(labelmap, cancelled)
        return SegmentationResult(
            labelmap=np.ascontiguousarray(orientation.invert(labelmap)),
            uncertainty=None if uncertainty is None else np.ascontiguousarray(orientation.invert(uncertainty)),
            plan=self.plan,
            seconds=time.monotonic() - started,
            warnings=warnings,
        )

    def _kept_classes(self, options: SegmentOptions) -> Tensor:
        """Label value to write for each class: itself if kept, else 0. (K,) uint8."""
        names = self.config.labels
        wanted = names if options.labels is None else options.labels
        unknown = [name for name in wanted if name not in names]
        if unknown or not wanted:
            named = ", ".join(map(repr, unknown)) or "(none given)"
            raise InvalidInputError(f"This model has no label {named}. It has: {', '.join(names)}.")
        return torch.tensor([0] + [i if n in wanted else 0 for i, n in enumerate(names, start=1)], dtype=torch.uint8)

    def _batches(
        self, task: _Task, uncertainty: bool, progress: ProgressCallback | None, cancelled: CancelCheck | None
    ) -> Iterator[tuple[int, NDArray[np.uint8], NDArray[np.uint8] | None, str]]:
        """Yield (first slice, labels, entropy, "") per batch; on a fall-back (slice, empty, None, message)."""
        depth, start = task.array.shape[0], 0
        began: float | None = None
        while start < depth:
            if cancelled is not None and cancelled():
                raise CancelledError("Segmentation was cancelled; nothing was changed.")
            with self.lock:
                if began is None:
                    # What another run fell back to does not bind this one.
                    self.plan, self._chosen, began = self._chosen or self.plan, None, time.monotonic()
                stop, message = min(depth, start + self.plan.batch_size), ""
                try:
                    labels, entropy = self._run_batch(task, start, stop, uncertainty)
                except (RuntimeError, MemoryError) as error:
                    message = self.lighten(error)
            if message:
                if progress is not None:
                    progress(Progress(start, depth, None, message))
                yield start, np.zeros((0, 0, 0), np.uint8), None, message
                continue
            yield start, labels, entropy, ""
            start = stop
            if progress is not None:
                left = (time.monotonic() - began) / start * (depth - start)
                progress(Progress(start, depth, left))
        # A request during the last batch counts, too.
        if cancelled is not None and cancelled():
            raise CancelledError("Segmentation was cancelled; nothing was changed.")

    def lighten(self, error: BaseException) -> str:
        """Switch to a plan without what failed and say so; re-raise errors that no other plan avoids.

        After running out of memory it is the next lighter plan, and float32 where half precision overflowed.
        """
        if isinstance(error, NotFiniteError) and self.plan.dtype != torch.float32:
            return self._go_on_with(self.plan.wider(), "The network's values are not finite")
        if not is_out_of_memory(error):
            raise error
        lighter = self.plan.lighter()
        if lighter is None:
            raise UDFAError(
                "Memory ran out even with one slice at a time on the CPU. Close other programs or crop the volume."
            ) from error
        free_cached_memory(self.plan.device)
        return self._go_on_with(lighter, "Memory ran out")

    def _go_on_with(self, plan: ExecutionPlan, reason: str) -> str:
        message = f"{reason} ({self.plan.describe()}); going on with {plan.describe()}."
        self._chosen = self._chosen or self.plan
        self.plan = plan
        return message

    @torch.inference_mode()
    def _run_batch(
        self, task: _Task, start: int, stop: int, uncertainty: bool
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
        """Segment slices start..stop. Returns labels and entropy, (n, H, W) of the crop at native resolution."""
        settings = task.config.preprocessing
        image = network_slices(task.array, start, stop, task.grid, task.rule, settings.in_slices)
        probabilities = self.tiled_probabilities(image)
        row, row_end, column, column_end = task.grid.crop
        native = (row_end - row, column_end - column)
        labels = np.zeros((stop - start, *native), dtype=np.uint8)
        entropy = np.zeros_like(labels) if uncertainty else None
        for i, classes in enumerate(probabilities):
            classes = resize_planes(classes, native)
            labels[i] = task.keep[classes.argmax(dim=0).cpu()].numpy()
            if entropy is not None:
                entropy[i] = scaled_entropy(classes).cpu().numpy()
        return labels, entropy

    def tiled_probabilities(self, image: Tensor) -> Tensor:
        """Class probabilities of slices of any size by blended tiles. (n, 3, h, w) -> (n, K, h, w) float32."""
        settings = self.config.preprocessing
        height, width = image.shape[-2:]
        side = tile_side((height, width), settings.tile_size)
        rows = tile_starts(height, side, settings.tile_overlap)
        columns = tile_starts(width, side, settings.tile_overlap)
        image = image.to(self.plan.device)
        padded = F.pad(image, (0, max(0, side - width), 0, max(0, side - height)), mode="replicate")
        if len(rows) == len(columns) == 1:
            return self._probabilities(padded)[:, :, :height, :width]
        window = gaussian_window(side).to(image.device)
        total = torch.zeros((len(image), self.config.network.num_classes, *padded.shape[-2:]), device=image.device)
        weight = torch.zeros(padded.shape[-2:], device=image.device)
        for row in rows:
            for column in columns:
                tile = padded[:, :, row : row + side, column : column + side]
                total[:, :, row : row + side, column : column + side] += self._probabilities(tile) * window
                weight[row : row + side, column : column + side] += window
        return (total / weight)[:, :, :height, :width]

    def _probabilities(self, tile: Tensor) -> Tensor:
        """(n, 3, S, S) -> (n, K, S, S) float32 probabilities, in the plan's precision."""
        network = self._placed_network()
        tile = tile.contiguous(memory_format=torch.channels_last)
        with self._autocast():
            logits: Tensor = network(tile)
        return self._shares(logits)

    @torch.inference_mode()
    def encode(self, tile: Tensor) -> EncoderFeatures:
        """Encoder features of tiles for later decoding with clicks. (n, 3, S, S) -> features on the plan's device."""
        network = self._placed_network()
        with self._autocast():
            return network.encode(tile.to(self.plan.device).contiguous(memory_format=torch.channels_last))

    @torch.inference_mode()
    def decode(self, features: EncoderFeatures, prompt: SparsePrompt | None = None) -> Tensor:
        """Class probabilities (n, K, H, W) float32 from features and an optional prompt of the same size."""
        values = None if prompt is None else prompt.values.to(self.plan.device)
        channels = None if prompt is None else prompt.channels
        with self._autocast():
            logits = self.network.decode(features, prompt=values, prompt_channels=channels)[0]
        return self._shares(logits)

    def _shares(self, logits: Tensor) -> Tensor:
        """(n, K, h, w) -> class probabilities, float32. NaN would count as background, so it is an error."""
        logits = logits.float()
        if not torch.isfinite(logits).all():
            raise NotFiniteError(
                f"The network's values are not finite ({self.plan.describe()}). Run it on another device; if they are "
                f"not there either, the checkpoint is of no use."
            )
        return logits.softmax(dim=1)

    def _placed_network(self) -> UDFA:
        """The network on the plan's device."""
        # Weights that are moved within inference mode could never be trained again.
        with torch.inference_mode(False):
            placed: UDFA = self.network.to(self.plan.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return placed

    def _autocast(self) -> AbstractContextManager[None]:
        enabled = self.plan.dtype != torch.float32
        kind = self.plan.device.split(":")[0]
        return torch.autocast(kind, dtype=self.plan.dtype if enabled else None, enabled=enabled)

    def _clean(self, labelmap: NDArray[np.uint8], cancelled: CancelCheck | None) -> None:
        rules = self.config.postprocessing
        for value, name in enumerate(self.config.labels, start=1):
            if cancelled is not None and cancelled():
                raise CancelledError("Segmentation was cancelled; nothing was changed.")
            if name in rules.largest_component_labels:
                keep_largest_component(labelmap, value)
            elif name in rules.small_part_labels:
                remove_small_parts(labelmap, value, rules.small_part_share)


def scaled_entropy(probabilities: Tensor) -> Tensor:
    """Entropy of class probabilities, 255 when all classes are equally likely. (K, H, W) -> (H, W) uint8."""
    classes = probabilities.shape[0]
    entropy = torch.special.entr(probabilities).sum(dim=0) / np.log(classes)
    return (entropy * 255).round().clamp(0, 255).to(torch.uint8)
