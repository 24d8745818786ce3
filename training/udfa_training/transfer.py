"""Taking over a checkpoint's weights, also into a network with other labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from udfa.checkpoint import Checkpoint
from udfa.errors import InvalidInputError
from udfa.networks.prompt import PROMPT_MAPS
from udfa.networks.udfa import UDFA

CLASS_ROWS = ("decoder.head.", "decoder.auxiliary_heads.", "prompt_encoder.to_output.")
"""Weights with rows of output channels for each class."""

PROMPT_ENCODER = "prompt_encoder."

PROMPT_INPUT = "prompt_encoder.down.0.0.weight"
"""Weight with columns of input channels for each class: PROMPT_MAPS times K maps."""


@dataclass(frozen=True)
class Transfer:
    """What a run took over from the checkpoint it started from."""

    kept: tuple[str, ...]
    """Labels whose rows of the heads were taken over."""
    fresh: tuple[str, ...]
    """Labels that begin with random rows."""
    left_out: tuple[str, ...]
    """Labels of the checkpoint that the new model lacks."""
    prompt_encoder: str
    """none, kept, fresh or left out."""

    def describe(self) -> str:
        """Return it as a sentence or two."""
        if not self.fresh and not self.left_out:
            heads = "All weights were taken over."
        else:
            heads = (
                f"The labels differ: rows of the heads kept for {_listing(self.kept)}; fresh for "
                f"{_listing(self.fresh)}; left out {_listing(self.left_out)}. All other weights were taken over."
            )
        prompt = {"fresh": " The prompt encoder is fresh.", "left out": " The prompt encoder was left out."}
        return heads + prompt.get(self.prompt_encoder, "")

    def record(self) -> dict[str, Any]:
        """Return it for the training history of a checkpoint."""
        return {
            "labels_kept": list(self.kept),
            "labels_fresh": list(self.fresh),
            "labels_left_out": list(self.left_out),
            "prompt_encoder": self.prompt_encoder,
        }


def _listing(names: tuple[str, ...]) -> str:
    return ", ".join(names) or "none"


def take_over(network: UDFA, labels: tuple[str, ...], source: Checkpoint) -> Transfer:
    """Copy a checkpoint's weights into a network, in place.

    Rows and columns of a class are found by the label's name; those of new labels stay as they were. A prompt encoder
    that the checkpoint lacks, or has in another shape, stays as it was; one that the network lacks is left out.

    Args:
        network: The new network.
        labels: Names of its labels 1..K.
        source: The checkpoint.

    Raises:
        InvalidInputError: The networks differ in more than labels and prompt encoder.
    """
    own, given = network.state_dict(), source.network.state_dict()
    places = class_places(labels, source.info.config.labels)
    classes = (len(labels) + 1, len(source.info.config.labels) + 1)
    fitted = {key: _fitted(key, own[key], given[key], places, classes) for key in own.keys() & given.keys()}
    misfits = {key for key, value in fitted.items() if value is None} | (own.keys() ^ given.keys())
    other_prompt_encoder = any(key.startswith(PROMPT_ENCODER) for key in misfits)
    misfits = {key for key in misfits if not key.startswith(PROMPT_ENCODER)}
    if misfits:
        raise InvalidInputError(
            f"{source.info.path} does not fit model.network: {len(misfits)} weights differ: {sorted(misfits)[:3]}."
        )
    taken = {
        key: value
        for key, value in fitted.items()
        if value is not None and not (other_prompt_encoder and key.startswith(PROMPT_ENCODER))
    }
    network.load_state_dict({**own, **taken})
    known = source.info.config.labels
    return Transfer(
        tuple(name for name in labels if name in known),
        tuple(name for name in labels if name not in known),
        tuple(name for name in known if name not in labels),
        _prompt_encoder(PROMPT_INPUT in own, PROMPT_INPUT in given, other_prompt_encoder),
    )


def class_places(labels: tuple[str, ...], source: tuple[str, ...]) -> list[tuple[int, int]]:
    """Return (class here, class there) of the background and of all labels with the same name."""
    return [(0, 0)] + [(i, source.index(name) + 1) for i, name in enumerate(labels, start=1) if name in source]


def _fitted(
    key: str, own: Tensor, given: Tensor, places: list[tuple[int, int]], classes: tuple[int, int]
) -> Tensor | None:
    """The given weight in the shape of the own one; None when that cannot be."""
    here, there = classes
    if key.startswith(CLASS_ROWS):
        rows = own.shape[0] // here
        pairs = [(h * rows + i, t * rows + i) for h, t in places for i in range(rows)]
        if (own.shape[0], given.shape[0]) != (rows * here, rows * there) or own.shape[1:] != given.shape[1:]:
            return None
        return _with(own, given, 0, pairs)
    if key == PROMPT_INPUT:
        pairs = [(block * here + h, block * there + t) for block in range(PROMPT_MAPS) for h, t in places]
        if given.shape != (own.shape[0], PROMPT_MAPS * there, *own.shape[2:]):
            return None
        return _with(own, given, 1, pairs)
    return given if given.shape == own.shape else None


def _with(own: Tensor, given: Tensor, axis: int, pairs: list[tuple[int, int]]) -> Tensor:
    """Own weight with the given slices along an axis; pairs are (index here, index there)."""
    here, there = (torch.tensor(indices) for indices in zip(*pairs))
    return own.clone().index_copy_(axis, here, given.index_select(axis, there))


def _prompt_encoder(here: bool, there: bool, misfit: bool) -> str:
    if here:
        return "kept" if there and not misfit else "fresh"
    return "left out" if there else "none"
