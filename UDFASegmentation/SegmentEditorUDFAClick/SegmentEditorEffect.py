"""Entry of the effect "UDFA Click". Slicer loads this file as a module named after its folder.

It has a folder of its own, because Slicer would otherwise replace the package whose name it takes.
"""

from __future__ import annotations

from typing import Any

from UDFASegmentationLib.ClickEffect import ClickEffect


class SegmentEditorEffect(ClickEffect):
    """The effect under the name and in the place where Slicer looks for it."""

    def clone(self) -> Any:
        """Return another instance of the effect; every editor has its own."""
        import qSlicerSegmentationsEditorEffectsPythonQt as effects

        cloned = effects.qSlicerSegmentEditorScriptedEffect(None)
        cloned.setPythonSource(__file__.replace("\\", "/"))
        return cloned
