"""What fits badly in a run, but may be meant: said as a warning, with what to do."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from udfa_training.dataset import PreparedData
from udfa_training.fit_config import FitConfig
from udfa_training.manifest import MANIFEST, read_json

logger = logging.getLogger(__name__)

UNLIKE = frozenset({"ventricle", "atrium"})
"""Parts of the heart have a left and a right one that do not look alike, mirrored or not."""


def other_labels(data: Sequence[str], model: Sequence[str]) -> str:
    """Return the message for a data set that has other labels than the model, or the same in another order."""
    if set(model) <= set(data):
        advice = f"Prepare the data with --labels {','.join(model)}, or set model.labels and model.network.num_classes."
    else:
        advice = "Set model.labels and model.network.num_classes, or start from a checkpoint with --init and no model."
    return f"The data have labels {', '.join(data)}, but the model {', '.join(model)}. They must agree. {advice}"


def warn_of_misfits(data: PreparedData, config: FitConfig) -> None:
    """Warn when data and settings of a run do not go together."""
    _warn_of_other_images(data, config)
    _warn_of_flips(config)
    if config.warmup_steps >= config.steps:
        logger.warning(
            "warmup_steps is %d, but the run has %d steps: the learning rate never falls. Set warmup_steps to a tenth "
            "of the steps or so.",
            *(config.warmup_steps, config.steps),
        )


def _warn_of_other_images(data: PreparedData, config: FitConfig) -> None:
    expected = config.model.preprocessing
    modality = read_json(data.folder / MANIFEST).get("modality", expected.modality)
    if modality != expected.modality:
        logger.warning(
            "%s holds %s images, but the preprocessing is for %s. Set model.preprocessing, or start from another "
            "checkpoint.",
            *(data.folder, modality, expected.modality),
        )
    if expected.in_plane_spacing_mm is not None and not all(case.spacing_known for case in data.cases):
        logger.warning(
            "The spacing of cases in %s is not known: set model.preprocessing.in_plane_spacing_mm to null.", data.folder
        )


def _warn_of_flips(config: FitConfig) -> None:
    pairs = mirrored_pairs(config.model.labels)
    if config.augment.flip_probability and pairs:
        left, right = pairs[0]
        logger.warning(
            "augment.flip_probability is %g, but a flipped %s looks like a %s and keeps its name. Set it to 0, unless "
            "the orientation of the images is not known.",
            *(config.augment.flip_probability, left, right),
        )


def mirrored_pairs(labels: Collection[str]) -> list[tuple[str, str]]:
    """Return the labels of which there is a left and a right one that a flip turns into each other."""
    pairs = []
    for name in labels:
        words = re.split(r"[_\s-]+", name)
        other = re.sub(r"left", "right", name)
        if "left" in words and other in labels and not UNLIKE & set(words):
            pairs.append((name, other))
    return pairs


def warn_of_seen_patients(name: str, training: Mapping[str, Any], data: PreparedData) -> None:
    """Warn when a run validates on patients that the weights it starts from were trained on, by their record."""
    seen = seen_patients(training, [case.patient for case in data.split("val")])
    if seen:
        logger.warning(
            "%s was trained on patients of these names, on which this run validates: %s. If they are the same "
            "patients, the measured Dice is too good: hold out those that it did not see (%s).",
            *(name, ", ".join(seen), ", ".join(training.get("validation", [])) or "none is recorded"),
        )


def seen_patients(training: Mapping[str, Any], patients: Sequence[str]) -> list[str]:
    """Return the patients whom a checkpoint's record counts among those it was trained on."""
    return sorted(set(learnt_patients(training)) & set(patients))


def learnt_patients(training: Mapping[str, Any]) -> list[str]:
    """Return all patients whom a checkpoint's record names: of its last run, and of the runs before it."""
    return sorted({*training.get("train", ()), *training.get("trained_before", ())})
