"""Picture of a cardiac cycle: the volume of every label against the frame, with end-diastole and end-systole marked.

As with the overview, matplotlib is imported only when a picture is drawn, and no global state is left behind.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Optional

from udfa.cardiac import CardiacFunction
from udfa.labels import Label
from udfa.report import AMBER, BACKGROUND, FAINT, INK, NOTICE, require_matplotlib

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIZE = (9.0, 5.0)
"""Width and height in inches."""


@dataclass(frozen=True)
class VolumeCurves:
    """What the picture shows.

    Attributes:
        frames_ml: For each frame the volume in mL of each label, by name.
        labels: The labels, one curve each.
        function: Tells end-diastole and end-systole; None leaves them out.
        title: Name of the series.
        model: Name of the model and what it segments.
    """

    frames_ml: Sequence[Mapping[str, float]]
    labels: Sequence[Label]
    function: Optional[CardiacFunction]
    title: str
    model: str


def draw_curves(content: VolumeCurves) -> Figure:
    """Draw the curves; frames count from 1.

    Raises:
        UDFAError: matplotlib is not installed.
    """
    require_matplotlib()
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE, facecolor=BACKGROUND)
    axes = figure.add_axes((0.09, 0.12, 0.66, 0.73))
    frames = range(1, len(content.frames_ml) + 1)
    for label in content.labels:
        volumes = [frame[label.name] for frame in content.frames_ml]
        axes.plot(frames, volumes, "o-", color=label.color01, label=label.title, markersize=4)
    _style(axes)
    if content.function is not None:
        _mark(axes, content.function)
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False, labelcolor=INK, fontsize=9)
    figure.text(0.02, 0.97, content.title, color=INK, size=13, weight="bold", va="top")
    figure.text(0.02, 0.91, content.model, color=FAINT, size=9, va="top")
    figure.text(0.98, 0.97, NOTICE, color=AMBER, size=10, weight="bold", ha="right", va="top")
    return figure


def _style(axes: Axes) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_facecolor(BACKGROUND)
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("frame", color=INK)
    axes.set_ylabel("volume (mL)", color=INK)
    axes.tick_params(colors=FAINT)
    for side, spine in axes.spines.items():
        spine.set_color(FAINT)
        spine.set_visible(side in ("left", "bottom"))


def _mark(axes: Axes, function: CardiacFunction) -> None:
    """Draw a line at end-diastole and one at end-systole, with the left ventricle's volume beside it."""
    for name, frame, volume in (
        ("ED", function.end_diastole, function.left.end_diastolic_ml),
        ("ES", function.end_systole, function.left.end_systolic_ml),
    ):
        axes.axvline(frame + 1, color=FAINT, linestyle=":", linewidth=1)
        place = (frame + 1, 1.0)
        axes.annotate(
            f"{name}: {volume:.0f} mL", place, xycoords=("data", "axes fraction"), color=INK, size=9, ha="center"
        )
