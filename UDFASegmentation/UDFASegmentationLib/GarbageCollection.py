"""Keeps Python's garbage collection on the main thread while another thread works.

Python collects on whichever thread happens to allocate the object that is one too many. Widgets, timers and renderers
of the whole application that wait in a reference cycle would then be destroyed on that thread, which Qt and VTK do not
survive. So the automatic collection is switched off during a run, and the main thread collects from time to time.

All functions are for the main thread.
"""

from __future__ import annotations

import gc
import time

COLLECT_SECONDS = 2.0
"""Between two collections during a run."""

GENERATION = 1
"""Recent objects only: looking at all of Slicer's takes too long."""


class CollectionPause:
    """Counts who wants the automatic collection to be off."""

    def __init__(self) -> None:
        self._wishes = 0
        self._wasEnabled = False
        self._collected = 0.0

    def begin(self) -> None:
        """Switch the automatic collection off, until `end` was called as often as this."""
        if self._wishes == 0:
            self._wasEnabled = gc.isenabled()
            gc.disable()
            self._collected = time.monotonic()
        self._wishes += 1

    def end(self) -> None:
        """Switch it on again, if nobody else wants it off, and if it was on."""
        self._wishes -= 1
        if self._wishes == 0 and self._wasEnabled:
            # What has piled up would be collected at once, by whichever thread comes first.
            gc.collect(GENERATION)
            gc.enable()

    def collect(self) -> None:
        """Collect now, if it has not been done for some time."""
        if self._wishes and self._wasEnabled and time.monotonic() - self._collected >= COLLECT_SECONDS:
            gc.collect(GENERATION)
            self._collected = time.monotonic()


pause = CollectionPause()
"""The one of this process."""
