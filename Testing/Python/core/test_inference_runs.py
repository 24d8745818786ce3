"""How a run proceeds: progress, cancelling, and going on with less when memory runs out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from udfa.devices import ExecutionPlan, make_plan
from udfa.errors import CancelledError, UDFAError
from udfa.inference import Progress, Segmenter


def intensity_rule(array: np.ndarray) -> np.ndarray:
    """What the fake network should find: liver (1) above 50 HU, spleen (2) above 150 HU."""
    return (array > 50).astype(np.uint8) + (array > 150).astype(np.uint8)


def test_progress_counts_slices_up_to_all_with_the_time_left(kit: Any) -> None:
    events: list[Progress] = []
    kit.threshold_segmenter(batch_size=3).segment(kit.volume(kit.random_hu((8, 20, 20))), progress=events.append)
    assert [(event.done, event.total) for event in events] == [(3, 8), (6, 8), (8, 8)]
    assert all(event.seconds_left is not None and event.seconds_left >= 0 for event in events)
    assert events[-1].seconds_left == 0
    assert [event.message for event in events] == ["", "", ""]


def test_cancelling_stops_before_the_next_batch(kit: Any) -> None:
    segmenter = kit.threshold_segmenter(batch_size=1)
    answers = iter([False, False, True])
    with pytest.raises(CancelledError, match="nothing was changed"):
        segmenter.segment(kit.volume(kit.random_hu((9, 20, 20))), cancelled=lambda: next(answers))
    assert len(segmenter.network.shapes) == 2


def test_cancelling_before_the_start_runs_nothing(kit: Any) -> None:
    segmenter = kit.threshold_segmenter()
    with pytest.raises(CancelledError):
        segmenter.segment(kit.volume(kit.random_hu((9, 20, 20))), cancelled=lambda: True)
    assert segmenter.network.shapes == []


def test_cancelling_during_the_last_batch_counts(kit: Any) -> None:
    segmenter = kit.threshold_segmenter(batch_size=9)
    with pytest.raises(CancelledError):
        segmenter.segment(kit.volume(kit.random_hu((9, 20, 20))), cancelled=lambda: len(segmenter.network.shapes) == 1)


def cuda_error() -> BaseException:
    return torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


def failing_segmenter(kit: Any, errors: list[BaseException], batch_size: int = 4, device: str = "cpu:0") -> Segmenter:
    config = kit.config()
    inner = kit.ThresholdNetwork(config.preprocessing, (50.5, 150.5))
    return Segmenter(kit.FailingNetwork(inner, errors), config, kit.plan(batch_size, device))


def test_running_out_of_memory_halves_the_batch_then_the_precision_then_moves_to_the_cpu(kit: Any) -> None:
    segmenter = failing_segmenter(kit, [cuda_error() for _ in range(4)])
    volume = kit.volume(kit.random_hu((4, 20, 20)))
    events: list[Progress] = []
    result = segmenter.segment(volume, progress=events.append)
    np.testing.assert_array_equal(result.labelmap, intensity_rule(volume.array))
    assert segmenter.network.sizes == [4, 2, 1, 1, 1, 1, 1, 1]
    assert (result.plan.device, result.plan.batch_size) == ("cpu", 1)
    said = [event.message for event in events if event.message]
    assert said == result.warnings
    assert [text.split("going on with ")[1].split(", batches")[0] for text in said[:3]] == [
        "cpu:0, float32",
        "cpu:0, float32",
        "cpu:0, float16",
    ]
    assert "going on with cpu, " in said[3]
    assert [event.done for event in events] == sorted(event.done for event in events)
    assert events[-1].done == events[-1].total == 4


@pytest.mark.parametrize(
    "error",
    [
        cuda_error(),
        RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        MemoryError(),
    ],
)
def test_every_kind_of_out_of_memory_is_understood(kit: Any, error: BaseException) -> None:
    segmenter = failing_segmenter(kit, [error])
    segmenter.segment(kit.volume(kit.random_hu((4, 20, 20))))
    assert segmenter.network.sizes == [4, 2, 2]


def test_the_next_run_starts_with_the_plan_that_was_chosen(kit: Any) -> None:
    """Memory may be free again, and a model is shared by all runs of a program."""
    segmenter = failing_segmenter(kit, [cuda_error() for _ in range(4)])
    volume = kit.volume(kit.random_hu((4, 20, 20)))
    assert segmenter.segment(volume).plan == ExecutionPlan("cpu", make_plan("cpu").dtype, 1)
    again = segmenter.segment(volume)
    assert (again.plan, again.warnings) == (kit.plan(4, "cpu:0"), [])
    assert segmenter.network.sizes[8:] == [4]


def test_memory_that_runs_out_late_costs_no_finished_slice(kit: Any) -> None:
    config = kit.config()

    class FailsOnThird(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = kit.ThresholdNetwork(config.preprocessing, (50.5, 150.5))
            self.sizes: list[int] = []

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            self.sizes.append(len(image))
            if len(self.sizes) == 3:
                raise cuda_error()
            return self.inner(image)

    volume = kit.volume(kit.random_hu((7, 20, 20)))
    segmenter = Segmenter(FailsOnThird(), config, kit.plan(2))
    np.testing.assert_array_equal(segmenter.segment(volume).labelmap, intensity_rule(volume.array))
    assert segmenter.network.sizes == [2, 2, 2, 1, 1, 1]


def test_running_out_of_memory_on_the_lightest_plan_says_what_to_do(kit: Any) -> None:
    segmenter = failing_segmenter(kit, [cuda_error() for _ in range(9)], batch_size=2, device="cpu")
    with pytest.raises(UDFAError, match=r"one slice at a time on the CPU\. Close other programs or crop"):
        segmenter.segment(kit.volume(kit.random_hu((4, 20, 20))))
    assert segmenter.network.sizes == [2, 1]


class OverflowsInHalfPrecision(nn.Module):
    """Its convolution leaves the range of float16 (65,504); on one device also that of float32."""

    def __init__(self, inner: nn.Module, broken: bool = False) -> None:
        super().__init__()
        self.inner, self.broken = inner, broken
        self.large = nn.Conv2d(3, 1, kernel_size=1, bias=False)
        nn.init.constant_(self.large.weight, 1e30 if broken else 1e6)
        self.runs: list[tuple[torch.dtype, int]] = []

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        large = self.large(image + 1e9 if self.broken else image)
        self.runs.append((large.dtype, len(image)))
        return self.inner(image) + (large - large)


@pytest.mark.parametrize("device", ["cpu", "cpu:0"])
def test_what_overflows_in_half_precision_is_run_again_in_float32(kit: Any, device: str) -> None:
    """NaN would otherwise count as background: an empty result without a word."""
    config = kit.config()
    network = OverflowsInHalfPrecision(kit.ThresholdNetwork(config.preprocessing, (50.5, 150.5)))
    segmenter = Segmenter(network, config, ExecutionPlan(device, torch.float16, 2))  # type: ignore[arg-type]
    volume = kit.volume(kit.random_hu((3, 20, 20)))
    result = segmenter.segment(volume)
    np.testing.assert_array_equal(result.labelmap, intensity_rule(volume.array))
    assert network.runs == [(torch.float16, 2), (torch.float32, 2), (torch.float32, 1)]
    assert result.warnings == [
        f"The network's values are not finite ({device}, float16, batches of 2); going on with {device}, float32, "
        "batches of 2."
    ]


def test_an_accelerator_whose_memory_is_too_small_for_float32_leaves_it_to_the_cpu(kit: Any) -> None:
    """Otherwise a run would go to and fro between float16, which overflows, and float32, which does not fit."""
    config = kit.config()
    network = OverflowsInHalfPrecision(kit.ThresholdNetwork(config.preprocessing, (50.5, 150.5)))
    segmenter = Segmenter(network, config, ExecutionPlan("cpu:0", torch.float16, 1))  # type: ignore[arg-type]
    assert segmenter.segment(kit.volume(kit.random_hu((1, 20, 20)))).plan.device == "cpu"


def test_values_that_are_not_finite_in_float32_are_an_error(kit: Any) -> None:
    config = kit.config()
    network = OverflowsInHalfPrecision(kit.ThresholdNetwork(config.preprocessing, (50.5, 150.5)), broken=True)
    with pytest.raises(UDFAError, match=r"not finite \(cpu, float32, batches of 4\)\. Run it on another device"):
        Segmenter(network, config, kit.plan()).segment(kit.volume(kit.random_hu((1, 20, 20))))  # type: ignore[arg-type]


def test_other_errors_pass_through_unchanged(kit: Any) -> None:
    error = RuntimeError("mat1 and mat2 shapes cannot be multiplied")
    segmenter = failing_segmenter(kit, [error])
    with pytest.raises(RuntimeError) as caught:
        segmenter.segment(kit.volume(kit.random_hu((4, 20, 20))))
    assert caught.value is error
    assert segmenter.network.sizes == [4]
