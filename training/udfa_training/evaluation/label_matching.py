"""Which labels of data and predictions can be compared: those of the same name, whatever their values are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional

from udfa.errors import InvalidInputError
from udfa_training.evaluation.sources import PredictionSource


@dataclass(frozen=True)
class LabelTable:
    """Labels that data and predictions share."""

    names: tuple[str, ...]
    """In the order of the tables."""
    reference_values: tuple[int, ...]
    left_out: tuple[str, ...]
    """Labels that are not evaluated, by reason: "reason: label, label"; empty when all are."""


def match_labels(
    data_labels: Sequence[str],
    sources: Sequence[PredictionSource],
    wanted: Optional[Sequence[str]] = None,
    preferred: Sequence[str] = (),
) -> LabelTable:
    """Match labels by name, whatever their values are on either side.

    Args:
        data_labels: Names of labels 1..K of the references.
        sources: All must have a label for it to be evaluated.
        wanted: Labels that the user asks for; None takes all that are shared.
        preferred: Taken instead of all when every one of them is shared and the user asks for none.

    Raises:
        InvalidInputError: A wanted label is not shared, or none is.
    """
    shared = [name for name in data_labels if all(name in source.values for source in sources)]
    if not shared:
        sides = "; ".join(f"{source.name} has {', '.join(source.values)}" for source in sources)
        raise InvalidInputError(f"Data and predictions share no label. The data has {', '.join(data_labels)}; {sides}.")
    chosen = list(wanted or (preferred if preferred and set(preferred) <= set(shared) else shared))
    unknown = [name for name in chosen if name not in shared]
    if unknown:
        raise InvalidInputError(f"No label {', '.join(map(repr, unknown))} to compare. There are: {', '.join(shared)}.")
    if len(set(chosen)) < len(chosen):
        raise InvalidInputError(f"A label is named twice: {', '.join(chosen)}.")
    reasons = _one_sided(data_labels, sources)
    not_chosen = "not chosen" if wanted else "not of this protocol"
    reasons += [(not_chosen, name) for name in shared if name not in chosen]
    values = tuple(data_labels.index(name) + 1 for name in chosen)
    return LabelTable(tuple(chosen), values, _grouped(reasons))


def _one_sided(data_labels: Sequence[str], sources: Sequence[PredictionSource]) -> list[tuple[str, str]]:
    """Labels that the data or a source lacks: (reason, label)."""
    reasons = []
    for name in data_labels:
        lacking = [source.name for source in sources if name not in source.values]
        if lacking:
            reasons.append((f"not in {', '.join(lacking)}", name))
    predicted = dict.fromkeys(name for source in sources for name in source.values)
    return reasons + [("not in the data", name) for name in predicted if name not in data_labels]


def _grouped(reasons: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    """(reason, label) pairs -> "reason: label, label"."""
    groups: dict[str, list[str]] = {}
    for reason, name in reasons:
        groups.setdefault(reason, []).append(name)
    return tuple(f"{reason}: {', '.join(names)}" for reason, names in groups.items())
