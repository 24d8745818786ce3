"""Where checkpoints are found, how a name becomes a file, and the hashes that pin the bundled ones.

Nothing here imports torch or uses a network. `python -m udfa.models --write` renews `models.json` after a bundled
checkpoint changed, so that the file is never edited by hand; `--check` compares it with the folder.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import udfa
from udfa.checkpoint import CheckpointInfo, read_info
from udfa.errors import CheckpointError, UDFAError

DEFAULT_MODEL = "abdomen-ct-mini"
"""Name of the checkpoint that is used when none is asked for."""

FOLDERS_VARIABLE = "UDFA_MODELS"
"""Environment variable with further folders of checkpoints, separated as in PATH."""

SUFFIX = ".safetensors"
PINS_FILE = "models.json"
"""File beside the bundled checkpoints that lists their sizes and SHA-256."""

PINS_VERSION = 1
_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class ModelEntry:
    """One checkpoint file in a models folder."""

    name: str
    """File name without `.safetensors`."""
    path: Path
    bundled: bool
    """Whether it came with UDFA."""
    info: CheckpointInfo | None
    """What the file says about itself; None when it cannot be used."""
    error: str = ""
    """Why it cannot be used; empty when it can."""


@dataclass(frozen=True)
class PinnedFile:
    """A bundled file as `models.json` records it."""

    name: str
    sha256: str
    size_bytes: int


def bundled_folder() -> Path:
    """Return the folder of the checkpoints that came with UDFA; it need not exist.

    In Slicer and in the source tree it lies in the module's resources, in a wheel inside the package.
    """
    package = Path(udfa.__file__).resolve().parent
    inside = package / "bundled_models"
    return inside if inside.is_dir() else package.parent / "Resources" / "models"


def model_folders(environ: Mapping[str, str] | None = None) -> list[Path]:
    """Return the folders that are searched for checkpoints: the bundled one, then those of UDFA_MODELS."""
    named = (os.environ if environ is None else environ).get(FOLDERS_VARIABLE, "")
    return [bundled_folder(), *(Path(part).expanduser() for part in named.split(os.pathsep) if part.strip())]


def list_models(folders: Iterable[Path] | None = None) -> list[ModelEntry]:
    """Return every checkpoint file in the folders, in search order.

    A file that cannot be read, or whose name an earlier folder already has, is listed with its error: one bad file
    never hides the others. Folders that do not exist are passed over.
    """
    entries: list[ModelEntry] = []
    taken: dict[str, Path] = {}
    bundled = bundled_folder()
    for folder in model_folders() if folders is None else folders:
        for path in checkpoint_files(folder):
            entry = _entry(path, taken.get(path.stem), folder.resolve() == bundled)
            entries.append(entry)
            taken.setdefault(entry.name, path)
    return entries


def checkpoint_files(folder: Path) -> list[Path]:
    """Checkpoints in a folder by name; without hidden files, such as the `._` ones that macOS leaves on other disks."""
    return [path for path in sorted(folder.glob(f"*{SUFFIX}")) if not path.name.startswith(".")]


def _entry(path: Path, earlier: Path | None, bundled: bool) -> ModelEntry:
    if earlier is not None:
        error = f"The name is taken by {earlier}. Rename this file, or give its path."
        return ModelEntry(path.stem, path, bundled, None, error)
    try:
        return ModelEntry(path.stem, path, bundled, read_info(path))
    except (UDFAError, OSError) as problem:
        return ModelEntry(path.stem, path, bundled, None, str(problem))


def resolve_model(name_or_path: str | None = None, folders: Iterable[Path] | None = None) -> Path:
    """Return the checkpoint file of a name or path.

    Args:
        name_or_path: Name of a checkpoint in the folders, or the path of a file. None takes `abdomen-ct-mini`, or the
            only usable checkpoint there is.
        folders: Folders to search; None takes `model_folders()`.

    Raises:
        CheckpointError: There is no such checkpoint, or it cannot be used; the message lists those there are.
    """
    if name_or_path is not None and _looks_like_path(name_or_path):
        path = Path(name_or_path).expanduser()
        if not path.is_file():
            raise CheckpointError(f"The checkpoint {path} does not exist. Check the path, or see 'udfa models'.")
        return path
    entries = list_models(folders)
    usable = [entry for entry in entries if entry.info is not None]
    wanted = _default_name(usable) if name_or_path is None else name_or_path
    for entry in entries:
        if entry.name == wanted:
            if entry.info is None:
                raise CheckpointError(f"The model '{wanted}' cannot be used: {entry.error}")
            return entry.path
    raise CheckpointError(_not_found(name_or_path, usable))


def _looks_like_path(text: str) -> bool:
    return text.endswith(SUFFIX) or "/" in text or os.sep in text


def _default_name(usable: Sequence[ModelEntry]) -> str:
    names = {entry.name for entry in usable}
    return names.pop() if len(names) == 1 else DEFAULT_MODEL


def _not_found(name: str | None, usable: Sequence[ModelEntry]) -> str:
    listing = f"There are: {', '.join(entry.name for entry in usable)}." if usable else "There is none on this machine."
    what = f"There is no model '{name}'." if name is not None else f"The default model '{DEFAULT_MODEL}' is not here."
    advice = f"Give the name of a model, the path of a {SUFFIX} file, or set {FOLDERS_VARIABLE} to a folder of them."
    return f"{what} {listing} {advice}"


def describe_models(entries: Sequence[ModelEntry]) -> str:
    """Return the checkpoints with labels, trainable share, licence and provenance, as text for people."""
    if not entries:
        return _not_found(None, [])
    return "\n\n".join(_describe(entry) for entry in entries)


def _describe(entry: ModelEntry) -> str:
    info = entry.info
    if info is None:
        return f"{entry.name}\n  cannot be used: {entry.error}"
    inside = "inside the file" if info.backbone_inside else "separate file"
    lines = {
        "task": info.config.task,
        "labels": ", ".join(label.name for label in info.labels),
        "input": f"{info.config.preprocessing.modality}, {info.config.preprocessing.slice_axis} slices",
        "backbone": f"{info.config.network.backbone} (frozen, {inside})",
        "trainable": f"{info.trainable_share:.1%} of {info.total_parameters / 1e6:.1f} million parameters",
        "trained on": _provenance(info),
        "accuracy": _accuracy(info),
        "licence": info.licence,
        "intended use": info.intended_use,
        "written by": f"udfa {info.package_version}" + (f", commit {info.commit}" if info.commit else ""),
        "file": f"{entry.path} ({info.size_bytes / 1e6:.1f} MB, SHA-256 of content {info.content_sha256[:16]}...)",
    }
    return "\n".join([entry.name, *(f"  {key + ':':<14}{text}" for key, text in lines.items() if text)])


def _provenance(info: CheckpointInfo) -> str:
    """Data set and split; empty when the checkpoint does not say."""
    parts = [str(info.training.get("data_set", ""))]
    for key, what in (("train", "training"), ("validation", "validation")):
        patients = info.training.get(key)
        if isinstance(patients, (list, tuple)):
            parts.append(f"{len(patients)} {what} patients")
    return ", ".join(part for part in parts if part)


def _accuracy(info: CheckpointInfo) -> str:
    mean = info.metrics.get("mean_dice")
    if not isinstance(mean, (int, float)):
        return ""
    protocol = info.metrics.get("protocol")
    return f"mean Dice {mean:.3f}" + (f" ({protocol})" if protocol else "")


def read_pins(folder: Path) -> list[PinnedFile]:
    """Read `models.json` of a folder.

    Raises:
        CheckpointError: It is missing or damaged.
    """
    path = folder / PINS_FILE
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        rows = document["files"]
        return [PinnedFile(str(row["name"]), str(row["sha256"]), int(row["size_bytes"])) for row in rows]
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror}). Install UDFA again.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} is damaged ({type(error).__name__}: {error}). Install UDFA again.") from error


def check_pins(folder: Path) -> list[str]:
    """Compare a folder with its `models.json`.

    Returns:
        What differs, in plain words: missing, changed and unlisted checkpoints. Empty when all is well.

    Raises:
        CheckpointError: `models.json` is missing or damaged.
    """
    pins = read_pins(folder)
    problems = [problem for pin in pins if (problem := _pin_problem(folder, pin))]
    names = {pin.name for pin in pins}
    unlisted = [path.name for path in checkpoint_files(folder) if path.name not in names]
    return problems + [f"{name} is not listed in {PINS_FILE}." for name in unlisted]


def _pin_problem(folder: Path, pin: PinnedFile) -> str:
    path = folder / pin.name
    if not path.is_file():
        return f"{pin.name} is missing."
    size = path.stat().st_size
    if size != pin.size_bytes:
        return f"{pin.name} has {size} bytes instead of {pin.size_bytes}."
    digest = file_sha256(path)
    return "" if digest == pin.sha256 else f"{pin.name} has SHA-256 {digest[:12]}... instead of {pin.sha256[:12]}..."


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, read in blocks."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def write_pins(folder: Path) -> list[PinnedFile]:
    """Write `models.json` for the checkpoints that lie in a folder, and return what it lists.

    Raises:
        CheckpointError: A file in the folder is no usable checkpoint; nothing is written.
    """
    from udfa.volume_io import written_aside

    pins = []
    for path in checkpoint_files(folder):
        size = read_info(path).size_bytes
        pins.append(PinnedFile(path.name, file_sha256(path), size))
    document = {"format_version": PINS_VERSION, "files": [asdict(pin) for pin in pins]}
    with written_aside(folder / PINS_FILE) as aside:
        aside.write_bytes(json.dumps(document, indent=2).encode() + b"\n")
    return pins


def main(arguments: Sequence[str] | None = None) -> int:
    """Write or check `models.json`; returns 0 when all is well, 1 otherwise."""
    parser = argparse.ArgumentParser(prog="python -m udfa.models", description=f"Write or check {PINS_FILE}.")
    parser.add_argument(
        "--folder", type=Path, default=bundled_folder(), help="folder of checkpoints (default: bundled)"
    )
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--write", action="store_true", help=f"write {PINS_FILE} from the files in the folder")
    action.add_argument("--check", action="store_true", help=f"compare {PINS_FILE} with the files in the folder")
    options = parser.parse_args(arguments)
    try:
        if options.write:
            pins = write_pins(options.folder)
            sys.stdout.write(f"{options.folder / PINS_FILE}: {len(pins)} file(s)\n")
            return 0
        problems = check_pins(options.folder)
    except (UDFAError, OSError) as error:
        sys.stderr.write(f"udfa.models: {error}\n")
        return 1
    sys.stdout.write("".join(f"{problem}\n" for problem in problems) or f"{options.folder}: as listed\n")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
