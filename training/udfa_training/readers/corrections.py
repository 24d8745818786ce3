"""Segmentations that were made or corrected in Slicer: volumes with `.seg.nrrd` files and records of the clicks."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Optional

from udfa.audit import AuditDocument, read_audit
from udfa.errors import InvalidInputError
from udfa.labels import KNOWN_LABELS
from udfa.output_names import AUDIT_SUFFIX, SEGMENTATION_SUFFIX
from udfa.segmentation_reader import Segment, Segmentation, read_segmentation
from udfa.volume_io import VOLUME_SUFFIXES, read_volume
from udfa_training.label_names import canonical_name, numbered, select_names
from udfa_training.manifest import MANIFEST, read_json
from udfa_training.readers.corrections_facts import audit_facts, audit_problem, labels_looked_for
from udfa_training.readers.corrections_grid import labelmap_on
from udfa_training.readers.source import (
    NIFTI_SUFFIX,
    CaseVolumes,
    Fact,
    Form,
    ReaderOptions,
    SourceCase,
    SourceData,
    patients_of,
)

SEPARATORS = " _-."
"""What may follow a volume's name in that of its segmentation, as in `CT-organs.seg.nrrd`."""


@dataclass(frozen=True)
class Correction:
    """The files of a case, and what its segmentation says of itself."""

    name: str
    volume: Path
    segmentation: Path
    segments: dict[str, Segment]
    """Label name to segment."""
    looked_for: frozenset[str]
    """Labels that were looked for, found or not."""
    audit: Optional[AuditDocument]
    facts: dict[str, Fact]


def found_corrections(source: Path) -> bool:
    """Whether there are Slicer segmentations in the folder or in its subfolders."""
    return any(any(source.glob(pattern + SEGMENTATION_SUFFIX)) for pattern in ("*", "*/*"))


def read_corrections(source: Path, options: ReaderOptions) -> SourceData:
    """Describe volumes with segmentations that were made or corrected in Slicer.

    In the folder itself, a segmentation belongs to the volume whose name it has, or whose name it begins with. A
    subfolder holds one case: one volume and one segmentation, whatever their names. The record of the clicks lies
    beside the segmentation as `<its name>.audit.json`. manifest.json may say `modality`, `licence` and `labels`.

    Raises:
        InvalidInputError: Modality or licence are not given, or no segmentation can be read.
    """
    facts = read_json(source / MANIFEST) if (source / MANIFEST).is_file() else {}
    modality, licence = options.modality or facts.get("modality"), options.licence or facts.get("licence")
    if not modality or not licence:
        raise InvalidInputError(
            f"{source}: say what the images are and on what terms weights trained on them may be used: --modality CT "
            f'(or MR) --licence TEXT, or {source / MANIFEST} with {{"modality": "CT", "licence": "..."}}.'
        )
    pairs, problems = _pairs(source)
    cases: list[Correction] = []
    for name, volume, segmentation in pairs:
        try:
            cases.append(_correction(name, volume, segmentation))
        except InvalidInputError as error:
            problems.append(f"{name}: {error}")
    wanted = options.labels or tuple(str(n) for n in facts.get("labels", ()) if canonical_name(str(n)) != "background")
    labels = _labels(cases, wanted)
    problems += _not_looked_for(cases, labels)
    patients, lost = patients_of((case.name for case in cases), options.patient_pattern, lambda n: n.split("_")[0])
    return SourceData(
        source.name,
        "corrections",
        numbered(labels),
        str(licence),
        str(modality),
        tuple(_case(case, patients[case.name], labels, bool(wanted)) for case in cases),
        notes=tuple(_notes(cases, labels)),
        problems=(*problems, *lost),
    )


def _pairs(source: Path) -> tuple[list[tuple[str, Path, Path]], list[str]]:
    """Return (case, volume, segmentation), and what has no partner."""
    pairs, problems = _by_name(source)
    for folder in sorted(path for path in source.iterdir() if path.is_dir()):
        volumes, segmentations = _files(folder)
        if len(volumes) == 1 and len(segmentations) == 1:
            pairs.append((_safe(folder.name), volumes[0], segmentations[0]))
        elif segmentations:
            problems.append(
                f"{folder} has {len(volumes)} volumes and {len(segmentations)} segmentations; a subfolder holds one "
                f"of each. Remove the others."
            )
    return pairs, problems


def _by_name(folder: Path) -> tuple[list[tuple[str, Path, Path]], list[str]]:
    """Pairs in one folder: the volume with the longest name that the segmentation has or begins with."""
    volumes, segmentations = _files(folder)
    taken: dict[Path, list[Path]] = {volume: [] for volume in volumes}
    problems = []
    for segmentation in segmentations:
        stem = segmentation.name[: -len(SEGMENTATION_SUFFIX)]
        fitting = [volume for volume in volumes if _belongs(stem, _stem(volume))]
        if not fitting:
            problems.append(f"{segmentation.name} has no volume whose name it has or begins with.")
            continue
        longest = max(len(_stem(volume)) for volume in fitting)
        best = [volume for volume in fitting if len(_stem(volume)) == longest]
        if len(best) > 1:
            problems.append(f"{segmentation.name} could belong to {_listed(best)}. Remove or rename one.")
        for volume in best:
            taken[volume].append(segmentation)
    for volume, own in taken.items():
        if not own:
            problems.append(f"{volume.name} has no segmentation {_stem(volume)}{SEGMENTATION_SUFFIX}.")
        if len(own) > 1:
            problems.append(f"{volume.name} has {len(own)} segmentations: {_listed(own)}. Keep one.")
    return [(_safe(_stem(volume)), volume, own[0]) for volume, own in taken.items() if len(own) == 1], problems


def _files(folder: Path) -> tuple[list[Path], list[Path]]:
    """Return volumes and segmentations in a folder."""
    files = [path for path in sorted(folder.iterdir()) if path.is_file() and not path.name.startswith(".")]
    segmentations = [path for path in files if path.name.lower().endswith(SEGMENTATION_SUFFIX)]
    volumes = [path for path in files if path.name.lower().endswith(VOLUME_SUFFIXES) and path not in segmentations]
    return volumes, segmentations


def _stem(path: Path) -> str:
    """A file's name without the ending of its kind, such as .nii.gz."""
    suffix = max((s for s in VOLUME_SUFFIXES if path.name.lower().endswith(s)), key=len)
    return path.name[: -len(suffix)]


def _belongs(segmentation: str, volume: str) -> bool:
    rest = segmentation[len(volume) :]
    return segmentation.startswith(volume) and (not rest or rest[0] in SEPARATORS)


def _safe(name: str) -> str:
    """A case name that any file system takes."""
    return re.sub(r"[^\w-]+", "-", name).strip("-")


def _listed(paths: Iterable[Path]) -> str:
    return ", ".join(path.name for path in paths)


def _correction(name: str, volume: Path, file: Path) -> Correction:
    """Read what a segmentation and its record say; the voxels are read later.

    Raises:
        InvalidInputError: The segmentation or its record is damaged, or two segments are the same structure.
    """
    segmentation = read_segmentation(file)
    if not segmentation.segments:
        raise InvalidInputError(f"{file.name} has no segments.")
    beside = file.with_name(file.name[: -len(SEGMENTATION_SUFFIX)] + AUDIT_SUFFIX)
    audit = read_audit(beside.read_text(encoding="utf-8"), beside.name) if beside.is_file() else None
    segments = named_segments(segmentation)
    looked_for = labels_looked_for(segmentation.provenance, audit) | segments.keys()
    facts = {"segmentation": file.name, **audit_facts(segmentation.provenance, audit)}
    return Correction(name, volume, file, segments, frozenset(looked_for), audit, facts)


def named_segments(segmentation: Segmentation) -> dict[str, Segment]:
    """Return label name -> segment: labels this project knows by ID, terminology or name, others by their name.

    Raises:
        InvalidInputError: Two segments are the same structure.
    """
    names = [""] * len(segmentation.segments)
    for label in KNOWN_LABELS.values():
        found = segmentation.find(label)
        if found is not None:
            index = segmentation.segments.index(found)
            names[index] = names[index] or label.name
    names = [name or canonical_name(segment.title) for name, segment in zip(names, segmentation.segments)]
    for name, count in Counter(names).items():
        if count > 1:
            titles = [segment.title for own, segment in zip(names, segmentation.segments) if own == name]
            raise InvalidInputError(f"The segments {titles} are all {name}. Merge them, or remove those not wanted.")
    return dict(zip(names, segmentation.segments))


def _labels(cases: Sequence[Correction], wanted: Sequence[str]) -> tuple[str, ...]:
    """Labels of the result: the wanted ones, or all segments, known ones first and then by name."""
    present = {name for case in cases for name in case.segments}
    if wanted:
        return select_names(sorted(present.union(*(case.looked_for for case in cases))), wanted)
    return (*(name for name in KNOWN_LABELS if name in present), *sorted(present - set(KNOWN_LABELS)))


def _not_looked_for(cases: Sequence[Correction], labels: Sequence[str]) -> list[str]:
    """Cases in which a label may be there, but nobody segmented it: its voxels would count as background."""
    problems = []
    for case in cases:
        missing = [name for name in labels if name not in case.looked_for]
        if missing:
            problems.append(
                f"{case.name}: {case.segmentation.name} has no segments for {', '.join(missing)}. Segment them; if "
                f"they are not in the image, add empty segments of these names; or leave these labels out with "
                f"--labels."
            )
    return problems


def _case(case: Correction, patient: str, labels: Sequence[str], ordered: bool) -> SourceCase:
    """Return a case; segments that overlap are refused unless the order of the labels was given."""
    found = SourceCase(
        case.name,
        patient,
        "train",
        partial(_read, case, tuple(labels), ordered),
        case.volume if case.volume.name.endswith(NIFTI_SUFFIX) else None,
    )
    return replace(found, facts=case.facts)


def _read(case: Correction, labels: tuple[str, ...], ordered: bool) -> CaseVolumes:
    volume, segmentation = read_volume(case.volume), read_segmentation(case.segmentation)
    if case.audit is not None and (problem := audit_problem(case.audit, volume)):
        raise InvalidInputError(problem)
    segments = {value: case.segments[name] for value, name in enumerate(labels, start=1) if name in case.segments}
    return CaseVolumes(volume, replace(volume, array=labelmap_on(volume, segmentation, segments, ordered)))


def _notes(cases: Sequence[Correction], labels: Sequence[str]) -> list[str]:
    """What a reader of the manifest should know."""
    notes = []
    unrecorded = [case.name for case in cases if case.audit is None]
    if unrecorded:
        notes.append(f"No record of clicks for {', '.join(unrecorded)}: the segmentations are taken as they are.")
    lacking = [(case.name, [name for name in labels if name not in case.segments]) for case in cases]
    absent = [f"{name} ({', '.join(without)})" for name, without in lacking if without]
    if absent:
        notes.append(
            f"No segment, and so taken as not there, since the model knows them: {'; '.join(absent)}. If the model was "
            f"not asked for them, segment them or leave them out with --labels."
        )
    others = sorted({name for case in cases for name in case.segments} - set(labels))
    if others:
        notes.append(f"Segments that count as background: {', '.join(others)}.")
    return notes


FORMS = (
    Form(
        "corrections",
        "volumes with Slicer's segmentations: <case>.nrrd and <case>.seg.nrrd, or a subfolder for each case",
        found_corrections,
        read_corrections,
    ),
)
