"""The test after an installation: are the packages usable, and does a small network give a sensible answer?"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from UDFASegmentationLib.TritonGuard import tritonKeptOut

SIDE = 32
"""Height and width of the test image: the smallest that the network takes."""


def selfTest(importer: Callable[[str], Any] = importlib.import_module) -> list[str]:
    """Return what does not work, in plain words; empty when all is well. Takes a second or two.

    Args:
        importer: Imports a module by name; replaced in tests.
    """
    with tritonKeptOut():
        return _failures(importer)


def _failures(importer: Callable[[str], Any]) -> list[str]:
    failures = []
    for name, check in (("torch", _checkTorch), ("timm", _checkImport), ("safetensors.torch", _checkImport)):
        try:
            check(importer(name))
        except Exception as error:  # Damaged libraries fail in any way they like.
            failures.append(f"{name}: {type(error).__name__}: {error}")
    if failures:
        return failures
    try:
        problem = _forward(importer("torch"))
    except Exception as error:
        problem = f"{type(error).__name__}: {error}"
    return [f"A small network does not run: {problem}"] if problem else []


def _checkImport(module: Any) -> None:
    """A namespace package is what a half-removed package leaves behind."""
    if getattr(module, "__file__", None) is None:
        raise ImportError("only empty folders are left of it")


def _checkTorch(torch: Any) -> None:
    import numpy as np

    _checkImport(torch)
    # numpy 2 with a torch that was built for numpy 1 fails here, not at the import.
    if float(torch.from_numpy(np.ones(2, dtype=np.float32)).sum()) != 2.0:
        raise RuntimeError("it computes wrongly")
    if torch.cuda.is_available():
        # A torch without kernels for this graphics card fails at the first computation.
        torch.zeros(1, device="cuda").add_(1).cpu()


def _forward(torch: Any) -> str:
    """Run the smallest network with random weights; return what is wrong with its answer."""
    from udfa.config import NetworkConfig
    from udfa.networks.udfa import UDFA

    network = UDFA(NetworkConfig(backbone="mini", num_classes=2)).eval()
    with torch.inference_mode():
        logits = network(torch.zeros(1, 3, SIDE, SIDE))
    if tuple(logits.shape) != (1, 2, SIDE, SIDE):
        return f"it gave {tuple(logits.shape)} instead of {(1, 2, SIDE, SIDE)}"
    return "" if bool(torch.isfinite(logits).all()) else "it gave values that are not finite"
