"""Keyboard shortcuts that exist only while the module is shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import qt
import slicer

RUN_KEY = "Ctrl+Return"
NEXT_DOUBTFUL_KEY = "N"
OVERLAY_KEY = "U"

SEGMENT_EDITOR_KEYS = frozenset(
    {*"0123456789ZYQWI/*,.<>", "Esc", "Space", "Ctrl+Z", "Ctrl+Y", *(f"Shift+{digit}" for digit in range(10))}
)
"""Keys of Slicer's Segment Editor, which must keep their meaning."""


class Shortcuts:
    """Installs keys on the main window in `install` and removes every trace of them in `remove`.

    Args:
        actions: Key, as QKeySequence reads it, to what it does.

    Raises:
        ValueError: A key belongs to the Segment Editor.
    """

    def __init__(self, actions: Mapping[str, Callable[[], None]]) -> None:
        taken = sorted(set(actions) & SEGMENT_EDITOR_KEYS)
        if taken:
            raise ValueError(f"The Segment Editor uses {', '.join(taken)}; choose other keys.")
        self._actions = dict(actions)
        self._shortcuts: list[Any] = []

    @property
    def installed(self) -> bool:
        """Whether the keys are live."""
        return bool(self._shortcuts)

    def install(self) -> None:
        """Make the keys live; does nothing when they are, or when there is no main window."""
        window = slicer.util.mainWindow()
        if self._shortcuts or window is None:
            return
        for key, action in self._actions.items():
            shortcut = qt.QShortcut(window)
            shortcut.setKey(qt.QKeySequence(key))
            shortcut.connect("activated()", action)
            self._shortcuts.append(shortcut)

    def remove(self) -> None:
        """Remove the keys."""
        for shortcut, action in zip(self._shortcuts, self._actions.values()):
            shortcut.disconnect("activated()", action)
            shortcut.setParent(None)
            shortcut.deleteLater()
        self._shortcuts.clear()
