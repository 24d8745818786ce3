"""Small work in the background, such as measuring segments, which gives way to a segmentation run."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Optional

from UDFASegmentationLib.SegmentationRun import Failure, RunListener, SegmentationRun

_logger = logging.getLogger(__name__)

Chore = tuple[Callable[[], Any], Callable[[Any], None], Callable[[], None]]
"""Work for the executor thread, what the main thread does with its result, and what it does in the end in any case."""


def _nothing() -> None:
    """Do nothing."""


class Chores:
    """Does chores one after the other on the run's thread, whenever no segmentation is under way.

    A chore is known by its name: asking again before it was done replaces it, so that only the latest state is
    measured. Use it on the main thread.
    """

    def __init__(self, run: SegmentationRun) -> None:
        self._run = run
        self._waiting: dict[str, Chore] = {}
        self._current: Optional[str] = None
        self._paused = False

    def request(
        self,
        name: str,
        work: Callable[[], Any],
        onDone: Callable[[Any], None],
        atEnd: Callable[[], None] = _nothing,
    ) -> None:
        """Have a chore done soon.

        Args:
            name: Replaces a chore of that name which is not done yet.
            work: Done on the executor thread.
            onDone: Called on the main thread with what `work` returned, unless it failed.
            atEnd: Called on the main thread when the chore was done, failed or was forgotten.
        """
        self._waiting[name] = (work, onDone, atEnd)
        if self._current == name:
            self._run.drop()
            self._current = None
        self._next()

    def pause(self) -> None:
        """Make way for a segmentation; a chore that is under way is begun again later."""
        self._paused = True
        if self._current is not None:
            self._run.drop()
            self._current = None

    def resume(self) -> None:
        """Go on after a segmentation."""
        self._paused = False
        self._next()

    def clear(self) -> None:
        """Forget all chores: for a scene that closes."""
        forgotten = list(self._waiting.values())
        self._waiting.clear()
        if self._current is not None:
            self._run.drop()
            self._current = None
        for _work, _onDone, atEnd in forgotten:
            atEnd()

    @property
    def idle(self) -> bool:
        """Whether nothing waits or is under way."""
        return not self._waiting

    def _next(self) -> None:
        if self._paused or self._current is not None or self._run.busy or not self._waiting:
            return
        name, (work, onDone, _atEnd) = next(iter(self._waiting.items()))
        self._current = name
        listener = RunListener(
            onProgress=lambda value: None,
            onDone=lambda value: self._finish(name, lambda: onDone(value)),
            onFailed=lambda failure: self._finish(name, lambda: _report(name, failure)),
            onCancelled=lambda: self._finish(name, lambda: None),
        )
        self._run.start(lambda handle: work(), listener)

    def _finish(self, name: str, action: Callable[[], None]) -> None:
        _work, _onDone, atEnd = self._waiting.pop(name)
        self._current = None
        try:
            action()
        finally:
            atEnd()
            self._next()


def _report(name: str, failure: Failure) -> None:
    _logger.warning("'%s' failed: %s\n%s", name, failure.error, failure.details)
