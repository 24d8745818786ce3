"""Cases stored as NumPy or HDF5 arrays, whole or slice by slice."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from udfa.errors import InvalidInputError
from udfa_training.readers.source import CaseVolumes, plain_volume

Arrays = tuple[NDArray[np.generic], NDArray[np.generic]]
"""Image and label."""


def read_arrays(path: Path, image_key: str = "image") -> Arrays:
    """Return image and label of an .npz or .h5 file.

    Raises:
        InvalidInputError: The file cannot be read, lacks an array, or h5py is not installed.
    """
    try:
        arrays = _read_hdf5(path, image_key) if path.suffix == ".h5" else _read_npz(path, image_key)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise InvalidInputError(f"{path} cannot be read; copy it again. ({error})") from error
    except KeyError as error:
        raise InvalidInputError(f"{path} must hold the arrays '{image_key}' and 'label'. ({error.args[0]})") from error
    for name, array in zip((image_key, "label"), arrays):
        if array.dtype.kind not in "iufb":
            raise InvalidInputError(f"{path}: '{name}' holds no numbers (its type is {array.dtype}).")
        if not array.size:
            raise InvalidInputError(f"{path}: '{name}' is empty (its shape is {array.shape}).")
    return arrays


def _read_npz(path: Path, image_key: str) -> Arrays:
    with np.load(path, allow_pickle=False) as file:
        return file[image_key], file["label"]


def _read_hdf5(path: Path, image_key: str) -> Arrays:
    try:
        import h5py
    except ImportError as error:
        raise InvalidInputError(f"Reading {path.name} needs h5py, which is not installed: pip install h5py.") from error
    with h5py.File(path, "r") as file:
        return np.asarray(file[image_key]), np.asarray(file["label"])


def read_slices(paths: Sequence[Path], image_key: str = "image") -> Arrays:
    """Return image and label (D, H, W) from files with one slice each, in their order.

    Raises:
        InvalidInputError: A file cannot be read, or the slices are not all 2D and of one shape.
    """
    slices = [read_arrays(path, image_key) for path in paths]
    for index, kind in enumerate(("image", "label")):
        shapes = {arrays[index].shape for arrays in slices}
        if len(shapes) > 1 or len(next(iter(shapes))) != 2:
            raise InvalidInputError(
                f"{paths[0].name} and the other slices must be 2D and of one shape; {kind} shapes: {sorted(shapes)}."
            )
    return np.stack([image for image, _ in slices]), np.stack([label for _, label in slices])


def slices_first(arrays: Arrays, path: Path) -> Arrays:
    """Return arrays as (D, H, W): slices are the last axis of an array whose first two axes alone are equally long.

    Raises:
        InvalidInputError: The arrays are not 3D.
    """
    if any(array.ndim != 3 for array in arrays):
        raise InvalidInputError(f"{path}: the arrays must be 3D; got {[array.shape for array in arrays]}.")
    depth_last = all(array.shape[0] == array.shape[1] != array.shape[2] for array in arrays)
    return (np.moveaxis(arrays[0], 2, 0), np.moveaxis(arrays[1], 2, 0)) if depth_last else arrays


def as_volumes(arrays: Arrays) -> CaseVolumes:
    """Return arrays (D, H, W) as volumes without a header of their own."""
    return CaseVolumes(plain_volume(arrays[0]), plain_volume(arrays[1]))
