"""Results as Markdown tables, for the terminal and for documents."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Optional

from udfa_training.evaluation.comparison import OVERALL, Difference
from udfa_training.evaluation.protocols import METRICS
from udfa_training.evaluation.record import Evaluation
from udfa_training.evaluation.run import CaseResult
from udfa_training.evaluation.statistics import FEW_PATIENTS, Estimate

DECIMALS = {"dice": 3, "hd95": 2, "nsd": 3}
TITLES = {"dice": "Dice", "hd95": "HD95", "nsd": "NSD"}


def case_line(case: CaseResult) -> str:
    """Return one line with the Dice of each organ."""
    return f"{case.name} " + " ".join(f"{name}={organ.scores.dice:.3f}" for name, organ in case.organs.items())


def summary_table(evaluation: Evaluation, number: int = 0) -> str:
    """Return a Markdown table of means with intervals: a row per label, the mean over labels last."""
    metrics = [metric for metric in METRICS if not math.isnan(evaluation.summary(metric, number).overall.mean)]
    rows = []
    for index, name in enumerate(evaluation.labels.names):
        estimates = [evaluation.summary(metric, number).labels[index] for metric in metrics]
        rows.append([name, *(_estimate(e, m) for e, m in zip(estimates, metrics)), str(_counted(estimates))])
    overall = [evaluation.summary(metric, number).overall for metric in metrics]
    label = f"mean over {len(evaluation.labels.names)} labels"
    rows.append([label, *(_estimate(e, m) for e, m in zip(overall, metrics)), str(_counted(overall))])
    titles = [_title(evaluation, metric) for metric in metrics]
    return markdown(["label", *titles, "cases"], rows)


def difference_table(evaluation: Evaluation, metric: str, rows: Sequence[Difference]) -> str:
    """Return a Markdown table of paired differences of one metric."""
    cells = []
    for row in rows:
        label = f"mean over {len(rows) - 1} labels" if row.label == OVERALL else row.label
        p = f"too few ({row.test.differing})" if row.test.p_value is None else _p_value(row.test.p_value)
        estimate = _estimate(row.estimate, metric, sign="+")
        cells.append([label, estimate, p, _p_value(row.p_corrected), str(row.estimate.patients)])
    first, second = (result.source.name for result in evaluation.results)
    title = f"{_title(evaluation, metric)}: {first} minus {second}"
    return markdown(["label", title, "Wilcoxon p", "p (Holm)", "patients"], cells)


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table with columns of even width."""
    widths = [max(len(line[column]) for line in [header, *rows]) for column in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths)) + " |"

    return "\n".join([line(header), "|" + "|".join("-" * (width + 2) for width in widths) + "|", *map(line, rows)])


def report(evaluation: Evaluation) -> str:
    """Return all tables and notes as Markdown."""
    parts = [f"{evaluation.extent}: split '{evaluation.split}' of {evaluation.data.folder.name}."]
    for number, result in enumerate(evaluation.results):
        parts += [f"## {result.source.name}", summary_table(evaluation, number)]
    for metric, rows in evaluation.differences().items():
        if any(row.estimate.cases for row in rows):
            parts += [f"## Differences: {TITLES[metric]}", difference_table(evaluation, metric, rows)]
    notes = evaluation.notes()
    if len(evaluation.results) > 1:
        notes.append(
            f"too few (n): n patients differ, and with fewer than {FEW_PATIENTS} no difference could reach p < 0.05."
        )
    return "\n\n".join([*parts, "\n".join(f"- {note}" for note in notes)])


def _title(evaluation: Evaluation, metric: str) -> str:
    extent = {
        "hd95": f" ({evaluation.rules.unit})",
        "nsd": f" ({evaluation.rules.tolerance:g} {evaluation.rules.unit})",
    }
    return TITLES[metric] + extent.get(metric, "")


def _estimate(estimate: Estimate, metric: str, sign: str = "") -> str:
    form = f"{sign}.{DECIMALS[metric]}f"
    if math.isnan(estimate.mean):
        text = "-"
    elif math.isnan(estimate.low):
        text = f"{estimate.mean:{form}}"
    else:
        text = f"{estimate.mean:{form}} [{estimate.low:{form}}, {estimate.high:{form}}]"
    return text + (f" ({estimate.infinite} infinite)" if estimate.infinite else "")


def _counted(estimates: Sequence[Estimate]) -> int:
    return max((estimate.cases for estimate in estimates), default=0)


def _p_value(p_value: Optional[float]) -> str:
    if p_value is None:
        return "-"
    return "< 0.001" if p_value < 0.001 else f"{p_value:.3f}"
