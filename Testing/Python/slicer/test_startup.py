"""What the module offers when Slicer has started: the effect, the sample data, the settings page."""

from __future__ import annotations

import sys
import types

import pytest

from UDFASegmentationLib import ClickRegistration, SampleDataSources, Startup


@pytest.fixture
def offered(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of what was offered, in order."""
    names: list[str] = []
    monkeypatch.setattr(ClickRegistration, "registerClickEffect", lambda: names.append("effect"))
    monkeypatch.setattr(SampleDataSources, "registerSampleData", lambda: names.append("sample data"))
    # The page itself needs Qt at import; it has tests of its own.
    page = types.SimpleNamespace(addSettingsPanel=lambda: names.append("settings"))
    monkeypatch.setitem(sys.modules, "UDFASegmentationLib.SettingsPanel", page)
    monkeypatch.setattr(Startup, "_told", False)
    return names


def test_effect_sample_data_and_settings_are_offered(offered):
    Startup.startUp()
    assert offered == ["effect", "sample data", "settings"]


def test_one_that_fails_does_not_keep_the_others_away(offered, monkeypatch, caplog):
    def fail() -> None:
        raise RuntimeError("no Segment Editor here")

    monkeypatch.setattr(ClickRegistration, "registerClickEffect", fail)
    Startup.startUp()
    assert offered == ["sample data", "settings"]
    assert "no Segment Editor here" in caplog.text


def test_all_is_offered_once_however_often_the_module_is_opened(offered):
    Startup.startUp()
    Startup.startUp()
    assert offered == ["effect", "sample data", "settings"]
