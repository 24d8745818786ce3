"""Distances between the surfaces of two masks.

Boundaries and distances are MONAI's. Two definitions of the 95th percentile Hausdorff distance are in use: the larger
of the two directed percentiles (MONAI), and the percentile of the distances of both directions together (medpy). Both
are here, under names that tell them apart.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from monai.metrics import compute_hausdorff_distance, compute_surface_dice, get_mask_edges, get_surface_distance
from numpy.typing import NDArray

from udfa.postprocessing import label_box

Mask = NDArray[np.bool_]


def hd95(prediction: Mask, reference: Mask, spacing: Sequence[float]) -> float:
    """95th percentile Hausdorff distance: the larger of the two directed 95th percentiles.

    Boundary voxels are those of a mask with a face neighbour outside it; distances run between their centres.

    Args:
        prediction: (D, H, W), not empty.
        reference: (D, H, W), not empty.
        spacing: Voxel size along (D, H, W); the result has its unit.
    """
    with _without_deprecation_warnings():
        masks = _cropped_tensors(prediction, reference)
        return float(compute_hausdorff_distance(*masks, **_options(spacing), percentile=95))


def pooled_hd95(prediction: Mask, reference: Mask, spacing: Sequence[float]) -> float:
    """95th percentile of the boundary distances of both directions together; arguments as in `hd95`."""
    edges = get_mask_edges(*_cropped(prediction, reference))
    forth = get_surface_distance(edges[0], edges[1], spacing=list(spacing))
    back = get_surface_distance(edges[1], edges[0], spacing=list(spacing))
    return float(np.percentile(np.concatenate([forth, back]).astype(np.float64), 95))


def surface_dice(prediction: Mask, reference: Mask, spacing: Sequence[float], tolerance: float) -> float:
    """Normalised surface Dice (NSD): the share of both surfaces that lies within `tolerance` of the other one.

    Surface elements lie between voxels and are weighted by their area, as Nikolov et al. define it (arXiv 1809.04430),
    so that thick slices count as what they are.

    Args:
        prediction: (D, H, W), not empty.
        reference: (D, H, W), not empty.
        spacing: Voxel size along (D, H, W).
        tolerance: In the unit of the spacing.
    """
    with _without_deprecation_warnings():
        masks = _cropped_tensors(prediction, reference)
        return float(compute_surface_dice(*masks, [tolerance], **_options(spacing), use_subvoxels=True))


@contextmanager
def _without_deprecation_warnings() -> Iterator[None]:
    """MONAI 1.5 and 1.6 warn of an argument that they pass themselves."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*always_return_as_numpy.*", FutureWarning)
        yield


def _options(spacing: Sequence[float]) -> dict[str, object]:
    return {"include_background": True, "spacing": [float(length) for length in spacing]}


def _cropped(prediction: Mask, reference: Mask) -> tuple[Mask, Mask]:
    """Both masks in the box around their union, with a margin of one voxel, which is empty where the volume ends."""
    box = label_box((prediction | reference).view(np.uint8), 1)
    if box is None or not prediction.any() or not reference.any():
        raise ValueError("A surface distance needs two masks that are not empty.")
    return np.pad(prediction[box], 1), np.pad(reference[box], 1)


def _cropped_tensors(prediction: Mask, reference: Mask) -> tuple[torch.Tensor, torch.Tensor]:
    """(D, H, W) masks -> (1, 1, d, h, w)."""
    first, second = _cropped(prediction, reference)
    return torch.from_numpy(first)[None, None], torch.from_numpy(second)[None, None]
