"""Panels of the overview without OpenGL: slices through the volume and shaded projections, with numpy alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from headless.overview_parts import SLICE_SIZE, SLICE_WIDTH_MM, SPACE_SIZE, WINDOW_HU, Overview, Panel, richest
from udfa.geometry import canonical_orientation, reorient

FILL = 0.45
"""Share of the label colour in the slices."""

Colors = NDArray[np.float64]
"""(256, 3): RGB 0 to 1 of each label value."""


def draw_panels(overview: Overview) -> list[Panel]:
    """Draw an axial and a coronal slice, and the labels as seen from the front and from behind."""
    orientation = canonical_orientation(overview.image, "axial")
    volume = reorient(overview.image, orientation)
    labels = np.ascontiguousarray(orientation.apply(overview.labelmap))
    superior_mm, posterior_mm, left_mm = volume.spacing_mm
    colors = np.zeros((256, 3))
    for value, label in overview.labels.items():
        colors[value] = label.color01
    # Canonical axes run towards superior, posterior and left. Pictures start at the top: superior is turned over.
    axial, coronal = richest(labels), richest(labels.transpose(1, 0, 2))
    width_mm = SLICE_WIDTH_MM
    panels = []
    for name, image, plane, row_mm in (
        ("axial", volume.array[axial], labels[axial], posterior_mm),
        ("coronal", volume.array[::-1, coronal], labels[::-1, coronal], superior_mm),
    ):
        pixels = _pixels(plane.shape, (row_mm, left_mm), width_mm, SLICE_SIZE)
        panels.append(Panel(_overlay(image, plane, colors, pixels), name))
    for name, seen, sides in (
        ("from the front", labels[::-1], ("R", "L")),
        ("from behind", labels[::-1, ::-1, ::-1], ("L", "R")),
    ):
        panels.append(Panel(_projection(seen, colors, volume.spacing_mm), name, sides))
    return panels


def _pixels(
    shape: tuple[int, ...], spacing_mm: tuple[float, float], width_mm: float, size: tuple[int, int]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Nearest row and column of a centred plane for each pixel of a panel; -1 outside. Broadcast to (H, W)."""
    width, height = size
    indices = []
    for pixels, voxels, voxel_mm in ((height, shape[0], spacing_mm[0]), (width, shape[1], spacing_mm[1])):
        position = (np.arange(pixels) + 0.5 - pixels / 2) * width_mm / width / voxel_mm + voxels / 2
        index = np.floor(position).astype(np.intp)
        indices.append(np.where((index >= 0) & (index < voxels), index, -1))
    return indices[0][:, None], indices[1][None, :]


def _sample(
    plane: NDArray[np.generic], pixels: tuple[NDArray[np.intp], NDArray[np.intp]], outside: float
) -> NDArray[np.generic]:
    rows, columns = pixels
    return np.where((rows >= 0) & (columns >= 0), plane[rows, columns], outside)


def _overlay(
    image: NDArray[np.generic],
    plane: NDArray[np.uint8],
    colors: Colors,
    pixels: tuple[NDArray[np.intp], NDArray[np.intp]],
) -> NDArray[np.uint8]:
    """CT in the abdominal window with coloured labels on it."""
    lower, upper = WINDOW_HU
    gray = np.clip((_sample(image, pixels, lower).astype(float) - lower) / (upper - lower), 0, 1)
    values = _sample(plane, pixels, 0).astype(np.uint8)
    share = np.where(values > 0, FILL, 0.0)[..., None]
    return np.rint(255 * (gray[..., None] * (1 - share) + colors[values] * share)).astype(np.uint8)


def _projection(labels: NDArray[np.uint8], colors: Colors, spacing_mm: tuple[float, float, float]) -> NDArray[np.uint8]:
    """First label along axis 1, darker the more its surface turns away. (D, H, W), first row on top -> panel."""
    hit = labels > 0
    if not hit.any():
        return np.zeros((SPACE_SIZE[1], SPACE_SIZE[0], 3), np.uint8)
    first = hit.argmax(axis=1)
    value = np.take_along_axis(labels, first[:, None], axis=1)[:, 0]
    down, across = np.gradient(first * spacing_mm[1], spacing_mm[0], spacing_mm[2])
    shade = np.where(value > 0, 1 / np.sqrt(1 + np.minimum(np.hypot(down, across), 3) ** 2), 0)
    box = tuple(slice(int(i.min()), int(i.max()) + 1) for i in np.nonzero(value))
    value, shade = value[box], shade[box]
    width_mm = 1.1 * max(value.shape[1] * spacing_mm[2], value.shape[0] * spacing_mm[0] * SPACE_SIZE[0] / SPACE_SIZE[1])
    pixels = _pixels(value.shape, (spacing_mm[0], spacing_mm[2]), width_mm, SPACE_SIZE)
    color = colors[_sample(value, pixels, 0).astype(np.uint8)]
    return np.rint(255 * color * _sample(shade, pixels, 0)[..., None]).astype(np.uint8)
