"""Tells the Segment Editor about the effect UDFA Click."""

from __future__ import annotations

from pathlib import Path

ENTRY = Path(__file__).resolve().parents[1] / "SegmentEditorUDFAClick" / "SegmentEditorEffect.py"


def registerClickEffect() -> None:
    """Register the effect with the Segment Editor. Call it once, when Slicer has started."""
    import qSlicerSegmentationsEditorEffectsPythonQt as effects

    instance = effects.qSlicerSegmentEditorScriptedEffect(None)
    instance.setPythonSource(ENTRY.as_posix())
    instance.self().register()
