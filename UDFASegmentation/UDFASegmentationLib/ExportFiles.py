"""Several files at once, or none: they are made in a folder aside and moved into place together."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from udfa.errors import UDFAError


class ExportError(UDFAError):
    """The export did not happen; no file was left behind or changed."""


@contextmanager
def stagedFolder(target: Path) -> Iterator[Path]:
    """Give an empty folder on the disk of `target`; when the block ends well, its files move into `target`.

    Existing files of the same names are replaced. If a file cannot be moved, everything is put back as it was.

    Args:
        target: Folder for the results; made if it does not exist.

    Raises:
        ExportError: The folder cannot be written to.
    """
    made = _missingFolders(target)
    aside = None
    try:
        try:
            target.mkdir(parents=True, exist_ok=True)
            aside = Path(tempfile.mkdtemp(prefix=".udfa-", dir=target))
        except OSError as error:
            raise ExportError(f"{target} cannot be written to ({error}). Choose another folder.") from error
        yield aside
        _moveAll(aside, target)
        made = []
    finally:
        if aside is not None:
            shutil.rmtree(aside, ignore_errors=True)
        for folder in made:
            _removeIfEmpty(folder)


def _missingFolders(target: Path) -> list[Path]:
    """Folders that have to be made for a target, innermost first."""
    return [folder for folder in (target, *target.parents) if not folder.exists()]


def _removeIfEmpty(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError:
        return


def _moveAll(aside: Path, target: Path) -> None:
    """Move all files of a folder into another, all or none."""
    replaced = Path(tempfile.mkdtemp(prefix="replaced-", dir=aside))
    moved: list[Path] = []
    umask = os.umask(0)
    os.umask(umask)
    try:
        for source in sorted(path for path in aside.iterdir() if path != replaced):
            goal = target / source.name
            if goal.exists():
                goal.replace(replaced / source.name)
            if source.is_file():
                source.chmod(0o666 & ~umask)
            source.replace(goal)
            moved.append(goal)
    except OSError as error:
        for goal in moved:
            goal.unlink(missing_ok=True)
        for old in replaced.iterdir():
            old.replace(target / old.name)
        raise ExportError(f"The files cannot be moved to {target} ({error}). Nothing was changed there.") from error


def safeNames(names: Iterable[str]) -> list[str]:
    """Return file names for titles: without characters that a system forbids, and no two alike, ignoring case."""
    taken: set[str] = set()
    result = []
    for name in names:
        base = re.sub(r"[^\w\- .()]", "_", name).strip(" .") or "unnamed"
        unique, number = base, 2
        while unique.lower() in taken:
            unique, number = f"{base} {number}", number + 1
        taken.add(unique.lower())
        result.append(unique)
    return result
