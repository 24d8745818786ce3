"""What a long run says on a terminal or into a log: notes, warnings and progress."""

from __future__ import annotations

from typing import TYPE_CHECKING, Optional, TextIO

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
        else:
            done, total = progress.done, progress.total
            self.position(f"slice {done}/{total}", done / total, progress.seconds_left)

    def position(self, place: str, share: float, seconds_left: Optional[float] = None) -> None:
        """Show how far a run is.

        Args:
            place: Where it is, such as "slice 3/9".
            share: How much is done, 0 to 1.
            seconds_left: Estimated time left, if known.
        """
        if self.quiet:
            return
        text = f"{place} ({share:.0%})"
        if seconds_left is not None and share < 1:
            text += f", {clock(seconds_left)} left"
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
