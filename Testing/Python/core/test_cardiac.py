"""Ventricular function from volumes per frame, checked by hand."""

from __future__ import annotations

import math

import pytest

from udfa.cardiac import Measure, Ventricle, cardiac_function, write_measures


def frame(left: float, right: float = 0.0, myocardium: float = 0.0) -> dict[str, float]:
    return {"left_ventricle": left, "right_ventricle": right, "myocardium": myocardium}


CYCLE = [frame(120, 130, 100), frame(90, 100, 105), frame(48, 60, 110), frame(70, 52, 108)]


def test_end_diastole_and_end_systole_are_those_of_the_left_ventricle():
    function = cardiac_function(CYCLE)
    assert (function.end_diastole, function.end_systole) == (0, 2)
    assert function.left == Ventricle(120, 48)
    # Not 52 mL, the smallest: at the left ventricle's end-systole.
    assert function.right == Ventricle(130, 60)


def test_stroke_volume_ejection_fraction_and_mass():
    function = cardiac_function(CYCLE)
    assert function.left.stroke_volume_ml == 72
    assert function.left.ejection_fraction == pytest.approx(0.6)
    assert function.myocardial_mass_g == pytest.approx(105.0)


def test_a_report_lists_the_left_ventricle_first():
    measures = cardiac_function(CYCLE).measures()
    names = [measure.name for measure in measures]
    assert names == ["LV EDV", "LV ESV", "LV SV", "LV EF", "LV mass", "RV EDV", "RV ESV", "RV SV", "RV EF"]
    assert measures[3] == Measure("LV EF", pytest.approx(60.0), "%")


def test_a_frame_without_a_left_ventricle_is_not_end_systole():
    function = cardiac_function([frame(0), frame(50), frame(100), frame(0)])
    assert (function.end_diastole, function.end_systole, function.without_left) == (2, 1, (0, 3))


def test_what_was_not_segmented_is_not_reported():
    function = cardiac_function([{"left_ventricle": 100.0}, {"left_ventricle": 40.0}])
    assert (function.right, function.myocardial_mass_g) == (None, None)
    assert [measure.name for measure in function.measures()] == ["LV EDV", "LV ESV", "LV SV", "LV EF"]


@pytest.mark.parametrize("frames", [[], [frame(100)], [frame(100), frame(0)], [{"liver": 1500.0}, {"liver": 1500.0}]])
def test_without_two_left_ventricles_there_is_no_function(frames):
    assert cardiac_function(frames) is None


def test_a_right_ventricle_that_is_empty_at_end_diastole_has_no_ejection_fraction(tmp_path):
    function = cardiac_function([frame(100, 0), frame(40, 20)])
    assert math.isnan(function.right.ejection_fraction)
    write_measures(function.measures(), tmp_path / "function.csv")
    lines = (tmp_path / "function.csv").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "measure,value,unit"
    assert lines[1] == "LV EDV,100.00,mL"
    assert lines[-1] == "RV EF,,%"
