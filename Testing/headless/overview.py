"""The picture that the demo leaves: slices with coloured overlay, 3D views and a legend.

The panels are real MRML views where OpenGL works, else drawn with numpy; matplotlib puts them together.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import slicer
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from headless.overview_parts import SLICE_SIZE, SLICE_WIDTH_MM, SPACE_SIZE, WINDOW_HU, Overview, Panel, richest
from headless.plain_panels import draw_panels
from headless.requirements import missing_rendering
from udfa.geometry import Volume, canonical_orientation, reorient
from udfa.volume_io import written_aside

GUTTER, LEGEND_WIDTH, DPI = 10, 370, 100


def write_overview(path: Path, overview: Overview) -> str:
    """Draw the overview and write it as PNG.

    Returns:
        What drew the panels, in plain words.
    """
    if missing_rendering():
        panels, how = draw_panels(overview), f"numpy and matplotlib ({missing_rendering()})"
    else:
        panels, how = render_panels(overview), "the MRML views of slicer-core"
    figure = compose(panels, overview)
    with written_aside(path) as aside:
        figure.savefig(aside, dpi=DPI, facecolor=figure.get_facecolor())
    plt.close(figure)
    return how


def best_position(labelmap: NDArray[np.uint8], image: Volume) -> tuple[float, float, float]:
    """RAS position (mm) whose axial and coronal slices show the most labels, and of these the most of them."""
    orientation = canonical_orientation(image, "axial")
    labels = orientation.apply(labelmap)
    return ras(
        reorient(image, orientation), (richest(labels), richest(labels.transpose(1, 0, 2)), labels.shape[2] // 2)
    )


def ras(volume: Volume, index: tuple[float, float, float]) -> tuple[float, float, float]:
    """World position (RAS, mm) of an index (D, H, W)."""
    step = np.asarray(volume.direction) * np.asarray(volume.spacing_mm)
    left, posterior, superior = np.asarray(volume.origin_mm) + step @ index
    return (-float(left), -float(posterior), float(superior))


def render_panels(overview: Overview) -> list[Panel]:
    """Draw the panels with Slicer's displayable managers."""
    from headless.views import SliceView, ThreeDView

    volume_display = overview.volume.GetDisplayNode()
    volume_display.AutoWindowLevelOff()
    volume_display.SetWindowLevelMinMax(*WINDOW_HU)
    display = overview.segmentation.GetDisplayNode()
    surface = slicer.vtkSegmentationConverter.GetSegmentationClosedSurfaceRepresentationName()
    display.SetPreferredDisplayRepresentationName2D(surface)
    display.SetOpacity2DFill(0.45)
    display.SetSliceIntersectionThickness(3)
    right, anterior, superior = best_position(overview.labelmap, overview.image)
    panels = []
    for orientation, height in (("Axial", superior), ("Coronal", coronal_middle(overview.volume, superior))):
        with SliceView(orientation, SLICE_SIZE) as view:
            view.show(overview.volume)
            view.set_field_of_view(SLICE_WIDTH_MM, (right, anterior, height))
            panels.append(Panel(view.render(), orientation.lower()))
    with ThreeDView(SPACE_SIZE) as space:
        for direction, caption, sides in (
            ((-0.3, 1.0, 0.15), "from the front", ("R", "L")),
            ((0.3, -1.0, 0.15), "from behind", ("L", "R")),
        ):
            space.look_from(direction)
            panels.append(Panel(space.render(), caption, sides))
    return panels


def coronal_middle(volume: Any, superior: float) -> float:
    """Height (mm) of the middle of the coronal picture: as near to a position as keeps the picture in the volume."""
    bounds = [0.0] * 6
    volume.GetRASBounds(bounds)
    half = SLICE_WIDTH_MM * SLICE_SIZE[1] / SLICE_SIZE[0] / 2
    lower, upper = bounds[4] + half, bounds[5] - half
    return float(np.clip(superior, lower, upper)) if lower < upper else (lower + upper) / 2


def compose(panels: Sequence[Panel], overview: Overview) -> Any:
    """Put four panels and the legend into one matplotlib figure."""
    width = 2 * SLICE_SIZE[0] + LEGEND_WIDTH + 4 * GUTTER
    height = SLICE_SIZE[1] + SPACE_SIZE[1] + 3 * GUTTER
    figure = plt.figure(figsize=(width / DPI, height / DPI), facecolor="black")
    for index, panel in enumerate(panels):
        rows, columns, _ = panel.picture.shape
        left = GUTTER + (index % 2) * (columns + GUTTER)
        bottom = GUTTER if index // 2 else 2 * GUTTER + SPACE_SIZE[1]
        axes = figure.add_axes((left / width, bottom / height, columns / width, rows / height))
        axes.imshow(panel.picture, interpolation="nearest", aspect="auto")
        axes.set_axis_off()
        edge = [withStroke(linewidth=3, foreground="black")]
        for x, y, text, side in (
            (0.02, 0.96, panel.caption, "left"),
            (0.02, 0.5, panel.sides[0], "left"),
            (0.98, 0.5, panel.sides[1], "right"),
        ):
            place = {"ha": side, "va": "center", "transform": axes.transAxes}
            axes.text(x, y, text, color="0.8", fontsize=13, path_effects=edge, **place)
    left = 2 * SLICE_SIZE[0] + 3 * GUTTER
    legend = figure.add_axes((left / width, 0, LEGEND_WIDTH / width, 1))
    _draw_legend(legend, overview)
    return figure


def _draw_legend(axes: Any, overview: Overview) -> None:
    """Coloured squares, names and volumes, from the top down."""
    axes.set_axis_off()
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.text(0.04, 0.965, overview.title, color="white", fontsize=15, weight="bold", va="top")
    axes.text(0.04, 0.925, overview.subtitle, color="0.6", fontsize=11, va="top")
    for row, statistics in enumerate(overview.statistics):
        y = 0.86 - 0.062 * row
        label = overview.labels[statistics.value]
        found = statistics.voxels > 0
        axes.scatter([0.07], [y], s=190, marker="s", color=[label.color01], alpha=1 if found else 0.25)
        axes.text(0.125, y, label.title, color="white" if found else "0.5", fontsize=12.5, va="center")
        volume = f"{statistics.volume_ml:.0f} mL" if found else "not found"
        axes.text(0.97, y, volume, color="0.85" if found else "0.5", fontsize=12.5, va="center", ha="right")
