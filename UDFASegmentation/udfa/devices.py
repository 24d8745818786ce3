"""Where and how a run executes: device, precision, batch size, and what to fall back to when memory runs out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import torch
import torch.nn.functional as F

from udfa.errors import InvalidInputError

DEVICE_NAMES = ("auto", "cpu", "cuda", "mps")

_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "status_alloc_failed")
"""In the messages of CUDA and mps, of torch's allocator on Linux and macOS, of that on Windows, of cuBLAS and cuDNN."""


@dataclass(frozen=True)
class ExecutionPlan:
    """How batches are run."""

    device: str
    """cpu, cuda, cuda:N or mps."""
    dtype: torch.dtype
    """float32, float16 or bfloat16; the lower ones through autocast."""
    batch_size: int
    """Slices per batch."""

    def lighter(self) -> ExecutionPlan | None:
        """Return the next plan that needs less memory: half the batch, then half precision, then the CPU.

        None when nothing lighter is left.
        """
        if self.batch_size > 1:
            return replace(self, batch_size=self.batch_size // 2)
        if self.device != "cpu" and self.dtype == torch.float32:
            return replace(self, dtype=torch.float16)
        if self.device != "cpu":
            return make_plan("cpu", batch_size=1)
        return None

    def wider(self) -> ExecutionPlan:
        """Return the plan in float32; on the CPU when the accelerator's memory may be too small for it."""
        if self.device != "cpu" and self.batch_size == 1:
            return make_plan("cpu", batch_size=1, precision="float32")
        return replace(self, dtype=torch.float32)

    def describe(self) -> str:
        """Return the plan in a few words for messages."""
        return f"{self.device}, {str(self.dtype).removeprefix('torch.')}, batches of {self.batch_size}"


def available_devices() -> list[str]:
    """Return the usable devices, best first."""
    devices = []
    if torch.cuda.is_available():
        devices.append("cuda")
    if torch.backends.mps.is_available() and antialiases("mps"):
        devices.append("mps")
    return [*devices, "cpu"]


@cache
def antialiases(device: str) -> bool:
    """Whether a device can shrink images as the network does it; Apple's graphics cannot before torch 2.7."""
    try:
        for mode in ("bilinear", "bicubic"):
            F.interpolate(torch.zeros(1, 1, 4, 4, device=device), size=(2, 2), mode=mode, antialias=True)
    except NotImplementedError:
        return False
    return True


def make_plan(device: str = "auto", batch_size: int | None = None, precision: str = "auto") -> ExecutionPlan:
    """Choose device, precision and batch size.

    Args:
        device: auto, cpu, cuda, cuda:N or mps.
        batch_size: Slices per batch; None lets the device decide.
        precision: auto, float32, float16 or bfloat16.

    Raises:
        InvalidInputError: The device or precision is unknown or not available here.
    """
    kind = device.split(":")[0]
    if kind not in DEVICE_NAMES:
        raise InvalidInputError(f"Unknown device '{device}'. Choose one of {', '.join(DEVICE_NAMES)}.")
    available = available_devices()
    if device == "auto":
        device = kind = available[0]
    if kind not in available or not _has_number(device):
        raise InvalidInputError(
            f"Device '{device}' is not available here. Available: {', '.join(_numbered(available))}."
        )
    dtypes = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
    if precision == "auto":
        dtype = _best_dtype(device)
    elif precision in dtypes:
        dtype = dtypes[precision]
    else:
        raise InvalidInputError(f"Unknown precision '{precision}'. Choose auto, {', '.join(dtypes)}.")
    if batch_size is not None and batch_size < 1:
        raise InvalidInputError(f"The batch size is {batch_size}, but must be at least 1.")
    return ExecutionPlan(device, dtype, batch_size or {"cuda": 16, "mps": 8, "cpu": 4}[kind])


def _has_number(device: str) -> bool:
    """Whether there is a device of that number; of those other than cuda there is one, number 0."""
    kind, colon, number = device.partition(":")
    count = torch.cuda.device_count() if kind == "cuda" else 1
    return not colon or (number.isdecimal() and int(number) < count)


def _numbered(available: list[str]) -> list[str]:
    """The devices, several of kind cuda one by one."""
    count = torch.cuda.device_count() if "cuda" in available else 0
    cards = [f"cuda:{number}" for number in range(count)] if count > 1 else ["cuda"]
    return [name for device in available for name in (cards if device == "cuda" else [device])]


def _best_dtype(device: str) -> torch.dtype:
    """Half precision where the hardware computes in it, float32 elsewhere."""
    kind = device.split(":")[0]
    if kind == "cuda":
        return torch.bfloat16 if _graphics_compute_bf16(device) else torch.float16
    if kind == "cpu" and cpu_computes_bf16():
        return torch.bfloat16
    return torch.float32


def _graphics_compute_bf16(device: str) -> bool:
    """Whether a GPU has bfloat16 instructions; torch.cuda.is_bf16_supported also counts those that emulate it."""
    return torch.version.hip is not None or torch.cuda.get_device_properties(device).major >= 8


def cpu_computes_bf16() -> bool:
    """Whether the CPU has bfloat16 instructions, without which bfloat16 is emulated and slow."""
    get = getattr(torch.cpu, "get_capabilities", None)
    capabilities = get() if get is not None else {}
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of torch or Python means that memory ran out."""
    if isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(words in text for words in _OUT_OF_MEMORY)


def free_cached_memory(device: str) -> None:
    """Give cached device memory back before trying a lighter plan."""
    if device.startswith("cuda"):
        torch.cuda.empty_cache()
    elif device.startswith("mps"):
        torch.mps.empty_cache()
