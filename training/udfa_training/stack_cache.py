"""Cases on the network's grid, kept on disk by MONAI so that later starts need not prepare them again."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from monai.data import PersistentDataset
from monai.transforms import Transform

import udfa
from udfa.config import PreprocessingConfig, to_dict
from udfa_training.dataset import MANIFEST, CaseEntry, PreparedData, SliceStack, load_stack

STACK_FORMAT = 1
"""To be counted up whenever `load_stack` gives other arrays for the same files and settings."""

logger = logging.getLogger(__name__)


def cache_folder(setting: str | None, data: Path) -> Path | None:
    """Return the folder for prepared stacks, made when it is absent; None for no cache.

    Args:
        setting: FitConfig.cache.
        data: Folder of the prepared data set.
    """
    if setting is None:
        return None
    folder = data / "cache" if setting == "auto" else Path(setting)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        logger.warning("No cache of prepared cases: %s cannot be made (%s).", folder, error)
        return None
    return folder


def load_stacks(
    data: PreparedData, cases: list[CaseEntry], config: PreprocessingConfig, num_classes: int, cache: Path | None
) -> Iterator[SliceStack]:
    """Yield the stack of each case, from the cache where it is there.

    A stack is found by the SHA-256 of its files in the manifest, their size and time of change, and the preprocessing,
    so that none is used for other data or settings.
    """
    hashes = file_hashes(data.folder)
    items = [{"case": c, "key": stack_key(c, hashes.get(c.name, ()), config, num_classes)} for c in cases]
    stacks = PersistentDataset(items, _Load(config, num_classes), cache, hash_func=lambda item: item["key"].encode())
    for index, case in enumerate(cases):
        try:
            arrays = stacks[index]
        except Exception as error:
            # A damaged file can raise anything; whatever is wrong with the case itself is raised again below.
            logger.warning("%s is prepared anew: the cache %s cannot be used (%s).", case.name, cache, error)
            if cache is not None:
                (cache / f"{items[index]['key']}.pt").unlink(missing_ok=True)
            yield load_stack(case, config, num_classes)
        else:
            yield SliceStack(arrays["images"].numpy(), arrays["labels"].numpy())


def stack_key(case: CaseEntry, hashes: tuple[str, ...], config: PreprocessingConfig, num_classes: int) -> str:
    """Return the name of a stack in the cache."""
    facts = [path.stat() for path in (case.image, case.label)]
    identity = {
        "format": [STACK_FORMAT, udfa.__version__],
        "files": [*hashes, *((fact.st_size, fact.st_mtime_ns) for fact in facts)],
        "preprocessing": to_dict(config),
        "num_classes": num_classes,
    }
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def file_hashes(folder: Path) -> dict[str, tuple[str, ...]]:
    """Return the SHA-256 of image and label of each case, as far as the manifest of a prepared data set has them."""
    rows = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["cases"]
    return {row["name"]: tuple(row[k] for k in ("image_sha256", "label_sha256") if k in row) for row in rows}


def training_content(data: PreparedData) -> str:
    """Return the number of training cases and a digest of their names and files, the same wherever they lie."""
    cases, hashes = data.split("train"), file_hashes(data.folder)
    text = json.dumps(sorted((case.name, *hashes.get(case.name, ())) for case in cases))
    return f"{len(cases)} with content {hashlib.sha256(text.encode()).hexdigest()[:12]}"


class _Load(Transform):
    """Case entry -> tensors of its stack: images (D, h, w) float16, labels (D, h, w) uint8."""

    def __init__(self, config: PreprocessingConfig, num_classes: int) -> None:
        self.config = config
        self.num_classes = num_classes

    def __call__(self, data: dict[str, Any]) -> dict[str, torch.Tensor]:
        stack = load_stack(data["case"], self.config, self.num_classes)
        return {"images": torch.from_numpy(stack.images), "labels": torch.from_numpy(stack.labels)}
