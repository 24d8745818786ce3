"""Execution plans: the choice of device, and the ladder down which a run goes when memory runs out."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from udfa import devices
from udfa.devices import ExecutionPlan, cpu_computes_bf16, is_out_of_memory, make_plan
from udfa.errors import InvalidInputError


def test_the_ladder_halves_the_batch_then_the_precision_then_goes_to_the_cpu() -> None:
    plan: ExecutionPlan | None = ExecutionPlan("cuda", torch.float32, 5)
    steps = []
    while plan is not None:
        steps.append((plan.device, plan.dtype, plan.batch_size))
        plan = plan.lighter()
    assert steps[:4] == [
        ("cuda", torch.float32, 5),
        ("cuda", torch.float32, 2),
        ("cuda", torch.float32, 1),
        ("cuda", torch.float16, 1),
    ]
    assert [(device, batch) for device, _, batch in steps[4:]] == [("cpu", 1)]


def test_a_plan_in_half_precision_goes_from_batch_1_straight_to_the_cpu() -> None:
    lighter = ExecutionPlan("mps", torch.bfloat16, 1).lighter()
    assert lighter is not None
    assert lighter.device == "cpu"


def test_the_lightest_plan_has_nothing_below_it() -> None:
    assert ExecutionPlan("cpu", torch.float32, 1).lighter() is None


def test_the_best_available_device_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "available_devices", lambda: ["mps", "cpu"])
    assert make_plan().device == "mps"
    assert make_plan("cpu").device == "cpu"


def test_a_device_that_is_not_there_is_refused_with_those_that_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "available_devices", lambda: ["cpu"])
    with pytest.raises(InvalidInputError, match=r"'cuda:1' is not available here. Available: cpu"):
        make_plan("cuda:1")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"device": "tpu"}, "Unknown device 'tpu'. Choose one of auto, cpu, cuda, mps"),
        ({"precision": "int8"}, "Unknown precision 'int8'"),
        ({"batch_size": 0}, "batch size is 0"),
        ({"batch_size": -1}, "batch size is -1"),
    ],
)
def test_an_unknown_choice_is_named(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        make_plan(**{"device": "cpu", **arguments})  # type: ignore[arg-type]


def test_precision_and_batch_size_can_be_chosen() -> None:
    assert make_plan("cpu", 3, "bfloat16") == ExecutionPlan("cpu", torch.bfloat16, 3)


@pytest.mark.parametrize(
    ("capabilities", "expected"), [({}, False), ({"amx_bf16": True}, True), ({"avx2": True}, False)]
)
def test_the_cpu_uses_bfloat16_only_where_it_has_instructions_for_it(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, bool], expected: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert cpu_computes_bf16() is expected
    assert make_plan("cpu").dtype == (torch.bfloat16 if expected else torch.float32)


@pytest.mark.parametrize(
    ("major", "expected"),
    [(6, torch.float16), (7, torch.float16), (8, torch.bfloat16), (9, torch.bfloat16)],
)
def test_graphics_that_only_emulate_bfloat16_use_float16(
    monkeypatch: pytest.MonkeyPatch, major: int, expected: torch.dtype
) -> None:
    """torch says of any graphics that bfloat16 is supported, but before generation 8 it is emulated."""
    asked: list[str] = []

    def properties(device: str) -> SimpleNamespace:
        asked.append(device)
        return SimpleNamespace(major=major)

    pretend_graphics(monkeypatch, 2)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *arguments: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", properties)
    assert make_plan("cuda:1").dtype == expected
    assert asked == ["cuda:1"]


@pytest.mark.parametrize("device", ["cuda:2", "cuda:-1", "cuda:one", "cuda:", "mps:1", "cpu:one"])
def test_a_number_that_no_device_has_is_refused(monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    pretend_graphics(monkeypatch, 2)
    monkeypatch.setattr(devices, "available_devices", lambda: ["cuda", "mps", "cpu"])
    with pytest.raises(InvalidInputError, match=rf"'{device}' is not .* Available: cuda:0, cuda:1, mps, cpu"):
        make_plan(device)


def pretend_graphics(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """Let torch believe that there are so many NVIDIA graphics cards."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(torch.version, "hip", None)


def test_an_older_torch_that_cannot_tell_uses_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert cpu_computes_bf16() is False


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (torch.cuda.OutOfMemoryError("CUDA out of memory."), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"), True),
        # Windows has words of its own.
        (RuntimeError("[enforce fail at alloc_cpu.cpp:80] data. DefaultCPUAllocator: not enough memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_out_of_memory_is_told_from_other_errors(error: BaseException, expected: bool) -> None:
    assert is_out_of_memory(error) is expected


def test_a_plan_describes_itself() -> None:
    assert ExecutionPlan("cuda:1", torch.float16, 8).describe() == "cuda:1, float16, batches of 8"


def test_graphics_that_cannot_shrink_images_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch 2.4 to 2.6 have no antialiased resizing on Apple's graphics."""
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(devices, "antialiases", lambda device: device != "mps")
    assert "mps" not in devices.available_devices()
    assert make_plan("auto").device != "mps"


def test_a_missing_operator_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    devices.antialiases.cache_clear()
    assert devices.antialiases("cpu")

    def missing(*arguments: object, **named: object) -> None:
        raise NotImplementedError("The operator 'aten::_upsample_bilinear2d_aa.out' is not currently implemented")

    devices.antialiases.cache_clear()
    monkeypatch.setattr(devices.F, "interpolate", missing)
    assert not devices.antialiases("cpu")
    devices.antialiases.cache_clear()
