"""Progress and warnings on a terminal and in a log."""

from __future__ import annotations

import io

import pytest

from udfa.inference import Progress
from udfa.messages import Messages, clock


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_one_line_that_is_written_over() -> None:
    terminal = Terminal()
    messages = Messages(terminal)
    messages.progress(Progress(1, 8, 100.0))
    messages.progress(Progress(8, 8, 0.0))
    messages.warning("late")
    first, second = "slice 1/8 (12%), 1:40 left", "slice 8/8 (100%)"
    assert terminal.getvalue() == f"\r{first}\r{second.ljust(len(first))}\nwarning: late\n"


def test_a_log_gets_a_line_every_tenth() -> None:
    log = io.StringIO()
    messages = Messages(log)
    for done in range(1, 101):
        messages.progress(Progress(done, 100, 1.0))
    assert len(log.getvalue().splitlines()) == 10
    assert log.getvalue().startswith("slice 10/100 (10%), 0:01 left\n")
    assert log.getvalue().endswith("slice 100/100 (100%)\n")


def test_any_run_can_say_where_it_is() -> None:
    log = io.StringIO()
    Messages(log, quiet=True).position("frame 1/4, slice 3/3", 0.25)
    messages = Messages(log)
    messages.position("frame 1/4, slice 3/3", 0.25, 30.0)
    messages.position("frame 4/4, slice 3/3", 1.0, 0.0)
    assert log.getvalue() == "frame 1/4, slice 3/3 (25%), 0:30 left\nframe 4/4, slice 3/3 (100%)\n"


def test_a_fall_back_is_reported_once_even_if_quiet() -> None:
    log = io.StringIO()
    messages = Messages(log, quiet=True)
    messages.progress(Progress(3, 10, None, "Memory ran out"))
    messages.progress(Progress(4, 10, 1.0))
    messages.warning("Memory ran out")
    assert log.getvalue() == "warning: Memory ran out\n"


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0:00"), (59.6, "1:00"), (754, "12:34"), (3723, "1:02:03")])
def test_durations_are_shown_as_on_a_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text
