"""Correction by clicks: a session that holds a volume, its labelmap, the clicks, and the edits they caused.

A click runs the decoder only: the encoder's features of a slice are cached. What the network proposes is then put
through the rules of `udfa.edit_rules`, carried to neighbouring slices while it agrees with the image, and recorded as a
box delta that can be undone bit for bit.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Optional

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from udfa.edit_rules import Mask, Slice, apply_change, change_for_clicks, changeable, proposed_change, touching
from udfa.errors import InvalidInputError
from udfa.features import FeatureCache
from udfa.geometry import Volume, canonical_orientation, reorient
from udfa.history import EMPTY_BOX, Click, Edit, History, delta
from udfa.inference import Segmenter
from udfa.networks.udfa import EncoderFeatures
from udfa.preprocessing import intensity_rule, network_slices, plane_grid, resize_planes, tile_side
from udfa.prompts import PlaneClick, click_maps, one_hot_labels, prompt_tensor, region_maps, resize_labels

Position = tuple[int, int, int]
"""Voxel index (D, H, W) on the volume's own grid."""


@dataclass(frozen=True)
class SessionOptions:
    """What the user can set for corrections."""

    carry_slices: int = 4
    """How many slices up and down a correction may be carried; 0 edits the clicked slice only."""
    reach_mm: float = 60.0
    """How far from the click a correction may reach within a slice, in mm."""
    cache_bytes: int = 512 * 1024**2
    """Memory for cached encoder features."""
    undo_depth: int = 100
    """Edits that can be undone."""

    def __post_init__(self) -> None:
        if self.carry_slices < 0 or self.reach_mm <= 0 or self.undo_depth < 1:
            raise InvalidInputError(f"carry_slices, reach_mm and undo_depth must be at least 0, above 0, 1: {self}.")


CARRY_MARGIN_MM = 4.0
"""How far a carried correction may grow beyond its outline on the slice before."""

CARRY_OVERLAP = 0.3
"""Share of the slice before's correction that must be confirmed for the carrying to go on."""

CARRY_TOLERANCE = 0.35
"""Largest change of normalised intensity from slice to slice for a pixel to count as the same tissue."""


class CorrectionSession:
    """Corrects one labelmap by clicks.

    Args:
        segmenter: Holds the network, with a prompt encoder, and where it runs.
        volume: The scalar volume, any orientation.
        labelmap: (D, H, W) uint8 on the volume's grid; copied.
        options: Settings.

    Raises:
        InvalidInputError: The checkpoint takes no clicks, or labelmap and volume do not fit.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        volume: Volume,
        labelmap: NDArray[np.uint8],
        options: Optional[SessionOptions] = None,
    ) -> None:
        if segmenter.network.prompt_encoder is None:
            raise InvalidInputError("This checkpoint takes no clicks: it has no prompt encoder. Choose another.")
        if labelmap.shape != volume.array.shape:
            raise InvalidInputError(f"Labelmap {labelmap.shape} and volume {volume.array.shape} differ in shape.")
        self.segmenter = segmenter
        self.options = options or SessionOptions()
        self.labelmap = np.ascontiguousarray(labelmap, dtype=np.uint8).copy()
        self.clicks: list[Click] = []
        self.locked: frozenset[int] = frozenset()
        self._settings = segmenter.config.preprocessing
        self._orientation = canonical_orientation(volume, self._settings.slice_axis)
        self._canonical = reorient(volume, self._orientation)
        # A view: what is written to canonical slices stands in `labelmap` at once.
        self._labels = self._orientation.apply(self.labelmap)
        self._grid = plane_grid(self._canonical.array, self._canonical.spacing_mm, self._settings)
        self._rule = intensity_rule(self._canonical.array, self._settings)
        self._cache = FeatureCache(self.options.cache_bytes)
        self._history = History(self.options.undo_depth)

    @property
    def can_undo(self) -> bool:
        """Whether there is an edit to undo."""
        return self._history.can_undo

    @property
    def can_redo(self) -> bool:
        """Whether there is an edit to redo."""
        return self._history.can_redo

    def lock(self, values: Iterable[int]) -> None:
        """Set the label values that must neither lose nor gain voxels."""
        self.locked = frozenset(values)

    def click(self, position: Position, value: int, positive: bool = True) -> Edit:
        """Correct the labelmap around one voxel. See `scribble`."""
        return self.scribble([position], value, positive)

    def scribble(self, positions: Sequence[Position], value: int, positive: bool = True) -> Edit:
        """Correct the labelmap around the voxels of a stroke; one edit.

        Args:
            positions: Voxels (D, H, W) on the volume's grid.
            value: Label value 1..K.
            positive: The voxels belong to the label, or do not.

        Returns:
            The edit, already applied; with an empty box and a note when nothing was to be changed.

        Raises:
            InvalidInputError: A position is outside the volume, or the label is unknown.
        """
        started = time.perf_counter()
        clicks = tuple(Click(self._checked(p), self._checked_value(value), positive) for p in positions)
        kind: Literal["click", "scribble"] = "click" if len(clicks) == 1 else "scribble"
        self.clicks.extend(clicks)
        planes = {} if value in self.locked else self._changed_planes(clicks, value, positive)
        edit = self._commit(planes, clicks, kind)
        edit = replace(edit, seconds=time.perf_counter() - started, note=self._note(edit, value))
        self._history.push(edit)
        return edit

    def take_up(self, labelmap: NDArray[np.uint8]) -> Optional[Edit]:
        """Take up changes made elsewhere (brush, eraser); returns them as an edit, None if there are none."""
        found = delta(self.labelmap, labelmap)
        if found is None:
            return None
        box, before, after = found
        self.labelmap[box] = after
        edit = Edit(box, before, after, kind="manual")
        self._history.push(edit)
        return edit

    def undo(self) -> Optional[Edit]:
        """Take the last edit back, its clicks included; None when there is none."""
        edit = self._history.undo(self.labelmap)
        if edit is not None and edit.clicks:
            del self.clicks[-len(edit.clicks) :]
        return edit

    def redo(self) -> Optional[Edit]:
        """Apply the last undone edit again, its clicks included; None when there is none."""
        edit = self._history.redo(self.labelmap)
        if edit is not None:
            self.clicks.extend(edit.clicks)
        return edit

    def _checked(self, position: Position) -> Position:
        inside = all(0 <= p < n for p, n in zip(position, self.labelmap.shape))
        if len(position) != 3 or not inside:
            raise InvalidInputError(f"Voxel {position} is outside the volume {self.labelmap.shape} (D, H, W).")
        d, h, w = (int(p) for p in position)
        return (d, h, w)

    def _checked_value(self, value: int) -> int:
        count = len(self.segmenter.config.labels)
        if not 1 <= value <= count:
            raise InvalidInputError(f"Label value {value} is unknown; this model has 1..{count}.")
        return int(value)

    def _note(self, edit: Edit, value: int) -> str:
        if edit.changed_voxels:
            return ""
        if value in self.locked:
            return f"{self.segmenter.config.labels[value - 1]} is locked."
        held = [self.labelmap[c.position] for c in edit.clicks]
        if any(int(v) in self.locked for v in held):
            return "The clicked voxel belongs to a locked label."
        return "The clicked voxel is already as wanted."

    def _to_plane(self, position: Position) -> tuple[int, int, int]:
        """Voxel (D, H, W) of the volume's grid -> canonical (slice, row, column)."""
        shape = self._labels.shape
        source = [position[axis] for axis in self._orientation.permutation]
        z, row, column = (n - 1 - p if f else p for p, n, f in zip(source, shape, self._orientation.flips))
        return z, row, column

    def _changed_planes(self, clicks: Sequence[Click], value: int, positive: bool) -> dict[int, NDArray[np.uint8]]:
        """New labels of each canonical slice that the clicks change."""
        points: dict[int, list[tuple[int, int]]] = {}
        for click in clicks:
            z, row, column = self._to_plane(click.position)
            points.setdefault(z, []).append((row, column))
        planes: dict[int, NDArray[np.uint8]] = {}
        changes: dict[int, Mask] = {}
        for z, here in points.items():
            piece = self._slice(z, here[-1], None, value)
            change = change_for_clicks(piece, here, value, positive, self.options.reach_mm)
            changes[z] = change
            if change.any():
                planes[z] = apply_change(piece, change, value, positive)
        for z, step in ((max(points), 1), (min(points), -1)):
            self._carry(planes, z, step, changes[z], (value, positive))
        return planes

    def _carry(
        self, planes: dict[int, NDArray[np.uint8]], start: int, step: int, change: Mask, aim: tuple[int, bool]
    ) -> None:
        """Carry a correction from slice to slice in one direction while image and network confirm it."""
        value, positive = aim
        z = start
        for _ in range(self.options.carry_slices):
            previous, z = z, z + step
            if not change.any() or not 0 <= z < len(self._labels) or z in planes:
                return
            same_tissue = np.abs(self._intensity(z) - self._intensity(previous)) <= CARRY_TOLERANCE
            hint = change & same_tissue
            if not hint.any():
                return
            rows, columns = np.nonzero(hint)
            middle = (int(np.median(rows)), int(np.median(columns)))
            piece = self._slice(z, middle, hint if positive else None, value)
            within = dilated(change, CARRY_MARGIN_MM, piece.spacing_mm)
            confirmed = proposed_change(piece, value, positive) & within
            confirmed = touching(confirmed, list(zip(rows.tolist(), columns.tolist())))
            open_part = change & changeable(piece, value, positive)
            if not open_part.any() or (confirmed & change).sum() < CARRY_OVERLAP * open_part.sum():
                return
            planes[z] = apply_change(piece, confirmed, value, positive)
            change = confirmed

    def _intensity(self, z: int) -> NDArray[np.float32]:
        """Normalised intensities of a canonical slice. -> (H, W)."""
        return np.asarray(self._rule.apply(self._canonical.array[z]).numpy())

    @torch.inference_mode()
    def _slice(self, z: int, centre: tuple[int, int], hint: Optional[Mask], value: int) -> Slice:
        """Ask the network about a slice, given all clicks on it and an optional hint region for `value`."""
        height, width = self._labels.shape[1:]
        row, row_end, column, column_end = self._grid.crop
        probabilities = np.zeros((self.segmenter.config.network.num_classes, height, width), dtype=np.float32)
        probabilities[0] = 1.0
        answer = self._answer(z, centre, hint, value)
        native = resize_planes(answer, (row_end - row, column_end - column))
        probabilities[:, row:row_end, column:column_end] = native.numpy()
        spacing = self._canonical.spacing_mm
        return Slice(
            labels=np.asarray(self._labels[z]),
            probabilities=probabilities,
            intensity=self._intensity(z),
            locked=self.locked,
            spacing_mm=(spacing[1], spacing[2]),
        )

    def _answer(self, z: int, centre: tuple[int, int], hint: Optional[Mask], value: int) -> torch.Tensor:
        """Class probabilities of a slice on the network's grid; outside the window around a click, the labels' own."""
        classes = self.segmenter.config.network.num_classes
        shape = self._grid.network_shape
        row, row_end, column, column_end = self._grid.crop
        plane = np.ascontiguousarray(self._labels[z, row:row_end, column:column_end])
        labels = one_hot_labels(resize_labels(torch.from_numpy(plane), shape), classes)
        maps = [click_maps(self._plane_clicks(z), classes, shape)]
        if hint is not None:
            inside = np.ascontiguousarray(hint[row:row_end, column:column_end])
            maps.append(region_maps(resize_labels(torch.from_numpy(inside), shape), value, classes))
        side = tile_side(shape, self._settings.tile_size)
        top, left = self._window(centre, side)
        area = (slice(None), slice(top, min(shape[0], top + side)), slice(left, min(shape[1], left + side)))
        prompt = prompt_tensor([m[area] for m in maps], labels[area], side)
        features = self._features(z, top, left, side)
        answer = labels.clone()
        answer[area] = self._decode(features, prompt)[:, : answer[area].shape[1], : answer[area].shape[2]]
        return answer

    def _plane_clicks(self, z: int) -> list[PlaneClick]:
        """The session's clicks on a canonical slice, in network pixels of the cropped slice."""
        found = []
        row_start, row_end, column_start, column_end = self._grid.crop
        rows = self._grid.network_shape[0] / (row_end - row_start)
        columns = self._grid.network_shape[1] / (column_end - column_start)
        for click in self.clicks:
            at, row, column = self._to_plane(click.position)
            if at == z:
                y, x = (row - row_start + 0.5) * rows - 0.5, (column - column_start + 0.5) * columns - 0.5
                found.append(PlaneClick(y, x, click.value, click.positive))
        return found

    def _window(self, centre: tuple[int, int], side: int) -> tuple[int, int]:
        """First row and column, in network pixels, of the tile that shows a native pixel; stepped, for the cache."""
        row_start, row_end, column_start, column_end = self._grid.crop
        starts = []
        ranges = ((centre[0], row_start, row_end), (centre[1], column_start, column_end))
        for (pixel, start, end), length in zip(ranges, self._grid.network_shape):
            at = (pixel - start) * length / (end - start)
            step = max(1, side // 4)
            wanted = round((at - side / 2) / step) * step
            starts.append(int(min(max(0, wanted), max(0, length - side))))
        return starts[0], starts[1]

    def _features(self, z: int, top: int, left: int, side: int) -> EncoderFeatures:
        def encode() -> EncoderFeatures:
            image = network_slices(self._canonical.array, z, z + 1, self._grid, self._rule, self._settings.in_slices)
            tile = image[:, :, top : top + side, left : left + side]
            pad = (0, side - tile.shape[-1], 0, side - tile.shape[-2])
            return self.segmenter.encode(F.pad(tile, pad, mode="replicate"))

        return self._cache.get((z, top, left), encode)

    def _decode(self, features: EncoderFeatures, prompt: torch.Tensor) -> torch.Tensor:
        """(K, S, S) float32 probabilities on the CPU."""
        return self.segmenter.decode(features, prompt)[0].cpu()

    def _commit(
        self, planes: dict[int, NDArray[np.uint8]], clicks: tuple[Click, ...], kind: Literal["click", "scribble"]
    ) -> Edit:
        """Write new slices into the labelmap and return the change as an edit on the volume's own grid."""
        if not planes:
            empty = np.zeros((0, 0, 0), dtype=np.uint8)
            return Edit(EMPTY_BOX, empty, empty, clicks, kind=kind)
        low, high = min(planes), max(planes) + 1
        before = self._labels[low:high].copy()
        for z, plane in planes.items():
            self._labels[z] = plane
        found = delta(before, np.asarray(self._labels[low:high]), (low, 0, 0))
        if found is None:
            empty = np.zeros((0, 0, 0), dtype=np.uint8)
            return Edit(EMPTY_BOX, empty, empty, clicks, kind=kind)
        box, old, new = found
        slices = tuple(sorted(z for z in planes if (before[z - low] != self._labels[z]).any()))
        source_box = self._orientation.invert_box(box, self._labels.shape)
        return Edit(
            source_box,
            self._orientation.invert(old).copy(),
            self._orientation.invert(new).copy(),
            clicks,
            slices,
            0.0,
            kind,
        )


def dilated(mask: Mask, margin_mm: float, spacing_mm: tuple[float, float]) -> Mask:
    """Grow a mask by a margin in mm. (H, W) -> (H, W)."""
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(mask.astype(np.uint8))
    image.SetSpacing((spacing_mm[1], spacing_mm[0]))
    distance = sitk.SignedMaurerDistanceMap(image, insideIsPositive=False, squaredDistance=False, useImageSpacing=True)
    return np.asarray(sitk.GetArrayFromImage(distance) <= margin_mm)
