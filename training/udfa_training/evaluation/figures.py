"""Pictures of an evaluation: box plots per organ, and outlines of the worst cases.

Drawn with matplotlib's object interface, so that no window system is touched and no global state is left behind.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from udfa.labels import describe
from udfa_training.evaluation.comparison import paired
from udfa_training.evaluation.protocols import METRICS
from udfa_training.evaluation.record import Evaluation
from udfa_training.evaluation.run import CaseResult, SliceView
from udfa_training.evaluation.tables import TITLES

WORST_CASES = 3
DPI = 130
MARGIN = 12
"""Pixels shown around the outlines."""

INK, BLUE, ORANGE = "#222222", "#4477aa", "#ee7733"


def write_figures(folder: Path, evaluation: Evaluation) -> list[Path]:
    """Write all pictures of an evaluation into a folder; returns the files."""
    pictures: dict[str, Figure] = {}
    for metric in METRICS:
        if any(np.isfinite(result.table(metric)).any() for result in evaluation.results):
            pictures[f"box_{metric}.png"] = box_plot(evaluation, metric)
    if len(evaluation.results) > 1:
        pictures["differences_dice.png"] = difference_plot(evaluation, "dice")
    for rank, case in enumerate(evaluation.results[0].worst(WORST_CASES), start=1):
        pictures[f"worst{rank}_{case.name}.png"] = overlay(case, evaluation)
    paths = []
    for name, figure in pictures.items():
        paths.append(folder / name)
        figure.savefig(paths[-1], format="png", dpi=DPI)
    return paths


def box_plot(evaluation: Evaluation, metric: str) -> Figure:
    """Draw a box per organ (and source) with every case as a point. Infinite values are counted, not drawn."""
    figure, axes = _wide_axes(len(evaluation.labels.names))
    count = len(evaluation.results)
    for number, (result, colour) in enumerate(zip(evaluation.results, (BLUE, ORANGE))):
        table = result.table(metric)
        offset = 0.0 if count == 1 else (number - 0.5) * 0.4
        _boxes(axes, table, offset, 0.6 / count, colour)
    _infinite_counts(axes, evaluation, metric)
    unit = {"hd95": f" ({evaluation.rules.unit})", "nsd": f" at {evaluation.rules.tolerance:g} {evaluation.rules.unit}"}
    axes.set_ylabel(TITLES[metric] + unit.get(metric, ""))
    if metric == "hd95":
        axes.set_ylim(bottom=0)
    else:
        axes.set_ylim(0, 1.02)
    _label_axis(axes, evaluation)
    handles = [Line2D([], [], color=c, lw=6, alpha=0.5) for c in (BLUE, ORANGE)[:count]]
    axes.legend(handles, [result.source.name for result in evaluation.results], loc="best", frameon=False, fontsize=9)
    axes.set_title(_subtitle(evaluation), fontsize=9, color=INK, loc="left")
    return figure


def difference_plot(evaluation: Evaluation, metric: str) -> Figure:
    """Draw the paired differences of each organ as points, with mean and interval."""
    first, second = evaluation.results
    figure, axes = _wide_axes(len(evaluation.labels.names))
    table = paired(first, second, metric)
    axes.axhline(0, color=INK, lw=0.8)
    for index, row in enumerate(evaluation.differences()[metric][:-1]):
        values = table[:, index]
        _points(axes, values[np.isfinite(values)], index, 0.15, BLUE)
        estimate = row.estimate
        if np.isfinite(estimate.low):
            spread = [[estimate.mean - estimate.low], [estimate.high - estimate.mean]]
            axes.errorbar([index + 0.28], [estimate.mean], yerr=np.abs(spread), fmt="D", color=ORANGE, capsize=4)
    axes.set_ylabel(f"{TITLES[metric]}: {first.source.name}\nminus {second.source.name}")
    _label_axis(axes, evaluation)
    axes.set_title(_subtitle(evaluation) + "\ndiamond: mean with interval", fontsize=9, color=INK, loc="left")
    return figure


def overlay(case: CaseResult, evaluation: Evaluation) -> Figure:
    """Draw the worst slice of a case: beside the bare image, outlines of reference (solid) and prediction (dashed)."""
    view, names = case.view, evaluation.labels.names
    rows, columns = _shown_box(view)
    height, width = (rows.stop - rows.start) * view.spacing[0], (columns.stop - columns.start) * view.spacing[1]
    figure = Figure(figsize=(10.0, min(8.0, 1.1 + 5.0 * height / width)), layout="constrained")
    panels = figure.subplots(1, 2)
    low, high = np.percentile(view.image, (1, 99.5))
    for axes in panels:
        axes.imshow(
            view.image[rows, columns],
            cmap="gray",
            vmin=low,
            vmax=max(high, low + 1e-6),
            aspect=view.spacing[0] / view.spacing[1],
        )
        axes.set_axis_off()
    colours = _colours(len(names))
    for labelmap, style in ((view.reference, "solid"), (view.prediction, "dashed")):
        for number, colour in enumerate(colours, start=1):
            mask = labelmap[rows, columns] == number
            if mask.any():
                panels[1].contour(mask, levels=[0.5], colors=[colour], linewidths=1.4, linestyles=style)
    present = np.union1d(np.unique(view.reference), np.unique(view.prediction)).astype(int)
    handles: list[Any] = [Line2D([], [], color=colours[number - 1], lw=2) for number in present if number]
    handles += [Line2D([], [], color=INK, ls=style) for style in ("solid", "dashed")]
    texts = [describe(names[number - 1]).title for number in present if number]
    texts += ["reference", f"prediction: {evaluation.results[0].source.name}"]
    figure.legend(handles, texts, loc="outside lower center", ncols=5, frameon=False, fontsize=8)
    where = f"slice {view.index + 1} of {view.depth}, the one with most wrong voxels"
    figure.suptitle(f"{case.name}: mean Dice {case.mean_dice:.3f}; {where}", fontsize=10)
    return figure


def _colours(count: int) -> list[tuple[float, ...]]:
    """Colours that can be told apart on a grey image; neighbouring labels often share a hue in Slicer's own table."""
    table = colormaps["tab10" if count <= 10 else "tab20"]
    return [tuple(table(number % table.N)) for number in range(count)]


def _wide_axes(labels: int) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(max(4.5, 1.5 + 0.8 * labels), 4.4), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#dddddd", lw=0.6)
    axes.set_axisbelow(True)
    return figure, axes


def _boxes(axes: Axes, table: NDArray[np.float64], offset: float, width: float, colour: str) -> None:
    columns = [column[np.isfinite(column)] for column in table.T]
    places = [index + offset for index in range(len(columns))]
    boxes = axes.boxplot(columns, positions=places, widths=width * 0.8, patch_artist=True, showfliers=False)
    for box in boxes["boxes"]:
        box.set(facecolor=colour, alpha=0.35, edgecolor=colour)
    for part in (*boxes["medians"], *boxes["whiskers"], *boxes["caps"]):
        part.set(color=colour)
    for place, values in zip(places, columns):
        _points(axes, values, place, width * 0.25, colour)


def _points(axes: Axes, values: NDArray[np.float64], place: float, spread: float, colour: str) -> None:
    across = place + np.linspace(-spread, spread, len(values)) if len(values) > 1 else np.full(len(values), place)
    axes.plot(across, values, "o", color=colour, markersize=3, alpha=0.8)


def _infinite_counts(axes: Axes, evaluation: Evaluation, metric: str) -> None:
    for index in range(len(evaluation.labels.names)):
        counts = [int(np.isinf(result.table(metric)[:, index]).sum()) for result in evaluation.results]
        if any(counts):
            text = " / ".join(map(str, counts)) + " inf."
            axes.text(index, 1.0, text, transform=axes.get_xaxis_transform(), ha="center", fontsize=7, color=INK)


def _label_axis(axes: Axes, evaluation: Evaluation) -> None:
    names = evaluation.labels.names
    axes.set_xticks(range(len(names)), [describe(name).title for name in names], rotation=30, ha="right", fontsize=8)
    axes.set_xlim(-0.6, len(names) - 0.4)


def _subtitle(evaluation: Evaluation) -> str:
    return f"{evaluation.extent}, protocol '{evaluation.rules.protocol.name}'"


def _shown_box(view: SliceView) -> tuple[slice, slice]:
    """Rows and columns around all outlines; the whole slice when there are none."""
    labelled = (view.reference > 0) | (view.prediction > 0)
    box: list[slice] = []
    for axis in (1, 0):
        hits = np.flatnonzero(labelled.any(axis=axis))
        length = labelled.shape[1 - axis]
        first, last = (int(hits[0]), int(hits[-1])) if len(hits) else (0, length - 1)
        box.append(slice(max(0, first - MARGIN), min(length, last + 1 + MARGIN)))
    return box[0], box[1]
