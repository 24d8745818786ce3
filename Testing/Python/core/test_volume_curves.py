"""The picture of a cycle: a curve per label in its colour, end-diastole and end-systole at their frames."""

from __future__ import annotations

import pytest

from udfa.cardiac import cardiac_function
from udfa.labels import describe
from udfa.volume_curves import VolumeCurves, draw_curves

pytest.importorskip("matplotlib")

FRAMES = [
    {"myocardium": 90.0, "left_ventricle": 100.0},
    {"myocardium": 92.0, "left_ventricle": 130.0},
    {"myocardium": 95.0, "left_ventricle": 52.0},
]
LABELS = [describe("myocardium"), describe("left_ventricle")]


def test_every_label_has_a_curve_in_its_colour_over_frames_from_1() -> None:
    figure = draw_curves(VolumeCurves(FRAMES, LABELS, None, "heart.nii.gz", "tiny"))
    (axes,) = figure.axes
    myocardium, left = axes.lines
    assert [list(curve.get_xdata()) for curve in (myocardium, left)] == [[1, 2, 3]] * 2
    assert list(left.get_ydata()) == [100.0, 130.0, 52.0]
    assert left.get_color() == LABELS[1].color01
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["Myocardium", "Left ventricle"]
    assert list(axes.texts) == []


def test_end_diastole_and_end_systole_are_marked_at_their_frames() -> None:
    figure = draw_curves(VolumeCurves(FRAMES, LABELS, cardiac_function(FRAMES), "heart.nii.gz", "tiny"))
    (axes,) = figure.axes
    assert [line.get_xdata()[0] for line in axes.lines[2:]] == [2, 3]
    assert [(text.get_text(), text.xy[0]) for text in axes.texts] == [("ED: 130 mL", 2), ("ES: 52 mL", 3)]


def test_the_picture_names_series_and_model_and_says_what_it_is_not_for() -> None:
    figure = draw_curves(VolumeCurves(FRAMES, LABELS, None, "heart.nii.gz", "tiny: Test, udfa 1"))
    assert [text.get_text() for text in figure.texts] == [
        "heart.nii.gz",
        "tiny: Test, udfa 1",
        "Research use only. Not for diagnosis.",
    ]
