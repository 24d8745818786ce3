"""Overview picture of a segmentation: slices with coloured labels, and a legend with volumes.

Drawn with matplotlib's object interface, so that no window system is touched and no global state is left behind.
matplotlib is imported only when a picture is drawn.
"""

from __future__ import annotations

import importlib.util
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

import numpy as np
from numpy.typing import NDArray

from udfa.errors import UDFAError
from udfa.geometry import Volume, canonical_orientation, reorient
from udfa.labels import Label
from udfa.statistics import LabelStatistics

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

AXIAL_SLICES = 4
"""Slices across the stack; one plane along each of the other two axes is added."""

LEGEND_ROWS = 18
"""Labels that fit into the legend; the smallest of the others are left to the CSV."""

NOTICE = "Research use only. Not for diagnosis."
BACKGROUND, INK, FAINT, AMBER = "#14161a", "#e8e8e8", "#9aa0a8", "#ffb454"

PAGE_WIDTH, LEGEND_WIDTH, HEADER_HEIGHT, GAP = 13.0, 3.9, 0.75, 0.12
"""Layout in inches."""

ROW_LIMIT = 4.8
"""Greatest height of a row of planes in inches."""

LEGEND_STEP = 0.2
"""Least height of a line in the legend in inches."""

OBLIQUE_BELOW = 0.9
"""Cosine between a plane's normal and the nearest patient axis under which the plane is called oblique."""

_DIRECTIONS = (("R", "L"), ("A", "P"), ("I", "S"))
"""Letters at the low and high end of the patient's LPS axes."""

_PLANES = ("sagittal", "coronal", "axial")
"""Name of the plane across each LPS axis."""


@dataclass(frozen=True)
class Overview:
    """What the picture shows."""

    image: Volume
    labelmap: NDArray[np.uint8]
    """(D, H, W) on the image's grid."""
    labels: dict[int, Label]
    rows: Sequence[LabelStatistics]
    """Statistics of the labels, for the legend."""
    title: str
    """Name of the image."""
    model: str
    """Name of the model and what it segments."""
    slice_axis: str = "axial"
    """The checkpoint's slice axis rule."""
    window: Optional[tuple[float, float]] = None
    """Intensities shown as black and white; None takes percentiles 1 and 99 of the image."""


@dataclass(frozen=True)
class _Plane:
    """One slice, ready to draw: rows from top to bottom, columns from left to right."""

    name: str
    image: NDArray[np.generic]
    labels: NDArray[np.uint8]
    spacing_mm: tuple[float, float]
    """Row height and column width."""
    letters: tuple[str, str, str, str]
    """Patient directions at left, right, top, bottom."""


def require_matplotlib() -> None:
    """Raise UDFAError when matplotlib is not installed."""
    if importlib.util.find_spec("matplotlib") is None:
        raise UDFAError("The report needs matplotlib. Install it with: pip install matplotlib")


def write_overview(path: Path, content: Overview) -> None:
    """Draw the overview and write it as PNG, aside first.

    Raises:
        UDFAError: matplotlib is not installed.
    """
    from udfa.volume_io import written_aside

    figure = draw_overview(content)
    with written_aside(path) as aside:
        save_figure(figure, aside)


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG."""
    figure.savefig(path, format="png", dpi=120, facecolor=figure.get_facecolor())


def draw_overview(content: Overview) -> Figure:
    """Draw slices across the stack above, two planes along it and the legend below."""
    require_matplotlib()
    from matplotlib.figure import Figure

    orientation = canonical_orientation(content.image, content.slice_axis)
    image = reorient(content.image, orientation)
    labelmap = np.asarray(orientation.apply(content.labelmap), dtype=np.uint8)
    window = content.window or _percentile_window(image.array)
    box = _content_box(image.array, window[0])
    stack = [_plane(image, labelmap, 0, index, box) for index in _stack_indices(labelmap)]
    along = [_plane(image, labelmap, axis, _fullest_plane(labelmap, axis), box) for axis in (1, 2)]
    upper, upper_height = _row(stack, PAGE_WIDTH - 2 * GAP)
    lower, lower_height = _row(along, PAGE_WIDTH - LEGEND_WIDTH - 3 * GAP)
    legend_lines = sum(len(part) for part in _legend(content))
    lower_height = max(lower_height, LEGEND_STEP * (1 + legend_lines))
    height = HEADER_HEIGHT + upper_height + lower_height + 2 * GAP
    figure = Figure(figsize=(PAGE_WIDTH, height), facecolor=BACKGROUND)
    for planes, places, top in ((stack, upper, HEADER_HEIGHT), (along, lower, HEADER_HEIGHT + upper_height + GAP)):
        for plane, (left, width, tall) in zip(planes, places):
            axes = figure.add_axes(_fraction(left, top, width, tall, height))
            _draw_plane(axes, plane, content.labels, window)
    legend_left = PAGE_WIDTH - LEGEND_WIDTH - GAP
    top = HEADER_HEIGHT + upper_height + GAP
    legend = figure.add_axes(_fraction(legend_left, top, LEGEND_WIDTH, lower_height, height))
    _draw_legend(legend, content, lower_height)
    margin = GAP / PAGE_WIDTH
    figure.text(margin, 1 - 0.16 / height, content.title, color=INK, size=14, weight="bold", va="top")
    figure.text(margin, 1 - 0.45 / height, content.model, color=FAINT, size=10, va="top")
    figure.text(1 - margin, 1 - 0.16 / height, NOTICE, color=AMBER, size=11, weight="bold", ha="right", va="top")
    return figure


def _row(planes: Sequence[_Plane], width: float) -> tuple[list[tuple[float, float, float]], float]:
    """Place planes side by side at one scale: (left, width, height) of each, and the row's height, in inches."""
    total_mm = sum(_width(plane) for plane in planes)
    tallest_mm = max(_height(plane) for plane in planes)
    scale = min((width - GAP * (len(planes) - 1)) / total_mm, ROW_LIMIT / tallest_mm)
    places, left = [], GAP
    for plane in planes:
        places.append((left, _width(plane) * scale, _height(plane) * scale))
        left += _width(plane) * scale + GAP
    return places, tallest_mm * scale


def _fraction(left: float, top: float, width: float, tall: float, page: float) -> tuple[float, float, float, float]:
    """Inches from the page's top left corner -> matplotlib's (left, bottom, width, height) as shares of the page."""
    return (left / PAGE_WIDTH, 1 - (top + tall) / page, width / PAGE_WIDTH, tall / page)


def _percentile_window(array: NDArray[np.generic]) -> tuple[float, float]:
    sample = np.asarray(array[:: max(1, array.shape[0] // 32), ::2, ::2], dtype=np.float32)
    low, high = (float(value) for value in np.percentile(sample, (1, 99)))
    return (low, high) if high > low else (low, low + 1)


def _content_box(array: NDArray[Any], low: float) -> tuple[slice, slice]:
    """Rows and columns that hold anything brighter than the window's lower end: the air around is not shown."""
    bright = np.zeros(array.shape[1:], dtype=bool)
    for plane in array[:: max(1, array.shape[0] // 32)]:
        bright |= plane > low
    box: list[slice] = []
    for axis in (1, 0):
        hits = np.flatnonzero(bright.mean(axis=axis) > 0.02)
        length = int(bright.shape[1 - axis])
        first, last = (int(hits[0]), int(hits[-1])) if len(hits) else (0, length)
        box.append(slice(max(0, first - 5), min(length, last + 6)))
    return box[0], box[1]


def _stack_indices(labelmap: NDArray[np.uint8]) -> list[int]:
    """Up to AXIAL_SLICES slices spread over the labelled part of the stack, from superior to inferior."""
    labelled = np.flatnonzero([bool(plane.any()) for plane in labelmap])
    first, last = (int(labelled[0]), int(labelled[-1])) if len(labelled) else (0, len(labelmap) - 1)
    positions = first + (last - first) * (np.arange(AXIAL_SLICES) + 0.5) / AXIAL_SLICES
    return sorted({round(float(position)) for position in positions}, reverse=True)


def _fullest_plane(labelmap: NDArray[np.uint8], axis: int) -> int:
    """Index of the plane across an axis with most labelled voxels; the middle one when there are none."""
    counts = np.zeros(labelmap.shape[axis], dtype=np.int64)
    for plane in labelmap:
        counts += np.count_nonzero(plane, axis=2 - axis)
    return int(counts.argmax()) if counts.any() else labelmap.shape[axis] // 2


def _plane(image: Volume, labelmap: NDArray[np.uint8], axis: int, index: int, box: tuple[slice, slice]) -> _Plane:
    """Cut a plane out of a canonical volume and turn superior up; other rows run downwards as they are."""
    cuts: list[Any] = [slice(None), *box]
    cuts[axis] = index
    pixels, labels = image.array[tuple(cuts)], labelmap[tuple(cuts)]
    row_axis, column_axis = (other for other in range(3) if other != axis)
    low_row, high_row = _letters(image.direction[:, row_axis])
    left, right = _letters(image.direction[:, column_axis])
    if high_row == "S":
        pixels, labels, low_row, high_row = pixels[::-1], labels[::-1], high_row, low_row
    across = np.abs(image.direction[:, axis])
    kind = _PLANES[int(across.argmax())] if across.max() > OBLIQUE_BELOW else "oblique"
    return _Plane(
        name=f"{kind} {index + 1}/{image.array.shape[axis]}",
        image=pixels,
        labels=labels,
        spacing_mm=(image.spacing_mm[row_axis], image.spacing_mm[column_axis]),
        letters=(left, right, low_row, high_row),
    )


def _letters(direction: NDArray[np.float64]) -> tuple[str, str]:
    """Patient directions at the low and high end of an array axis."""
    leading = int(np.abs(direction).argmax())
    low, high = _DIRECTIONS[leading]
    return (low, high) if direction[leading] > 0 else (high, low)


def _height(plane: _Plane) -> float:
    return plane.image.shape[0] * plane.spacing_mm[0]


def _width(plane: _Plane) -> float:
    return plane.image.shape[1] * plane.spacing_mm[1]


def _draw_plane(axes: Axes, plane: _Plane, labels: dict[int, Label], window: tuple[float, float]) -> None:
    from matplotlib.patheffects import withStroke

    extent = (0.0, _width(plane), _height(plane), 0.0)
    axes.set_axis_off()
    axes.imshow(plane.image, cmap="gray", vmin=window[0], vmax=window[1], extent=extent, interpolation="bilinear")
    axes.imshow(_overlay(plane.labels, labels), extent=extent, interpolation="nearest")
    rows = (np.arange(plane.labels.shape[0]) + 0.5) * plane.spacing_mm[0]
    columns = (np.arange(plane.labels.shape[1]) + 0.5) * plane.spacing_mm[1]
    for value, label in labels.items():
        mask = plane.labels == value
        if mask.any() and min(mask.shape) > 1:
            axes.contour(columns, rows, mask, levels=[0.5], colors=[label.color01], linewidths=1.0)
    axes.set_xlim(0, _width(plane))
    axes.set_ylim(_height(plane), 0)
    outline = withStroke(linewidth=2, foreground="black")
    style: dict[str, Any] = {"color": INK, "size": 8, "transform": axes.transAxes, "path_effects": [outline]}
    left, right, top, bottom = plane.letters
    axes.text(0.01, 0.5, left, va="center", **style)
    axes.text(0.99, 0.5, right, va="center", ha="right", **style)
    axes.text(0.5, 0.99, top, va="top", ha="center", **style)
    axes.text(0.5, 0.01, bottom, va="bottom", ha="center", **style)
    axes.text(0.01, 0.99, plane.name, va="top", **style)


def _overlay(labelmap: NDArray[np.uint8], labels: dict[int, Label]) -> NDArray[np.float32]:
    """(h, w) labels -> (h, w, 4) translucent colours."""
    table = np.zeros((256, 4), dtype=np.float32)
    for value, label in labels.items():
        table[value] = (*label.color01, 0.40)
    return np.asarray(table[labelmap])


def _legend(content: Overview) -> tuple[list[LabelStatistics], list[str]]:
    """Labels to list with their volume, and lines of text to put below them."""
    found = [row for row in content.rows if row.voxels]
    largest = sorted(found, key=lambda row: row.voxels, reverse=True)[:LEGEND_ROWS]
    notes = []
    if len(found) > len(largest):
        notes.append(f"and {len(found) - len(largest)} smaller ones (see the CSV)")
    missing = [row.title for row in content.rows if not row.voxels]
    if missing:
        notes += textwrap.wrap("Not found: " + ", ".join(missing), 50)
    return [row for row in found if row in largest], notes


def _draw_legend(axes: Axes, content: Overview, height: float) -> None:
    """Draw the legend into axes that are `height` inches tall."""
    rows, notes = _legend(content)
    axes.set_axis_off()
    axes.set_xlim(0, 1)
    axes.set_ylim(height, 0)
    step = min(0.33, height / (len(rows) + len(notes) + 1))
    for i, row in enumerate(rows):
        y = 0.15 + i * step
        axes.plot([0.06], [y], "s", color=content.labels[row.value].color01, markersize=9)
        axes.text(0.11, y, row.title, color=INK, size=9.5, va="center")
        axes.text(0.97, y, f"{row.volume_ml:,.1f} mL", color=INK, size=9.5, va="center", ha="right")
    axes.text(0.045, 0.15 + len(rows) * step, "\n".join(notes), color=FAINT, size=8.5, va="top")
