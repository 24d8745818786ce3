"""The module file and the panel load, bound to each other."""

from __future__ import annotations


def test_the_panel_opens(opened):
    assert opened.panel is not None
    assert opened.ui.segmentButton.text == "Segment"
