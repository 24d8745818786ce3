"""What a long run says on a terminal or into a log: notes, warnings and progress."""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from udfa.inference import Progress


class Messages:
    """Short lines for the user: notes, warnings and one progress line.

    Args:
        stream: Where they go; a terminal gets a progress line that is written over, a file a line every 10 %.
        quiet: Leave out notes and progress; warnings are always shown.
    """

    def __init__(self, stream: TextIO, quiet: bool = False) -> None:
        self.stream = stream
        self.quiet = quiet
        self._terminal = bool(stream.isatty())
        self._tenths = 0
        self._open_line = 0
        self._warned: set[str] = set()

    def note(self, text: str) -> None:
        """Say what is being done."""
        if not self.quiet:
            self._line(text)

    def warning(self, text: str) -> None:
        """Say what looks wrong; once per text."""
        if text not in self._warned:
            self._warned.add(text)
            self._line(f"warning: {text}")

    def progress(self, progress: Progress) -> None:
        """Show how far a run is; a message in it is shown as a warning."""
        if progress.message:
            self.warning(progress.message)
        elif not self.quiet:
            self._progress(progress)

    def _progress(self, progress: Progress) -> None:
        share = progress.done / progress.total
        text = f"slice {progress.done}/{progress.total} ({share:.0%})"
        if progress.seconds_left is not None and progress.done < progress.total:
            text += f", {clock(progress.seconds_left)} left"
        if self._terminal:
            self.stream.write("\r" + text.ljust(self._open_line))
            self.stream.flush()
            self._open_line = len(text)
        elif int(share * 10) > self._tenths:
            self._tenths = int(share * 10)
            self._line(text)

    def close_line(self) -> None:
        """End the progress line, so that the next text starts on a line of its own."""
        if self._open_line:
            self.stream.write("\n")
            self._open_line = 0

    def _line(self, text: str) -> None:
        self.close_line()
        self.stream.write(text + "\n")
        self.stream.flush()


def clock(seconds: float) -> str:
    """Return a duration as m:ss, or h:mm:ss."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
