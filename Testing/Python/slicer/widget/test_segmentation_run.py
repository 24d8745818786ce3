"""The executor thread and the pump that delivers what it reports."""

from __future__ import annotations

import gc
import threading
import time
from dataclasses import dataclass, field
from typing import Any

import pytest
from PySide6 import QtWidgets

from udfa.errors import CancelledError


@dataclass
class Heard:
    """Collects what a listener is told."""

    events: list[tuple[str, Any]] = field(default_factory=list)
    threads: set[int] = field(default_factory=set)

    def listener(self) -> Any:
        from UDFASegmentationLib.SegmentationRun import RunListener

        def note(kind: str, value: Any = None) -> None:
            self.events.append((kind, value))
            self.threads.add(threading.get_ident())

        return RunListener(
            lambda value: note("progress", value),
            lambda value: note("done", value),
            lambda failure: note("failed", failure),
            lambda: note("cancelled"),
        )

    @property
    def ends(self) -> list[str]:
        return [kind for kind, _ in self.events if kind != "progress"]


@pytest.fixture
def run(_doubles):
    from UDFASegmentationLib.SegmentationRun import SegmentationRun

    result = SegmentationRun()
    yield result
    result.shutdown()


def pump(condition, seconds=10.0):
    """Let Qt handle events until a condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        QtWidgets.QApplication.processEvents()


def test_work_runs_on_another_thread_and_its_result_arrives_on_the_main_thread(run):
    heard = Heard()
    run.start(lambda handle: threading.get_ident(), heard.listener())
    assert run.busy
    pump(lambda: heard.ends)
    assert heard.events[0][0] == "done"
    assert heard.events[0][1] != threading.get_ident()
    assert heard.threads == {threading.get_ident()}
    assert not run.busy


def test_all_runs_share_one_thread(run):
    idents = []
    for _ in range(3):
        heard = Heard()
        run.start(lambda handle: threading.get_ident(), heard.listener())
        pump(lambda heard=heard: heard.ends)
        idents.append(heard.events[0][1])
    assert len(set(idents)) == 1


def test_progress_arrives_in_order_and_before_the_end(run):
    heard = Heard()

    def work(handle):
        for value in range(5):
            handle.progress(value)
        return "result"

    run.start(work, heard.listener())
    pump(lambda: heard.ends)
    assert heard.events == [*(("progress", value) for value in range(5)), ("done", "result")]


def test_a_second_run_cannot_be_started_while_one_is_under_way(run):
    gate = threading.Event()
    heard = Heard()
    run.start(lambda handle: gate.wait(10), heard.listener())
    with pytest.raises(RuntimeError, match="under way"):
        run.start(lambda handle: None, Heard().listener())
    gate.set()
    pump(lambda: heard.ends)


def test_cancel_reaches_the_work_within_a_second_and_is_reported_once(run):
    heard = Heard()

    def work(handle):
        while not handle.cancelled():
            time.sleep(0.005)
        raise CancelledError("stopped")

    run.start(work, heard.listener())
    start = time.monotonic()
    run.cancel()
    pump(lambda: heard.ends)
    assert time.monotonic() - start < 1
    assert heard.ends == ["cancelled"]


def test_work_that_finishes_after_cancel_counts_as_cancelled(run):
    heard, gate = Heard(), threading.Event()
    run.start(lambda handle: gate.wait(10), heard.listener())
    run.cancel()
    gate.set()
    pump(lambda: heard.ends)
    assert heard.ends == ["cancelled"]


def test_an_error_arrives_with_its_traceback(run):
    heard = Heard()

    def work(handle):
        raise ValueError("the reason")

    run.start(work, heard.listener())
    pump(lambda: heard.ends)
    kind, failure = heard.events[0]
    assert kind == "failed"
    assert str(failure.error) == "the reason"
    assert "raise ValueError" in failure.details


def test_a_dropped_run_reports_nothing_and_the_next_one_can_start_at_once(run):
    dropped, heard, gate = Heard(), Heard(), threading.Event()
    run.start(lambda handle: gate.wait(10), dropped.listener())
    run.drop()
    assert not run.busy
    run.start(lambda handle: "next", heard.listener())
    gate.set()
    pump(lambda: heard.ends)
    assert heard.events == [("done", "next")]
    assert dropped.events == []


def test_a_run_that_was_dropped_before_it_began_is_not_done(run):
    began, gate, heard = [], threading.Event(), Heard()
    run.start(lambda handle: gate.wait(10), Heard().listener())
    run.drop()
    run.start(lambda handle: began.append(1), Heard().listener())
    run.drop()
    run.start(lambda handle: "last", heard.listener())
    gate.set()
    pump(lambda: heard.ends)
    assert began == []


def test_a_listener_may_start_the_next_run(run):
    from UDFASegmentationLib.SegmentationRun import RunListener

    second = Heard()
    nothing = lambda value=None: None  # noqa: E731
    first = RunListener(nothing, lambda value: run.start(lambda h: value + 1, second.listener()), nothing, nothing)
    run.start(lambda handle: 1, first)
    pump(lambda: second.ends)
    assert second.events == [("done", 2)]


def test_an_error_in_a_listener_does_not_stop_the_pump(run, caplog):
    from UDFASegmentationLib.SegmentationRun import RunListener

    def broken(value=None):
        raise RuntimeError("a widget is gone")

    heard = Heard()
    run.start(lambda handle: 1, RunListener(broken, broken, broken, broken))
    pump(lambda: not run.busy)
    run.start(lambda handle: 2, heard.listener())
    pump(lambda: heard.ends)
    assert "a widget is gone" in caplog.text


def test_the_timer_runs_only_while_there_is_something_to_wait_for(run):
    heard = Heard()
    assert not run._timer.isActive()
    run.start(lambda handle: None, heard.listener())
    assert run._timer.isActive()
    pump(lambda: heard.ends)
    pump(lambda: not run._timer.isActive())


def test_while_the_pump_waits_a_python_thread_gets_time_even_if_the_event_loop_never_yields(run):
    """In Slicer the event loop holds Python's lock. Here the main thread computes in Python between the pumps, with
    the interpreter told not to hand over the lock by itself, so that only the pump's waiting lets the thread advance.
    """
    import sys

    heard, steps = Heard(), []

    def work(handle):
        while len(steps) < 50:
            steps.append(1)
            time.sleep(0)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(60)
    try:
        run.start(work, heard.listener())
        for _ in range(20):
            run._pump()
            if heard.ends:
                break
    finally:
        sys.setswitchinterval(interval)
    assert heard.ends == ["done"]


def test_the_pump_never_holds_up_the_panel_for_long(run):
    gate, heard = threading.Event(), Heard()
    run.start(lambda handle: gate.wait(10), heard.listener())
    longest = 0.0
    for _ in range(10):
        start = time.monotonic()
        run._pump()
        longest = max(longest, time.monotonic() - start)
    gate.set()
    pump(lambda: heard.ends)
    assert longest < 0.25


@pytest.mark.usefixtures("_doubles")
def test_shutdown_while_a_run_is_under_way_returns_at_once_and_reports_nothing():
    from UDFASegmentationLib.SegmentationRun import SegmentationRun

    run, heard, stopped = SegmentationRun(), Heard(), threading.Event()

    def work(handle):
        while not handle.cancelled():
            time.sleep(0.005)
        stopped.set()
        raise CancelledError("stopped")

    run.start(work, heard.listener())
    start = time.monotonic()
    run.shutdown()
    assert time.monotonic() - start < 0.5
    assert stopped.wait(5)
    QtWidgets.QApplication.processEvents()
    assert heard.events == []


@pytest.mark.usefixtures("_doubles")
def test_when_slicer_quits_all_runs_are_asked_to_stop():
    """Python waits for their threads at its end: an answer that takes minutes would keep Slicer from quitting."""
    import slicer

    from UDFASegmentationLib.SegmentationRun import SegmentationRun

    runs, heard, stopped = [SegmentationRun(), SegmentationRun()], Heard(), []
    latest = time.monotonic() + 20

    def work(handle):
        while not handle.cancelled() and time.monotonic() < latest:
            time.sleep(0.005)
        stopped.append(handle)

    for run in runs:
        run.start(work, heard.listener())
    slicer.app.aboutToQuit()
    pump(lambda: len(stopped) == 2)
    assert heard.events == []
    for run in runs:
        run.shutdown()
    slicer.app.aboutToQuit()
    assert not any(slot.__self__ in runs for slot in slicer.app.quitSlots), "a run that has ended is forgotten"


class InACycle:
    """Notes on which thread it is destroyed; only the garbage collection finds it."""

    def __init__(self, destroyed):
        self.itself, self.destroyed = self, destroyed

    def __del__(self):
        self.destroyed.append(threading.get_ident())


def test_garbage_of_the_application_is_never_collected_on_the_thread(run, monkeypatch):
    """Widgets and renderers may be among it: Slicer would not survive their destruction there."""
    from UDFASegmentationLib import GarbageCollection

    monkeypatch.setattr(GarbageCollection, "COLLECT_SECONDS", 0.1)
    heard, destroyed = Heard(), []

    def work(handle):
        deadline = time.monotonic() + 1.0
        while time.monotonic() < deadline:
            InACycle(destroyed)
            kept = [[] for _ in range(2000)]
            time.sleep(0.01)
        return len(kept)

    gc.collect()
    run.start(work, heard.listener())
    pump(lambda: heard.ends == ["done"])
    assert destroyed, "the main thread collects during the run"
    assert set(destroyed) == {threading.get_ident()}


def test_the_automatic_collection_is_off_during_runs_only(run):
    from UDFASegmentationLib.SegmentationRun import SegmentationRun

    other, heard, go = SegmentationRun(), Heard(), threading.Event()
    assert gc.isenabled()
    run.start(lambda handle: gc.isenabled(), heard.listener())
    other.start(lambda handle: go.wait(10), heard.listener())
    pump(lambda: heard.ends == ["done"])
    assert heard.events == [("done", False)]
    assert not gc.isenabled(), "the other run goes on"
    other.shutdown()
    assert gc.isenabled()
    go.set()
    gc.disable()
    try:
        run.start(lambda handle: None, heard.listener())
        pump(lambda: len(heard.ends) == 2)
        assert not gc.isenabled(), "somebody else has switched it off"
    finally:
        gc.enable()


def test_a_dropped_run_keeps_the_collection_off_until_it_has_ended(run):
    go, heard = threading.Event(), Heard()
    run.start(lambda handle: go.wait(10), heard.listener())
    run.drop()
    assert not gc.isenabled()
    go.set()
    pump(gc.isenabled)
