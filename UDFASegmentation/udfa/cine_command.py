"""What `udfa cine` does: segment all frames of a series, tell the ventricular function, write all outputs or none."""

from __future__ import annotations

import csv
import importlib.util
import math
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

import numpy as np
from numpy.typing import NDArray

import udfa
from udfa.cardiac import LEFT_VENTRICLE, CardiacFunction, cardiac_function, write_measures
from udfa.checkpoint import CheckpointInfo, load_checkpoint, read_info
from udfa.checks import check_volume
from udfa.cine_io import CineSeries, image_of_frames, read_cine, series_name
from udfa.errors import InvalidInputError
from udfa.labels import Label
from udfa.messages import Messages
from udfa.models import resolve_model
from udfa.output_names import OUTPUT_SUFFIXES, labels_file
from udfa.report import save_figure
from udfa.segment_command import (
    check_distinct,
    check_not_corrected,
    check_places,
    chosen_labels,
    note_loading,
    provenance,
    remove_if_empty,
)
from udfa.segmentation_file import stage_labels
from udfa.statistics import voxel_counts
from udfa.volume_curves import VolumeCurves, draw_curves
from udfa.volume_io import write_image, written_aside

if TYPE_CHECKING:
    from udfa.inference import Progress, ProgressCallback, SegmentationResult

CINE_MODEL = "cardiac-mr-mini"
"""Name of the checkpoint that is used when none is asked for."""


@dataclass(frozen=True)
class CineJob:
    """One call of `udfa cine`."""

    input: Path
    """4D file, or Slicer's `.seq.nrrd`."""
    output: Path
    """Folder for the outputs; made if only its parent exists."""
    model: Optional[str] = None
    """Name or path of the checkpoint; None takes CINE_MODEL."""
    device: str = "auto"
    precision: str = "auto"
    batch_size: Optional[int] = None
    cleanup: bool = True
    """Remove small islands where the checkpoint says that it helps."""
    backbone_weights: Optional[Path] = None
    """Local file with the DINOv2 weights."""

    def file(self, ending: str) -> Path:
        """Return an output, such as `heart_volumes.csv` of "volumes.csv"."""
        return self.output / f"{series_name(self.input)}_{ending}"

    @property
    def labelmap(self) -> Path:
        """The 4D labelmap; its JSON lies beside it."""
        return self.file("labels.nii.gz")

    @property
    def volumes(self) -> Path:
        """Volumes per frame."""
        return self.file("volumes.csv")

    @property
    def function(self) -> Path:
        """Ventricular function."""
        return self.file("function.csv")

    @property
    def picture(self) -> Path:
        """Volumes against frames."""
        return self.file("volumes.png")

    def possible_files(self) -> list[Path]:
        """Every file that a run may write."""
        return [self.labelmap, labels_file(self.labelmap), self.volumes, self.function, self.picture]


@dataclass(frozen=True)
class LabelledFrames:
    """The labels of all frames, with the meaning of their values.

    Attributes:
        labelmap: (T, D, H, W); 0 is background.
        series: The frames that were segmented.
        labels: Value to label, for all labels of the model.
        provenance: Where the segmentation comes from, in JSON types.
    """

    labelmap: NDArray[np.uint8]
    series: CineSeries
    labels: Mapping[int, Label]
    provenance: Mapping[str, Any]

    def volumes_ml(self) -> list[dict[str, float]]:
        """Return for each frame the volume in mL of each label, by name."""
        voxel_ml = math.prod(self.series.frames[0].spacing_mm) / 1000
        counts = [voxel_counts(frame) for frame in self.labelmap]
        return [{label.name: int(n[value]) * voxel_ml for value, label in self.labels.items()} for n in counts]


@dataclass(frozen=True)
class CineOutcome:
    """What a finished run reports."""

    series: CineSeries
    function: Optional[CardiacFunction]
    result: SegmentationResult
    files: list[Path]

    def summary(self) -> str:
        """Return the ventricular function, and what was written."""
        lines = [f"{len(self.series.frames)} frames"]
        if self.function is not None:
            lines.append(f"End-diastole: {self.series.title(self.function.end_diastole)}")
            lines.append(f"End-systole: {self.series.title(self.function.end_systole)}")
            for name, value, unit in self.function.measures():
                lines.append(f"{name:<7} " + ("cannot be told" if math.isnan(value) else f"{value:>7.1f} {unit}"))
        lines.append(f"Time: {self.result.seconds:.1f} s ({self.result.plan.describe()})")
        return "\n".join(lines + [f"Written: {path}" for path in self.files])


def run_cine(job: CineJob, messages: Messages) -> CineOutcome:
    """Segment all frames of a series and write the outputs; on failure or interruption nothing is written.

    Raises:
        UDFAError: Something about input, model, options or outputs; found before the network runs wherever possible.
    """
    check_cine_outputs(job)
    info = read_info(resolve_model(job.model or CINE_MODEL))
    messages.note(f"Reading {job.input}")
    series = read_cine(job.input)
    for warning in check_frames(series, info):
        messages.warning(warning)
    note_loading(info, job.backbone_weights, messages)
    result = _segment(job, info, series, messages)
    record = {**provenance(job.input, info, result, None, job.cleanup), "frames": len(series.frames)}
    content = LabelledFrames(result.labelmap, series, chosen_labels(info, None), record)
    volumes = content.volumes_ml()
    function = cardiac_function(volumes)
    for warning in function_warnings(function, content, info):
        messages.warning(warning)
    messages.note("Writing")
    return CineOutcome(series, function, result, _write(job, info, content, volumes, function, messages))


def check_frames(series: CineSeries, info: CheckpointInfo) -> list[str]:
    """Check all frames against what a checkpoint expects.

    Returns:
        The warnings of the first frame that has any, for those of the others say the same.

    Raises:
        InvalidInputError: A frame cannot be segmented; the message tells which.
    """
    warnings: list[str] = []
    for index, volume in enumerate(series.frames):
        try:
            found = check_volume(volume, info.config.preprocessing)
        except InvalidInputError as error:
            raise InvalidInputError(f"In {series.title(index)}: {error}") from error
        warnings = warnings or found
    return warnings


def function_warnings(function: Optional[CardiacFunction], content: LabelledFrames, info: CheckpointInfo) -> list[str]:
    """Return why there is no ventricular function, or which frames it leaves out; empty when all is well."""
    if LEFT_VENTRICLE not in info.config.labels:
        return [f"{info.name} has no label {LEFT_VENTRICLE}: volumes are written, but no ventricular function."]
    if function is None:
        return [
            "The left ventricle was found in fewer than two frames: volumes are written, but no ventricular function. "
            "Check that the model fits the images: see 'udfa models'."
        ]
    if function.without_left:
        numbers = ", ".join(str(index + 1) for index in function.without_left)
        return [
            f"No left ventricle was found in {len(function.without_left)} of {len(content.labelmap)} frames, which are "
            f"left out: {numbers}."
        ]
    return []


def _segment(job: CineJob, info: CheckpointInfo, series: CineSeries, messages: Messages) -> SegmentationResult:
    """Segment frame by frame; the labelmap of the result is (T, D, H, W)."""
    from udfa.devices import make_plan
    from udfa.inference import SegmentationResult, Segmenter, SegmentOptions

    plan = make_plan(job.device, job.batch_size, job.precision)
    segmenter = Segmenter.from_checkpoint(load_checkpoint(info.path, job.backbone_weights), plan)
    count, shape = len(series.frames), series.frames[0].array.shape
    size = " x ".join(str(length) for length in reversed(shape))
    messages.note(f"Segmenting {count} frames of {size} voxels ({plan.describe()})")
    options = SegmentOptions(remove_islands=job.cleanup)
    labelmap = np.zeros((count, *shape), dtype=np.uint8)
    warnings: list[str] = []
    began = time.monotonic()
    for index, volume in enumerate(series.frames):
        found = segmenter.segment(volume, options, _reporter(messages, index, count, began))
        labelmap[index] = found.labelmap
        warnings += [text for text in found.warnings if text not in warnings]
        plan = found.plan
    messages.close_line()
    return SegmentationResult(labelmap, None, plan, time.monotonic() - began, warnings)


def _reporter(messages: Messages, index: int, count: int, began: float) -> ProgressCallback:
    """Return what shows the progress within a frame (from 0) as that of the whole series."""

    def report(state: Progress) -> None:
        if state.message:
            messages.warning(state.message)
            return
        whole = state.of_series(index, count, time.monotonic() - began)
        where = f"frame {index + 1}/{count}, slice {state.done}/{state.total}"
        messages.position(where, whole.done / whole.total, whole.seconds_left)

    return report


def _write(
    job: CineJob,
    info: CheckpointInfo,
    content: LabelledFrames,
    volumes: Sequence[Mapping[str, float]],
    function: Optional[CardiacFunction],
    messages: Messages,
) -> list[Path]:
    """Write every output aside, then give all of them their names. Returns the files."""
    files = [job.labelmap, labels_file(job.labelmap), job.volumes]
    with ExitStack() as stack:
        stack.callback(remove_if_empty, job.output)
        stage_labels(stack, job.labelmap, content)
        write_image(image_of_frames(content.labelmap, content.series), stack.enter_context(written_aside(job.labelmap)))
        write_volumes(volumes, content.series, stack.enter_context(written_aside(job.volumes)))
        if function is not None:
            write_measures(function.measures(), stack.enter_context(written_aside(job.function)))
            files.append(job.function)
        if importlib.util.find_spec("matplotlib") is not None:
            model = f"{info.name}: {info.config.task}, udfa {udfa.__version__}"
            curves = VolumeCurves(volumes, list(content.labels.values()), function, job.input.name, model)
            save_figure(draw_curves(curves), stack.enter_context(written_aside(job.picture)))
            files.append(job.picture)
        else:
            messages.note("There is no picture of the volumes, which needs matplotlib: pip install matplotlib")
    # What an earlier run left there does not belong to these volumes.
    for path in (job.function, job.picture):
        if path not in files:
            path.unlink(missing_ok=True)
    return files


def write_volumes(frames_ml: Sequence[Mapping[str, float]], series: CineSeries, path: Path) -> None:
    """Write a line per frame as CSV: number from 1, index value if there is one, volume in mL of each label."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["frame", "index", *(f"{name}_ml" for name in frames_ml[0])])
        for index, volumes in enumerate(frames_ml):
            writer.writerow([index + 1, series.index_value(index), *(f"{ml:.3f}" for ml in volumes.values())])


def check_cine_outputs(job: CineJob) -> None:
    """Check before the run that every output can be written.

    Raises:
        InvalidInputError: The output is named as a file, a missing or read-only folder, the input in the place of an
            output, or what segmentations must not overwrite either.
    """
    if job.output.name.lower().endswith(OUTPUT_SUFFIXES) and not job.output.is_dir():
        raise InvalidInputError(f"{job.output} is the name of a file, but several are written. Name a folder.")
    files = job.possible_files()
    check_distinct([job.input, *files])
    check_places(job.labelmap, files, [job.output if job.output.exists() else job.output.parent])
    check_not_corrected(job.labelmap)
