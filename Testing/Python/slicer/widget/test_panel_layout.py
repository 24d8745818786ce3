"""The panel on a small screen: usable at 400 pixels, and read from top to bottom as the work goes."""

from __future__ import annotations

import pytest
from PySide6 import QtCore, QtWidgets

from doubles.harness import MODULE_FILE

WIDTH = 400
SECTIONS = (
    "inputsCollapsibleButton",
    "outputCollapsibleButton",
    "advancedCollapsibleButton",
    "runFrame",
    "resultCollapsibleButton",
    "correctionCollapsibleButton",
)


@pytest.fixture
def shown(opened, volume, monkeypatch):
    """The panel with the bundled models, a remark on the volume, a result, and all sections open."""
    import udfa.models

    monkeypatch.setattr(udfa.models, "bundled_folder", lambda: MODULE_FILE.parent / "Resources" / "models")
    opened.panel.models.refresh()
    volume.SetName("A CT volume with quite a long name, as scanners give them: 5.0 x 5.0 Abdomen portal venous Br40")
    opened.settle()
    opened.click("segmentButton")
    opened.settle()
    for name in SECTIONS:
        section = getattr(opened.ui, name)
        if name != "runFrame":
            section.collapsed = False
    opened.parent.resize(WIDTH, 1400)
    opened.parent.show()
    for _ in range(5):
        QtWidgets.QApplication.processEvents()
    opened.settle()
    yield opened
    opened.parent.hide()


def place(opened, widget) -> QtCore.QRect:
    """Where a widget lies in the panel."""
    corner = QtWidgets.QWidget.mapTo(widget, opened.parent, QtCore.QPoint(0, 0))
    return QtCore.QRect(corner, QtCore.QSize(QtWidgets.QWidget.width(widget), QtWidgets.QWidget.height(widget)))


def test_nothing_sticks_out_at_400_pixels(shown):
    assert QtWidgets.QWidget.width(shown.parent) == WIDTH
    assert shown.visible("checkFrame")
    visible = {name: w for name, w in vars(shown.ui).items() if QtWidgets.QWidget.isVisible(w)}
    assert len(visible) > 30
    assert {name for name, widget in visible.items() if place(shown, widget).right() >= WIDTH} == set()


def test_the_sections_follow_each_other_as_the_work_goes(shown):
    places = [place(shown, getattr(shown.ui, name)) for name in SECTIONS]
    assert all(upper.bottom() < lower.top() for upper, lower in zip(places, places[1:]))


def test_in_the_run_section_the_estimate_comes_before_the_button_and_the_outcome_after_it(shown):
    order = [place(shown, getattr(shown.ui, name)).top() for name in ("estimateLabel", "segmentButton", "statusLabel")]
    assert order == sorted(set(order))
