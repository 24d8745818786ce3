"""How a run stops: on request, and with a clear message when something fails."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch.distributed

from udfa.devices import is_out_of_memory
from udfa.errors import UDFAError

SECOND_AFTER_SECONDS = 2.0
"""Signals that follow sooner are copies of the first: launchers pass on what the terminal sends to all processes."""


LOADER_FAILURE = "DataLoader worker"
"""How torch's message begins when a loader process died. A signal handler raises it, so it may come up anywhere."""


class StopRequest:
    """Ctrl+C or SIGTERM while this context is open: `asked` becomes true, and the loop stops after its step.

    Another signal, SECOND_AFTER_SECONDS later or more, ends the program at once.
    """

    def __init__(self) -> None:
        self.asked = False
        self._asked_at = 0.0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        # Only the main thread may handle signals.
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.asked and time.monotonic() - self._asked_at >= SECOND_AFTER_SECONDS:
            self._restore()
            raise KeyboardInterrupt
        if not self.asked:
            self.asked, self._asked_at = True, time.monotonic()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}


def diverged(name: str, value: float, step: int, saved: Path) -> str:
    """Return the message for a loss or a gradient that is not finite."""
    return (
        f"The {name} became {value} at step {step}. {where_saved(saved)} Resume with precision 32-true, or start anew "
        f"with a lower learning_rate in another output folder."
    )


def where_saved(saved: Path) -> str:
    """Return where the last state is."""
    return f"{saved} holds an earlier state." if saved.exists() else "Nothing had been saved yet."


@contextmanager
def failures_explained(saved: Path, step: Callable[[], int]) -> Iterator[None]:
    """Turn failures of the machine into UDFAError with what happened, where the last state is, and what to do.

    Args:
        saved: Path of the resumable state.
        step: Returns the number of finished steps.
    """
    try:
        yield
    except OSError as error:
        raise UDFAError(
            f"Reading or writing failed after step {step()}: {error}. {where_saved(saved)} Free space or mend the "
            f"folder, then start the same command again."
        ) from error
    except RuntimeError as error:
        if LOADER_FAILURE in str(error):
            what = f"A loader process was killed after step {step()} ({error})."
            advice = "Often memory was short: start the same command again, with fewer --workers (0: none)."
        elif "Connection closed by peer" in str(error) or isinstance(error, torch.distributed.DistError):
            what = f"Another process of the run ended after step {step()}; its message says why."
            advice = "Start the same command again."
        elif is_out_of_memory(error):
            what = f"Memory ran out after step {step()} ({str(error).splitlines()[0]})."
            advice = "Start anew with half the batch_size and twice accumulate, which gives the same steps."
        else:
            raise
        raise UDFAError(f"{what} {where_saved(saved)} {advice}") from error
