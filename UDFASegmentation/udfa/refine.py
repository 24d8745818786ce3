"""What `udfa refine` does: correct a stored segmentation by clicks, and write all outputs or none.

The headless counterpart of the Segment Editor effect: the same session, the same rules, the same record.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Optional

import numpy as np
from numpy.typing import NDArray

from udfa.audit import Audit, EditRecord, ModelReference, ijk_to_ras, read_audit
from udfa.checkpoint import CheckpointInfo, load_checkpoint, read_info
from udfa.checks import check_volume
from udfa.config import DEFAULT_CARRY_SLICES
from udfa.errors import InvalidInputError
from udfa.geometry import Volume
from udfa.kept_segments import Composition, compose
from udfa.messages import Messages
from udfa.models import list_models, resolve_model
from udfa.origin import origin
from udfa.output_names import LABELMAP_SUFFIXES, labels_file, record_beside, split_name
from udfa.segment_command import check_distinct, check_labels, check_places
from udfa.segmentation_file import LabelledVolume, stage_segmentation
from udfa.segmentation_reader import Segmentation, read_segmentation
from udfa.volume_io import read_volume, written_aside

if TYPE_CHECKING:
    from udfa.interaction import CorrectionSession, SessionOptions


@dataclass(frozen=True)
class ClickRequest:
    """One click as the user gives it.

    Attributes:
        place: x, y, z: RAS in mm, or voxel indices I, J, K.
        label: Name of the label.
        positive: The place belongs to the label, or does not.
    """

    place: tuple[float, float, float]
    label: str
    positive: bool


@dataclass(frozen=True)
class RefineJob:
    """One call of `udfa refine`."""

    input: Path
    """Volume file or DICOM folder."""
    segmentation: Path
    """`.seg.nrrd`, or a labelmap with its JSON."""
    output: Path
    """`.seg.nrrd`, or a labelmap `.nii.gz` or `.nrrd`; may be the segmentation itself."""
    clicks: tuple[ClickRequest, ...]
    coordinates: Literal["ras", "ijk"] = "ras"
    lock: tuple[str, ...] = ()
    """Names of the labels that must not change."""
    carry: int = DEFAULT_CARRY_SLICES
    """How many slices up and down a correction may be carried."""
    audit: Optional[Path] = None
    """Where to write the record; None puts it beside the output."""
    model: Optional[str] = None
    device: str = "auto"
    precision: str = "auto"
    backbone_weights: Optional[Path] = None

    def audit_file(self) -> Path:
        """Where the record goes."""
        return self.audit or record_beside(self.output)

    def output_files(self) -> list[Path]:
        """Every file that the run will write."""
        labels = [labels_file(self.output)] if split_name(self.output)[1] in LABELMAP_SUFFIXES else []
        return [self.output, *labels, self.audit_file()]


@dataclass(frozen=True)
class RefineOutcome:
    """What a finished run reports."""

    edits: list[EditRecord]
    files: list[Path]

    def summary(self) -> str:
        """Return a line per click, and what was written."""
        lines = []
        for edit in self.edits:
            effect = ", ".join(f"{name} {e.voxels:+,} ({e.ml:+.2f} mL)" for name, e in edit.effect.items())
            text = effect or edit.note.rstrip(".")
            slices = f" in {len(edit.slices)} slice{'s' if len(edit.slices) > 1 else ''}" if edit.slices else ""
            lines.append(f"{edit.number}: {edit.sign}{edit.label}: {text}{slices}, {edit.seconds * 1000:.0f} ms")
        return "\n".join(lines + [f"Written: {path}" for path in self.files])


def run_refine(job: RefineJob, messages: Messages) -> RefineOutcome:
    """Correct a segmentation and write the outputs; on failure or interruption nothing is written.

    Raises:
        UDFAError: Something about the files, the model, the clicks or the options.
    """
    check_job(job)
    segmentation = read_segmentation(job.segmentation)
    info = read_info(resolve_model(job.model or model_that_made(segmentation)))
    check_distinct([info.path, job.audit_file()])
    locked = values_of(job.lock, info)
    values = values_of([click.label for click in job.clicks], info)
    if info.config.network.prompt_channels is None:
        raise InvalidInputError(f"{info.name} takes no clicks: it has no prompt encoder. Choose another with --model.")
    messages.note(f"Reading {job.input} and {job.segmentation}")
    volume = read_volume(job.input)
    for warning in check_volume(volume, info.config.preprocessing):
        messages.warning(warning)
    positions = [voxel_of(click.place, job.coordinates, volume) for click in job.clicks]
    if (maker := made_by_another(segmentation, info)) is not None:
        messages.warning(
            f"The segmentation was made by {maker}, but {info.name} answers the clicks. Give that model with --model."
        )
    composition = compose(segmentation, volume, info.labels)
    messages.note(f"Loading {info.name} ({info.config.task})")
    session, audit = open_session(job, info, volume, composition.labelmap)
    audit.edits.extend(earlier_edits(job, audit))
    earlier = len(audit.edits)
    session.lock(locked)
    for click, position, value in zip(job.clicks, positions, values):
        edit = session.click(position, value, click.positive)
        if not edit.changed_voxels:
            messages.warning(f"click {len(audit.edits)} changes nothing. {edit.note}")
    write_outputs(job, session, composition, provenance(job, info, segmentation, audit))
    return RefineOutcome(audit.edits[earlier:], job.output_files())


def recorded_checkpoint(segmentation: Segmentation) -> Mapping[str, Any] | None:
    """Return what a segmentation records of the checkpoint that made it; None if nothing."""
    found = segmentation.provenance.get("checkpoint")
    return found if isinstance(found, Mapping) else None


def model_that_made(segmentation: Segmentation) -> str | None:
    """Return the path of the usable checkpoint of the name that a segmentation records; None without one."""
    checkpoint = recorded_checkpoint(segmentation)
    if checkpoint is None:
        return None
    found = (e.path for e in list_models() if e.info is not None and e.name == checkpoint.get("name"))
    return next(map(str, found), None)


def made_by_another(segmentation: Segmentation, info: CheckpointInfo) -> str | None:
    """Return the name of the checkpoint that made a segmentation; None if it is this one, or the file does not say."""
    checkpoint = recorded_checkpoint(segmentation)
    if checkpoint is None or checkpoint.get("content_sha256") == info.content_sha256:
        return None
    return str(checkpoint.get("name", "another model"))


def open_session(
    job: RefineJob, info: CheckpointInfo, volume: Volume, labelmap: NDArray[np.uint8]
) -> tuple[CorrectionSession, Audit]:
    """Load the checkpoint and start a session that keeps a record."""
    from udfa.devices import make_plan
    from udfa.inference import Segmenter
    from udfa.interaction import CorrectionSession, SessionOptions

    plan = make_plan(job.device, None, job.precision)
    segmenter = Segmenter.from_checkpoint(load_checkpoint(info.path, job.backbone_weights), plan)
    audit = Audit(volume, info.config.labels, ModelReference(info.name, info.content_sha256))
    options: SessionOptions = SessionOptions(carry_slices=job.carry)
    return CorrectionSession(segmenter, volume, labelmap, options, audit), audit


def earlier_edits(job: RefineJob, audit: Audit) -> list[EditRecord]:
    """Return the edits of the record beside the segmentation, which the new record goes on with; none without one.

    Raises:
        InvalidInputError: The new record would overwrite one that it cannot go on with.
    """
    beside = record_beside(job.segmentation)
    if not beside.is_file():
        return []
    try:
        old, new = read_audit(beside.read_text(encoding="utf-8"), str(beside)), read_audit(audit.to_json())
        reason = "" if (old.model, old.image) == (new.model, new.image) else "is about another model or volume"
    except (InvalidInputError, UnicodeDecodeError):
        old, reason = None, "cannot be read"
    if old is not None and not reason:
        return list(old.edits)
    if beside.resolve() == job.audit_file().resolve():
        raise InvalidInputError(
            f"{beside} {reason}, and would be overwritten. Give the new record another name with --audit."
        )
    return []


def check_job(job: RefineJob) -> None:
    """Check before the run that there is a click and that every output can be written.

    Raises:
        InvalidInputError: There is none, or an output cannot be written or would overwrite the image, or what belongs
            to another segmentation.
    """
    if not job.clicks:
        raise InvalidInputError("There is no click. Give at least one, such as --click 10.5,-20,310,liver,+")
    if job.carry < 0:
        raise InvalidInputError(f"The number of slices to carry is {job.carry}, but must be at least 0.")
    files = job.output_files()
    check_distinct([job.input, *files])
    named = split_name(job.segmentation)[1] in LABELMAP_SUFFIXES
    check_distinct([job.segmentation, *([labels_file(job.segmentation)] if named else []), job.audit_file()])
    check_places(job.output, files, {path.parent for path in files})
    record = job.audit_file()
    goes_on = record.resolve() == record_beside(job.segmentation).resolve()
    if job.audit is None and record.is_file() and not (goes_on or job.output.exists()):
        raise InvalidInputError(
            f"{record} is the record of another segmentation, as there is no {job.output.name} yet, and would be "
            f"overwritten. Give the output another name, or the new record with --audit."
        )


def values_of(names: Sequence[str], info: CheckpointInfo) -> list[int]:
    """Return the values of labels by name.

    Raises:
        InvalidInputError: The model lacks one of them.
    """
    check_labels(names, info)
    known = {name: value for value, name in enumerate(info.config.labels, start=1)}
    return [known[name] for name in names]


def voxel_of(
    place: tuple[float, float, float], coordinates: Literal["ras", "ijk"], volume: Volume
) -> tuple[int, int, int]:
    """Return the voxel (D, H, W) that a place lies in.

    Raises:
        InvalidInputError: It is outside the volume, or an index is no whole number.
    """
    ijk = np.asarray(place, dtype=np.float64)
    if coordinates == "ras":
        ijk = (np.linalg.inv(ijk_to_ras(volume)) @ [*place, 1.0])[:3]
    elif not np.array_equal(ijk, np.rint(ijk)):
        raise InvalidInputError(
            f"The indices {place} are no whole numbers. For positions in mm, use --coordinates ras."
        )
    i, j, k = (int(index) for index in np.rint(ijk))
    size = tuple(reversed(volume.array.shape))
    if not all(0 <= index < length for index, length in zip((i, j, k), size)):
        raise InvalidInputError(
            f"The click at {place} ({coordinates.upper()}) is voxel ({i}, {j}, {k}), outside the volume of {size} "
            f"voxels. Check --coordinates (ras: mm, as Slicer's Data Probe shows; ijk: indices from 0)."
        )
    return (k, j, i)


def provenance(job: RefineJob, info: CheckpointInfo, segmentation: Segmentation, audit: Audit) -> dict[str, Any]:
    """Return what is recorded with the result; what was recorded before is kept inside."""
    return {
        **origin(job.input, info),
        "corrections": {
            "segmentation": job.segmentation.name,
            "clicks": len(audit.edits),
            "changed_voxels": sum(edit.changed_voxels for edit in audit.edits),
            "record": job.audit_file().name,
        },
        "before": dict(segmentation.provenance),
    }


def write_outputs(
    job: RefineJob, session: CorrectionSession, composition: Composition, record: Mapping[str, Any]
) -> None:
    """Write segmentation and record; all or nothing."""
    content = LabelledVolume(session.labelmap, composition.reference, composition.labels, record)
    with ExitStack() as stack:
        stage_segmentation(stack, job.output, content)
        if session.audit is not None:
            aside = stack.enter_context(written_aside(job.audit_file()))
            aside.write_text(session.audit.to_json(), encoding="utf-8")
