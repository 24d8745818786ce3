"""How long a run will take and how much memory it needs, before torch is imported or installed."""

from __future__ import annotations

from dataclasses import dataclass, replace

from udfa.config import ModelConfig
from udfa.geometry import Volume, canonical_orientation, reorient
from udfa.grid import plane_grid, tile_side, tile_starts

REFERENCE_SIDE = 256
"""Speeds are given for a slice of this many pixels squared."""

DEFAULT_SECONDS_PER_SLICE = {"cpu": 0.3, "auto": 0.3}
"""Measured with `mini` on two busy cores; only there until the first run of a checkpoint has measured its own. The
automatic choice may find a graphics card, which is faster."""

LIBRARY_BYTES = 700_000_000
"""Memory of torch's libraries and a small network, measured."""

ACTIVATION_BYTES_PER_PIXEL = 500
"""Peak memory of a forward pass of `mini` per pixel of a batch, measured on the CPU (450) and rounded up."""


@dataclass(frozen=True)
class RunEstimate:
    """What a run will cost."""

    slices: int
    tilesPerSlice: int
    tileSide: int
    """Side of a tile in pixels."""
    networkShape: tuple[int, int]
    """(H, W) of a slice as the network sees it."""
    memoryBytes: int
    """Memory that the run adds to what Slicer uses now."""
    seconds: float | None
    """Wall time; None where nothing is known of the device's speed."""
    measured: bool
    """Whether the speed comes from an earlier run on this computer."""
    device: str = "cpu"
    """The device that was chosen: auto, cpu, cuda, cuda:N or mps."""
    frames: int = 1
    """How many such volumes are segmented: the frames of a sequence."""

    @property
    def referenceSlices(self) -> float:
        """Work for one volume, in slices of 256 x 256 pixels."""
        return self.slices * self.tilesPerSlice * (self.tileSide / REFERENCE_SIDE) ** 2

    def text(self) -> str:
        """Return the estimate in a line for the panel."""
        memory = f"{self.memoryBytes / 1e9:.1f} GB of memory"
        slices = f"{self.slices} slices" if self.frames == 1 else f"{self.frames} frames of {self.slices} slices"
        if self.seconds is None:
            return f"{slices}, about {memory}; the time is known after the first run on this device"
        rough = "about" if self.measured else "very roughly"
        limit = " without a graphics card" if self.device == "auto" and not self.measured else ""
        return f"{slices}: {rough} {durationText(max(1.0, self.seconds))}{limit}, about {memory}"


def estimateRun(
    volume: Volume,
    config: ModelConfig,
    secondsPerSlice: float | None = None,
    device: str = "cpu",
    batchSize: int = 4,
    frames: int = 1,
) -> RunEstimate:
    """Estimate time and memory with the same grid of slices and tiles that the run will use.

    Args:
        volume: (D, H, W) volume; for CT its voxels are looked at to find the patient's outline.
        config: The checkpoint's configuration.
        secondsPerSlice: Seconds for a slice of 256 x 256 pixels, measured before; None for a rough default.
        device: auto, cpu, cuda, cuda:N or mps.
        batchSize: Slices per batch.
        frames: How many volumes like this one are segmented.
    """
    settings = config.preprocessing
    canonical = reorient(volume, canonical_orientation(volume, settings.slice_axis))
    grid = plane_grid(canonical.array, canonical.spacing_mm, settings)
    side = tile_side(grid.network_shape, settings.tile_size)
    rows, columns = (len(tile_starts(length, side, settings.tile_overlap)) for length in grid.network_shape)
    known = secondsPerSlice is not None
    speed = secondsPerSlice if known else DEFAULT_SECONDS_PER_SLICE.get(device.split(":")[0])
    estimate = RunEstimate(
        slices=canonical.array.shape[0],
        tilesPerSlice=rows * columns,
        tileSide=side,
        networkShape=grid.network_shape,
        memoryBytes=_memory(volume, config, grid.network_shape, side, batchSize, frames),
        seconds=None,
        measured=known,
        device=device,
        frames=frames,
    )
    if speed is None:
        return estimate
    return replace(estimate, seconds=estimate.referenceSlices * speed * frames)


def _memory(
    volume: Volume, config: ModelConfig, networkShape: tuple[int, int], side: int, batchSize: int, frames: int
) -> int:
    """Copies of the voxels, labelmap and uncertainty, one batch in the network, one slice of native probabilities."""
    array, classes = volume.array, config.network.num_classes
    perVoxel = array.dtype.itemsize + 2
    batch = batchSize * (side * side * ACTIVATION_BYTES_PER_PIXEL + networkShape[0] * networkShape[1] * classes * 8)
    native = 2 * 4 * classes * array.shape[1] * array.shape[2]
    return int(LIBRARY_BYTES + array.size * perVoxel * frames + batch + native)


def measuredSecondsPerSlice(estimate: RunEstimate, seconds: float) -> float:
    """Return the seconds for a slice of 256 x 256 pixels that a finished run took, to be remembered in Settings."""
    return seconds / estimate.referenceSlices


def durationText(seconds: float) -> str:
    """Return a duration as people say it: 8 s, 3 min, 1 h 5 min."""
    if seconds < 1:
        return "less than a second"
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
