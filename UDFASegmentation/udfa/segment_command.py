"""What `udfa segment` does: check everything that can be checked, run, and write all outputs or none."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

import udfa
from udfa.checkpoint import CheckpointInfo, load_checkpoint, read_info
from udfa.checks import check_volume
from udfa.errors import InvalidInputError
from udfa.geometry import Volume
from udfa.labels import Label
from udfa.messages import Messages
from udfa.models import resolve_model
from udfa.origin import origin
from udfa.output_names import LABELMAP_SUFFIXES, labels_file, record_beside, split_name
from udfa.report import Overview, draw_overview, require_matplotlib, save_figure
from udfa.segmentation_file import LabelledVolume, check_labels_file, stage_segmentation
from udfa.statistics import LabelStatistics, format_csv, label_statistics
from udfa.volume_io import image_from_array, read_volume, write_image, written_aside

if TYPE_CHECKING:
    from udfa.inference import SegmentationResult


@dataclass(frozen=True)
class SegmentJob:
    """One call of `udfa segment`."""

    input: Path
    """Volume file or DICOM folder."""
    output: Path
    """`.seg.nrrd`, or a labelmap `.nii.gz` or `.nrrd`."""
    model: Optional[str] = None
    """Name or path of the checkpoint; None takes the default."""
    labels: Optional[tuple[str, ...]] = None
    """Names of the labels to write; None takes all."""
    uncertainty: Optional[Path] = None
    """Where to write the uncertainty volume, if anywhere."""
    report: Optional[Path] = None
    """Folder for volumes (CSV) and overview (PNG), if wanted."""
    device: str = "auto"
    precision: str = "auto"
    batch_size: Optional[int] = None
    cleanup: bool = True
    """Remove small islands where the checkpoint says that it helps."""
    backbone_weights: Optional[Path] = None
    """Local file with the DINOv2 weights."""

    def report_files(self) -> list[Path]:
        """CSV and PNG of the report; empty when none is wanted."""
        if self.report is None:
            return []
        stem, _ = split_name(self.output)
        return [self.report / f"{stem}_volumes.csv", self.report / f"{stem}_overview.png"]

    def output_files(self) -> list[Path]:
        """Every file that the run will write."""
        files = [self.output]
        if split_name(self.output)[1] in LABELMAP_SUFFIXES:
            files.append(labels_file(self.output))
        return files + ([self.uncertainty] if self.uncertainty is not None else []) + self.report_files()


@dataclass(frozen=True)
class Outcome:
    """What a finished run reports."""

    info: CheckpointInfo
    rows: list[LabelStatistics]
    result: SegmentationResult
    files: list[Path]

    def summary(self) -> str:
        """Return a table of volumes, what was not found, and what was written."""
        found = [row for row in self.rows if row.voxels]
        width = max([len(row.title) for row in found], default=0)
        lines = [f"{row.title:<{width}}  {row.volume_ml:>9,.1f} mL" for row in found]
        missing = [row.title for row in self.rows if not row.voxels]
        if missing:
            lines.append(f"Not found: {', '.join(missing)}")
        lines.append(f"Time: {self.result.seconds:.1f} s ({self.result.plan.describe()})")
        return "\n".join(lines + [f"Written: {path}" for path in self.files])


def run_segment(job: SegmentJob, messages: Messages) -> Outcome:
    """Segment a file and write the outputs; on failure or interruption nothing is written.

    Raises:
        UDFAError: Something about input, model, options or outputs; found before the network runs wherever possible.
    """
    check_outputs(job)
    info = read_info(resolve_model(job.model))
    labels = chosen_labels(info, job.labels)
    messages.note(f"Reading {job.input}")
    volume = read_volume(job.input)
    for warning in check_volume(volume, info.config.preprocessing):
        messages.warning(warning)
    note_loading(info, job.backbone_weights, messages)
    result = _segment(job, info, volume, messages)
    for warning in result.warnings:
        messages.warning(warning)
    messages.note("Writing")
    record = provenance(job.input, info, result, job.labels, job.cleanup)
    content = LabelledVolume(result.labelmap, volume, labels, record)
    rows = label_statistics(result.labelmap, volume, labels)
    if not any(row.voxels for row in rows):
        messages.warning("None of the labels was found. Check that the model fits the image: see 'udfa models'.")
    _write(job, info, content, result, rows)
    return Outcome(info, rows, result, job.output_files())


def note_loading(info: CheckpointInfo, backbone_weights: Optional[Path], messages: Messages) -> None:
    """Say which model is loaded, and where weights that it lacks come from."""
    messages.note(f"Loading {info.name} ({info.config.task})")
    if not info.backbone_inside and backbone_weights is None:
        messages.note(
            "The DINOv2 weights come from the Hugging Face cache, and are downloaded into it on first use "
            "(--backbone-weights FILE avoids this)."
        )


def _segment(job: SegmentJob, info: CheckpointInfo, volume: Volume, messages: Messages) -> SegmentationResult:
    from udfa.devices import make_plan
    from udfa.inference import Segmenter, SegmentOptions

    plan = make_plan(job.device, job.batch_size, job.precision)
    segmenter = Segmenter.from_checkpoint(load_checkpoint(info.path, job.backbone_weights), plan)
    size = " x ".join(str(length) for length in reversed(volume.array.shape))
    messages.note(f"Segmenting {size} voxels ({plan.describe()})")
    options = SegmentOptions(job.labels, job.uncertainty is not None, job.cleanup)
    result = segmenter.segment(volume, options, messages.progress)
    messages.close_line()
    return result


def chosen_labels(info: CheckpointInfo, names: Optional[tuple[str, ...]]) -> dict[int, Label]:
    """Return value to label for the labels asked for.

    Raises:
        InvalidInputError: The model lacks one of them.
    """
    check_labels(names or (), info)
    return {value: label for value, label in enumerate(info.labels, start=1) if names is None or label.name in names}


def check_labels(names: Iterable[str], info: CheckpointInfo) -> None:
    """Raise InvalidInputError if the model lacks a label."""
    unknown = sorted({name for name in names if name not in info.config.labels})
    if unknown:
        raise InvalidInputError(
            f"{info.name} has no label {', '.join(map(repr, unknown))}. It has: {', '.join(info.config.labels)}. "
            f"Another model is chosen with --model."
        )


def provenance(
    image: Path,
    info: CheckpointInfo,
    result: SegmentationResult,
    labels: Optional[tuple[str, ...]] = None,
    cleanup: bool = True,
) -> dict[str, Any]:
    """Return what is recorded with the result: how it was made, in JSON types. Folders are left out."""
    rules = info.config.postprocessing
    return {
        **origin(image, info),
        "device": result.plan.device,
        "precision": str(result.plan.dtype).replace("torch.", ""),
        "batch_size": result.plan.batch_size,
        "seconds": round(result.seconds, 2),
        "settings": {
            "labels": list(labels or info.config.labels),
            "largest_component": list(rules.largest_component_labels) if cleanup else [],
            "small_parts_removed": list(rules.small_part_labels) if cleanup else [],
        },
        "warnings": list(result.warnings),
    }


def _write(
    job: SegmentJob,
    info: CheckpointInfo,
    content: LabelledVolume,
    result: SegmentationResult,
    rows: list[LabelStatistics],
) -> None:
    """Write every output aside, then give all of them their names."""
    with ExitStack() as stack:
        stage_segmentation(stack, job.output, content)
        if job.uncertainty is not None and result.uncertainty is not None:
            aside = stack.enter_context(written_aside(job.uncertainty))
            write_image(image_from_array(result.uncertainty, content.reference), aside)
        if job.report is not None:
            stack.callback(remove_if_empty, job.report)
            table, picture = (stack.enter_context(written_aside(path)) for path in job.report_files())
            with table.open("w", encoding="utf-8", newline="") as file:
                format_csv(file, rows)
            save_figure(draw_overview(_overview(job, info, content, rows)), picture)


def _overview(job: SegmentJob, info: CheckpointInfo, content: LabelledVolume, rows: list[LabelStatistics]) -> Overview:
    settings = info.config.preprocessing
    return Overview(
        image=content.reference,
        labelmap=content.labelmap,
        labels=dict(content.labels),
        rows=rows,
        title=job.input.name,
        model=f"{info.name}: {info.config.task}, udfa {udfa.__version__}",
        slice_axis=settings.slice_axis,
        window=settings.window_hu if settings.modality == "CT" else None,
    )


def remove_if_empty(folder: Path) -> None:
    """Remove a folder that was made for outputs that were not written."""
    with suppress(OSError):
        folder.rmdir()


def check_outputs(job: SegmentJob) -> None:
    """Check before the run that every output can be written.

    Raises:
        InvalidInputError: An unknown file type, a missing or read-only folder, two outputs (or an output and the
            input) of the same name, or a corrected segmentation in the output's place.
        UDFAError: A report is wanted, but matplotlib is not installed.
    """
    split_name(job.output)
    if job.uncertainty is not None:
        split_name(job.uncertainty, LABELMAP_SUFFIXES)
    files = job.output_files()
    check_distinct([job.input, *files])
    folders = {path.parent for path in files if path.parent != job.report}
    if job.report is not None:
        folders.add(job.report if job.report.exists() else job.report.parent)
    check_places(job.output, files, folders)
    check_not_corrected(job.output)
    if job.report is not None:
        require_matplotlib()


def check_not_corrected(output: Path) -> None:
    """Raise InvalidInputError if a segmentation would take the place of one that was corrected."""
    if (record := record_beside(output)).exists():
        raise InvalidInputError(
            f"{output.name} was corrected by clicks, whose record {record} would be left without it. Give the "
            f"output another name, or remove the record first."
        )


def check_distinct(paths: Iterable[Path]) -> None:
    """Raise InvalidInputError if two paths are the same place."""
    seen: set[str] = set()
    for path in paths:
        place = os.path.normcase(path.resolve())
        if place in seen:
            raise InvalidInputError(f"{path} is named twice, as input and output or as two outputs. Rename one.")
        seen.add(place)


def check_places(output: Path, files: Iterable[Path], folders: Iterable[Path]) -> None:
    """Check that a segmentation and the files that go with it can be written where they shall.

    Args:
        output: The segmentation.
        files: All files, the segmentation too.
        folders: The folders that they go into.

    Raises:
        InvalidInputError: A missing or read-only folder, a folder in the place of a file, or a foreign JSON in that of
            a labelmap's.
    """
    for folder in sorted(folders):
        check_folder(folder)
    for path in files:
        if path.is_dir():
            raise InvalidInputError(f"{path} is a folder. Give a file name for the output.")
    check_labels_file(output)


def check_folder(folder: Path) -> None:
    """Raise InvalidInputError unless a folder exists and can be written to."""
    if not folder.is_dir():
        raise InvalidInputError(f"The folder {folder} does not exist. Create it, or choose another place.")
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InvalidInputError(
            f"The folder {folder} cannot be written to ({error.strerror}). Choose another."
        ) from error
