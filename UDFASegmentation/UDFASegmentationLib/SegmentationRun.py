"""Runs work on one persistent thread and hands its events to the main thread, so that Slicer never blocks.

One thread for all runs keeps the CUDA context and cuDNN's plans warm. Work never touches MRML or widgets; it reports
through its handle, and a Qt timer delivers what it reported on the main thread.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Optional

from udfa.errors import CancelledError
from UDFASegmentationLib.GarbageCollection import pause

PUMP_INTERVAL_MS = 10
"""Qt's event loop gets at least this much time between two looks into the queue."""

YIELD_SECONDS = 0.03
"""How long each look waits for events. Slicer's event loop holds Python's global lock, so a Python thread advances
only while the main thread waits like this; short enough that the panel still feels immediate."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Failure:
    """Why a run failed."""

    error: Exception
    details: str
    """The traceback, for the log and for reports."""


@dataclass(frozen=True)
class RunListener:
    """What the main thread does when a run reports. Exactly one of the last three is called, once, at the end."""

    onProgress: Callable[[Any], None]
    onDone: Callable[[Any], None]
    onFailed: Callable[[Failure], None]
    onCancelled: Callable[[], None]


class RunHandle:
    """What work sees of its run, on the executor thread."""

    def __init__(self, events: queue.SimpleQueue[tuple[RunHandle, str, Any]]) -> None:
        self._events = events
        self._cancelled = threading.Event()

    def progress(self, value: Any) -> None:
        """Report something to the main thread."""
        self._events.put((self, "progress", value))

    def cancelled(self) -> bool:
        """Whether the work should stop; ask between batches."""
        return self._cancelled.is_set()

    def cancel(self) -> None:
        """Ask the work to stop."""
        self._cancelled.set()


Work = Callable[[RunHandle], Any]


class SegmentationRun:
    """At most one run at a time, cancellable, whose result can be dropped at any moment. Use it on the main thread."""

    def __init__(self) -> None:
        import qt
        import slicer

        self._executor: Optional[ThreadPoolExecutor] = None
        self._events: queue.SimpleQueue[tuple[RunHandle, str, Any]] = queue.SimpleQueue()
        self._handle: Optional[RunHandle] = None
        self._listener: Optional[RunListener] = None
        self._outstanding = 0
        self._timer = qt.QTimer()
        self._timer.setInterval(PUMP_INTERVAL_MS)
        self._timer.connect("timeout()", self._pump)
        # Python waits for the thread at its end; Slicer may not unload modules and effects before that.
        slicer.app.connect("aboutToQuit()", self.drop)

    @property
    def busy(self) -> bool:
        """Whether a run is under way whose end will be reported."""
        return self._handle is not None

    def start(self, work: Work, listener: RunListener) -> None:
        """Start work on the executor thread.

        Raises:
            RuntimeError: A run is under way.
        """
        if self.busy:
            raise RuntimeError("A run is under way; cancel or drop it first.")
        if self._executor is None:
            self._executor = ThreadPoolExecutor(1, thread_name_prefix="UDFA")
        handle = RunHandle(self._events)
        self._handle, self._listener = handle, listener
        self._outstanding += 1
        pause.begin()
        self._executor.submit(_execute, work, handle, self._events)
        self._timer.start()

    def cancel(self) -> None:
        """Ask the run to stop; its end is reported as cancelled, also when the work was already through."""
        if self._handle is not None:
            self._handle.cancel()

    def drop(self) -> None:
        """Ask the run to stop and report nothing of it any more: for a scene that closes or an input that vanishes."""
        self.cancel()
        self._handle = self._listener = None

    def shutdown(self) -> None:
        """Drop the run and let the thread end; the object cannot be used any more."""
        import slicer

        self.drop()
        self._timer.stop()
        # Both would keep this object alive for ever.
        self._timer.disconnect("timeout()", self._pump)
        slicer.app.disconnect("aboutToQuit()", self.drop)
        for _ in range(self._outstanding):
            pause.end()
        self._outstanding = 0
        if self._executor is not None:
            self._executor.shutdown(wait=False)

    def _pump(self) -> None:
        """Deliver what has been reported. Called by the timer while work is outstanding."""
        for handle, kind, value in self._waitForEvents():
            if kind != "progress":
                self._outstanding -= 1
                pause.end()
            if handle is self._handle:
                self._deliver(handle, kind, value)
        pause.collect()
        if self._outstanding == 0:
            self._timer.stop()

    def _waitForEvents(self) -> list[tuple[RunHandle, str, Any]]:
        deadline = time.monotonic() + YIELD_SECONDS
        events = []
        while (left := deadline - time.monotonic()) > 0:
            try:
                events.append(self._events.get(timeout=left))
            except queue.Empty:
                break
            if events[-1][1] != "progress":
                break
        return events

    def _deliver(self, handle: RunHandle, kind: str, value: Any) -> None:
        listener = self._listener
        if listener is None:
            return
        try:
            if kind == "progress":
                listener.onProgress(value)
                return
            # The run is over before its listener hears of it, so that the listener may start the next one.
            self._handle = self._listener = None
            if kind == "cancelled" or handle.cancelled():
                listener.onCancelled()
            elif kind == "done":
                listener.onDone(value)
            else:
                listener.onFailed(value)
        except Exception:
            _logger.exception("The panel failed to show '%s' of a run.", kind)


def _execute(work: Work, handle: RunHandle, events: queue.SimpleQueue[tuple[RunHandle, str, Any]]) -> None:
    """Do the work on the executor thread and report its end."""
    try:
        if handle.cancelled():
            raise CancelledError("Cancelled before it began; nothing was changed.")
        events.put((handle, "done", work(handle)))
    except CancelledError:
        events.put((handle, "cancelled", None))
    except Exception as error:
        events.put((handle, "failed", Failure(error, traceback.format_exc())))
