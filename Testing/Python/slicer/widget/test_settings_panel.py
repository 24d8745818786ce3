"""The module's page in Application Settings."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
import slicer

from doubles import ctk_settings
from UDFASegmentationLib.Settings import FIELDS, Preferences, Settings


@pytest.fixture
def page(_doubles, scene, monkeypatch):
    """The module with the page, on empty settings."""
    import qt

    ctk_settings.addTo(qt, sys.modules["ctk"], monkeypatch)
    qt.QSettings().clear()
    monkeypatch.delitem(sys.modules, "UDFASegmentationLib.SettingsPanel", raising=False)
    import UDFASegmentationLib.SettingsPanel as module

    yield module
    sys.modules.pop("UDFASegmentationLib.SettingsPanel", None)


def opened(page):
    """The page as the user sees it: in Application Settings."""
    panel = page.UDFASettingsPanel()
    ctk_settings.SettingsDialog().addPanel("UDFA Segmentation", panel)
    return panel


def read():
    import qt

    return Settings(qt.QSettings()).read()


def test_the_page_starts_with_the_defaults(page):
    panel = opened(page)
    assert panel.deviceComboBox.currentUserDataAsString == Preferences().device
    assert panel.precisionComboBox.currentUserDataAsString == Preferences().precision
    assert panel.cacheSpinBox.value == Preferences().cacheMegabytes
    assert panel.undoSpinBox.value == Preferences().undoDepth
    assert read() == Preferences()


def test_what_the_user_changes_is_what_the_module_reads(page):
    panel = opened(page)
    panel.deviceComboBox.currentIndex = 1
    panel.precisionComboBox.currentIndex = 3
    panel.cacheSpinBox.value = 2048
    panel.undoSpinBox.value = 7
    assert read() == Preferences("cpu", "bfloat16", 2048, 7)


def test_what_is_stored_is_what_the_widgets_say_not_a_page_that_is_not_shown_yet(page):
    panel = page.UDFASettingsPanel()
    panel.undoSpinBox.value = 7
    assert read() == Preferences()


def test_stored_values_are_shown(page):
    import qt

    Settings(qt.QSettings()).write(device="cuda", precision="float32", cacheMegabytes=512, undoDepth=9)
    panel = opened(page)
    assert panel.deviceComboBox.currentUserDataAsString == "cuda"
    assert panel.precisionComboBox.currentUserDataAsString == "float32"
    assert (panel.cacheSpinBox.value, panel.undoSpinBox.value) == (512, 9)


def test_every_choice_is_one_that_the_settings_accept(page):
    panel = opened(page)
    for name, box in (("device", panel.deviceComboBox), ("precision", panel.precisionComboBox)):
        for index in range(box.count):
            box.currentIndex = index
            assert getattr(read(), name) == box.currentUserDataAsString


def test_the_defaults_can_be_restored(page):
    panel = opened(page)
    panel.undoSpinBox.value = 7
    panel.deviceComboBox.currentIndex = 2
    panel.restoreDefaultSettings()
    assert read() == Preferences()


def test_every_widget_has_a_tooltip(page):
    panel = opened(page)
    for box in (panel.deviceComboBox, panel.precisionComboBox, panel.cacheSpinBox, panel.undoSpinBox):
        assert len(box.toolTip) > 20


def test_the_page_is_added_to_the_dialog_only_where_there_is_a_main_window(page, monkeypatch):
    dialog = ctk_settings.SettingsDialog()
    options = SimpleNamespace(noMainWindow=True)
    app = SimpleNamespace(commandOptions=lambda: options, settingsDialog=lambda: dialog)
    monkeypatch.setattr(slicer, "app", app)
    assert page.addSettingsPanel() is None
    assert dialog.panels == []
    options.noMainWindow = False
    panel = page.addSettingsPanel()
    assert dialog.panels == [("UDFA Segmentation", panel)]


def test_the_keys_belong_to_the_module():
    assert all(field.key.startswith("UDFASegmentation/") for field in FIELDS.values())
