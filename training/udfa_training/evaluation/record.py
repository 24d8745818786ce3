"""Everything that an evaluation found, as CSV rows and as one JSON document."""

from __future__ import annotations

import csv
import json
import math
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Optional

import udfa
from udfa_training.dataset import MANIFEST, PreparedData
from udfa_training.evaluation.comparison import Difference, compare
from udfa_training.evaluation.label_matching import LabelTable
from udfa_training.evaluation.protocols import METRICS
from udfa_training.evaluation.run import Rules, SourceResult
from udfa_training.evaluation.statistics import FEW_PATIENTS, Bootstrap, Summary, summarise
from udfa_training.publish import commit

FORMAT = "udfa-evaluation"
FORMAT_VERSION = 1

PACKAGES = ("numpy", "scipy", "torch", "monai", "SimpleITK", "timm")
"""Distributions whose versions are recorded."""

CSV_COLUMNS = (
    "source",
    "case",
    "patient",
    "label",
    "dice",
    "hd95",
    "nsd",
    "unit",
    "tolerance",
    "reference_voxels",
    "predicted_voxels",
    "reference_ml",
    "predicted_ml",
    "protocol",
)


@dataclass(frozen=True)
class Evaluation:
    """An evaluation with its settings."""

    data: PreparedData
    split: str
    labels: LabelTable
    rules: Rules
    bootstrap: Bootstrap
    results: Sequence[SourceResult]
    """One, or two to be compared: first minus second."""
    command: Sequence[str] = ()
    """Arguments of the command line."""
    _summaries: dict[tuple[int, str], Summary] = field(default_factory=dict)

    def summary(self, metric: str, number: int = 0) -> Summary:
        """Return means with intervals of one metric of one result."""
        if (number, metric) not in self._summaries:
            result = self.results[number]
            self._summaries[number, metric] = summarise(result.table(metric), result.patients, self.bootstrap)
        return self._summaries[number, metric]

    def differences(self) -> dict[str, list[Difference]]:
        """Return the paired differences of each metric; empty with one result."""
        return compare(self.results[0], self.results[1], self.bootstrap) if len(self.results) == 2 else {}

    @property
    def patients(self) -> int:
        """Number of patients."""
        return len(set(self.results[0].patients))

    @property
    def extent(self) -> str:
        """How many cases and patients there are, in words."""
        cases = len(self.results[0].cases)
        return f"{cases} case{'s' * (cases != 1)} of {self.patients} patient{'s' * (self.patients != 1)}"

    def notes(self) -> list[str]:
        """Return what a reader of the figures must know, in plain words."""
        unit, rules = self.rules.unit, self.rules
        notes = [f"Protocol '{rules.protocol.name}': {rules.protocol.description}"]
        if not rules.spacing_known:
            notes.append("The spacing is unknown: distances, the tolerance of NSD and volumes are in voxels.")
        elif rules.protocol.ignores_spacing:
            notes.append("HD95 in voxels depends on the size of the voxels: compare it on grids of the same size only.")
        if math.isfinite(self.summary("nsd").overall.mean):
            notes.append(f"NSD at {rules.tolerance:g} {unit}.")
        notes.append(self._interval_note())
        notes += [note for result in self.results if (note := _seen_note(result))]
        if self.labels.left_out:
            notes.append(f"Labels left out: {'; '.join(self.labels.left_out)}.")
        return notes

    def _interval_note(self) -> str:
        if self.patients == 1:
            return "One patient: there are no intervals."
        share, draws = f"{self.bootstrap.confidence:.0%}", f"{self.bootstrap.resamples:,}"
        note = f"Intervals: {share}, bootstrap over {self.patients} patients ({draws} resamples)."
        few = " With so few patients they are too narrow: take them as a rough guide."
        return note + (few if self.patients < FEW_PATIENTS else "")


def _seen_note(result: SourceResult) -> str:
    """Say that a checkpoint was trained on some of the patients; "" if its record names none of them."""
    facts = result.source.facts()
    seen = sorted(set(facts.get("training_patients", ())) & set(result.patients))
    if not seen:
        return ""
    return (
        f"{result.source.name} was trained on '{facts['trained_on']}' with patients of these names: "
        f"{', '.join(seen)}. If they are the same patients, its scores are too good."
    )


def write_csv(path: Path, evaluation: Evaluation) -> None:
    """Write a row per source, case and organ; empty: undefined or unknown, inf: infinite."""
    rules = evaluation.rules
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, CSV_COLUMNS)
        writer.writeheader()
        for result in evaluation.results:
            for case in result.cases:
                for label, organ in case.organs.items():
                    measured = {**asdict(organ.scores), **asdict(organ)}
                    row = {name: _cell(measured[name]) for name in CSV_COLUMNS if name in measured}
                    row |= {"source": result.source.name, "case": case.name, "patient": case.patient, "label": label}
                    row |= {"unit": rules.unit, "tolerance": f"{rules.tolerance:g}", "protocol": rules.protocol.name}
                    writer.writerow(row)


def _cell(value: float) -> str:
    if isinstance(value, int):
        return str(value)
    return "" if math.isnan(value) else f"{value:.6g}"


def write_json(path: Path, evaluation: Evaluation) -> None:
    """Write the document; NaN becomes null, and infinity the text "inf"."""
    path.write_text(json.dumps(document(evaluation), indent=1, allow_nan=False) + "\n", encoding="utf-8")


def document(evaluation: Evaluation) -> dict[str, Any]:
    """Return everything about an evaluation in JSON types. `cases` and `summary` are those of the first source."""
    rules, first = evaluation.rules, evaluation.results[0]
    record: dict[str, Any] = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": list(evaluation.command),
        "versions": versions(),
        "data": _data_facts(evaluation),
        "labels": list(evaluation.labels.names),
        "left_out": list(evaluation.labels.left_out),
        "protocol": {"name": rules.protocol.name, "description": rules.protocol.description},
        "unit": rules.unit,
        "tolerance": rules.tolerance,
        "bootstrap": asdict(evaluation.bootstrap),
        "notes": evaluation.notes(),
        "mean_dice": evaluation.summary("dice").overall.mean,
        **_result_facts(evaluation, 0),
    }
    if len(evaluation.results) > 1:
        record["against"] = _result_facts(evaluation, 1)
        record["differences"] = {
            "meaning": f"{first.source.name} minus {evaluation.results[1].source.name}",
            **{metric: [_difference(row) for row in rows] for metric, rows in evaluation.differences().items()},
        }
    plain: dict[str, Any] = _plain(record)
    return plain


def _data_facts(evaluation: Evaluation) -> dict[str, Any]:
    manifest = json.loads((evaluation.data.folder / MANIFEST).read_text(encoding="utf-8"))
    count = len(evaluation.results[0].cases)
    name = manifest.get("name", evaluation.data.folder.name)
    return {"name": name, "split": evaluation.split, "cases": count, "patients": evaluation.patients}


def _result_facts(evaluation: Evaluation, number: int) -> dict[str, Any]:
    result = evaluation.results[number]
    summaries = {metric: evaluation.summary(metric, number) for metric in METRICS}
    return {
        "source": result.source.facts(),
        "summary": {
            metric: {
                "labels": {name: asdict(row) for name, row in zip(result.labels, summary.labels)},
                "mean": asdict(summary.overall),
            }
            for metric, summary in summaries.items()
        },
        "cases": {
            case.name: {name: {**asdict(organ.scores), **_sizes(asdict(organ))} for name, organ in case.organs.items()}
            for case in result.cases
        },
    }


def _sizes(organ: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in organ.items() if name != "scores"}


def _difference(row: Difference) -> dict[str, Any]:
    return {
        "label": row.label,
        **asdict(row.estimate),
        "p_value": row.test.p_value,
        "p_holm": row.p_corrected,
        "remark": row.test.remark,
    }


def versions() -> dict[str, Optional[str]]:
    """Return the versions of what took part, and the commit of the code."""
    found: dict[str, Optional[str]] = {
        "udfa": udfa.__version__,
        "commit": commit(),
        "python": platform.python_version(),
    }
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def _plain(value: Any) -> Any:
    """Replace what JSON lacks: NaN by None, infinity by "inf"."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else "inf"
    return value
