"""Slicer finds the effect UDFA Click: its entry file, its clone, its registration at start."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest
import slicer


@pytest.fixture
def effects(tmp_path_factory: pytest.TempPathFactory, scene: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Slicer's Python module of effects, which keeps what was registered."""
    from doubles.harness import installed
    from doubles.scripted_effect import EffectsPythonQt, effectModules

    module = EffectsPythonQt()
    monkeypatch.setitem(sys.modules, module.__name__, module)
    with installed(tmp_path_factory.mktemp("settings")), effectModules():
        yield module


def test_the_module_registers_the_effect_when_slicer_has_started(effects, monkeypatch):
    from doubles.application import makeModuleParent
    from doubles.harness import MODULE_FILE
    from UDFASegmentation import UDFASegmentation
    from UDFASegmentationLib import Startup

    monkeypatch.setattr(Startup, "_told", False)
    UDFASegmentation(makeModuleParent(MODULE_FILE))
    assert effects.registered == []
    for slot in slicer.app.startupSlots:
        slot()
    (registered,) = effects.registered
    assert (registered.name, registered.title) == ("UDFA Click", "UDFA Click")
    assert registered.perSegment
    assert registered.requireSegments


def test_loading_the_entry_file_leaves_the_library_importable(effects):
    from UDFASegmentationLib.ClickRegistration import ENTRY, registerClickEffect

    registerClickEffect()
    assert ENTRY.parent.name not in ("UDFASegmentationLib", "udfa")
    assert hasattr(sys.modules["UDFASegmentationLib"], "__path__")


def test_a_clone_is_another_effect_of_the_same_kind(effects):
    from UDFASegmentationLib.ClickRegistration import registerClickEffect

    registerClickEffect()
    (original,) = effects.registered
    clone = original.self().clone()
    assert clone is not original
    assert clone.name == original.name
    assert type(clone.self()).__name__ == "SegmentEditorEffect"


def test_icon_and_help_are_there(effects):
    from UDFASegmentationLib.ClickRegistration import registerClickEffect

    registerClickEffect()
    effect = effects.registered[0].self()
    assert not effect.icon().isNull()
    assert "Left click" in effect.helpText()
