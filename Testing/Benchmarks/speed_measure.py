"""Timing for speed.py: interleaved repeats, where the time goes inside U-DFA, memory of one network."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from udfa.config import NetworkConfig
from udfa.networks.backbone import FrozenBackbone
from udfa.networks.udfa import UDFA
from udfa_training.ablation_variants import plain_unet, reference_size, swin_unetr
from udfa_training.masked_images import backbone_input

Action = Callable[[], object]
Samples = dict[str, list[dict[str, float]]]
"""Name to one entry per repeat: {"wall": seconds, "cpu": seconds}."""

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}

NETWORKS = ("U-DFA", "bare ViT", "U-Net, all of U-DFA", "U-Net, trainable part", "SwinUNETR")


class BareViT(nn.Module):
    """U-DFA's backbone with nothing around it: the least that U-DFA can cost. (B, 3, H, W) -> tokens (B, 1 + N, D)."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.backbone = FrozenBackbone(name)

    def forward(self, image: Tensor) -> Tensor:
        tokens: Tensor = self.backbone(backbone_input(image))
        return tokens


def build(name: str, config: NetworkConfig) -> nn.Module:
    """Return one of NETWORKS with random weights, on which speed does not depend.

    "U-Net, all of U-DFA" has about as many parameters as U-DFA with its backbone, "U-Net, trainable part" as U-DFA
    without it. SwinUNETR has the width whose size is nearest to all of U-DFA.
    """
    torch.manual_seed(0)
    if name == "U-DFA":
        network: nn.Module = UDFA(config)
        _open_gates(network)
    elif name == "bare ViT":
        network = BareViT(config.backbone)
    elif name == "SwinUNETR":
        network = swin_unetr(config.num_classes, reference_size(config, "total"))
    else:
        part = "trainable" if name == "U-Net, trainable part" else "total"
        network = plain_unet(config.num_classes, reference_size(config, part))
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def _open_gates(network: nn.Module) -> None:
    """Give the zero-initialised gammas a value, as training does."""
    for name, parameter in network.named_parameters():
        if name.endswith("gamma"):
            nn.init.constant_(parameter, 0.1)


def synchronise(device: str) -> None:
    """Wait for the device."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def timed(action: Action, device: str) -> dict[str, float]:
    """Run once. Returns wall and processor seconds."""
    synchronise(device)
    wall, cpu = time.perf_counter(), time.process_time()
    action()
    synchronise(device)
    return {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}


def interleaved(actions: Mapping[str, Action], repeats: int, device: str) -> Samples:
    """Time actions in turns, beginning with another one each round, after one run each to warm up."""
    names = list(actions)
    samples: Samples = {name: [] for name in names}
    for name in names:
        actions[name]()
    for i in range(repeats):
        for name in names[i % len(names) :] + names[: i % len(names)]:
            samples[name].append(timed(actions[name], device))
    return samples


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, p10 and p90."""
    p10, median, p90 = np.percentile(values, (10, 50, 90))
    return {"median": float(median), "p10": float(p10), "p90": float(p90)}


def ratio(samples: Samples, name: str, to: str, clock: str) -> dict[str, float]:
    """Spread of one network's time divided by another's of the same round."""
    return spread([a[clock] / b[clock] for a, b in zip(samples[name], samples[to])])


def autocast(device: str, dtype: str) -> torch.autocast:
    """Autocast to a precision of DTYPES."""
    return torch.autocast(device.split(":")[0], dtype=torch.bfloat16, enabled=dtype == "bf16")


def forward_action(network: nn.Module, image: Tensor, dtype: str) -> Action:
    """One forward pass as inference does it."""

    def run() -> object:
        with torch.inference_mode(), autocast(str(image.device), dtype):
            return network(image)

    network.eval()
    return run


def training_action(network: nn.Module, image: Tensor, dtype: str) -> Action:
    """One optimiser step on a loss of the logits; what is frozen stays frozen."""
    trained = [p for p in network.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-5)

    def run() -> object:
        with autocast(str(image.device), dtype):
            logits = network(image)
        loss = logits.float().square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss

    network.train()
    return run


def gigaflops(network: nn.Module, size: int) -> float:
    """Floating point operations of one slice's forward pass, in 10^9."""
    device = next(network.parameters()).device
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        network.eval()(torch.zeros(1, 3, size, size, device=device))
    return counter.get_total_flops() / 1e9


def parts_of(network: UDFA) -> dict[str, list[nn.Module]]:
    """Modules whose time makes up that of U-DFA."""
    vit = network.backbone.vit
    return {
        "SPA": [network.spa],
        "ViT": [vit.patch_embed, *vit.blocks, vit.norm],
        "LGFA, local to global": [adapter.local_to_global for adapter in network.lgfa],
        "LGFA, global to local": [a.global_to_local for a in network.lgfa if a.global_to_local is not None],
        "decoder": [network.decoder],
    }


@contextmanager
def stopwatch(parts: Mapping[str, Sequence[nn.Module]], device: str, clock: str) -> Iterator[dict[str, float]]:
    """Sum up the seconds that modules take while the context lasts."""
    read = time.process_time if clock == "cpu" else time.perf_counter
    seconds = dict.fromkeys(parts, 0.0)
    started: dict[str, float] = {}
    handles = []

    def watch(part: str, module: nn.Module) -> None:
        def before(*_: object) -> None:
            synchronise(device)
            started[part] = read()

        def after(*_: object) -> None:
            synchronise(device)
            seconds[part] += read() - started[part]

        handles.extend((module.register_forward_pre_hook(before), module.register_forward_hook(after)))

    for part, modules in parts.items():
        for module in modules:
            watch(part, module)
    try:
        yield seconds
    finally:
        for handle in handles:
            handle.remove()


def shares(network: UDFA, image: Tensor, dtype: str, repeats: int, clock: str) -> dict[str, dict[str, float]]:
    """Spread of each part's share of a forward pass; "rest" is resizing, joining and splitting."""
    device = str(image.device)
    action = forward_action(network, image, dtype)
    action()
    rows: list[dict[str, float]] = []
    for _ in range(repeats):
        with stopwatch(parts_of(network), device, clock) as seconds:
            total = timed(action, device)[clock]
        row = {name: value / total for name, value in seconds.items()}
        rows.append({**row, "rest": 1 - sum(row.values())})
    return {name: spread([row[name] for row in rows]) for name in rows[0]}


def peak_bytes(device: str) -> int:
    """Largest memory so far: of the device, or of this process."""
    if device.startswith("cuda"):
        return int(torch.cuda.max_memory_allocated())
    status = Path("/proc/self/status")
    if status.is_file():
        # Unlike getrusage, this does not count the process that started this one.
        lines = [line.split() for line in status.read_text().splitlines() if line.startswith("VmHWM")]
        return int(lines[0][1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def memory(name: str, config: NetworkConfig, image: Tensor, dtype: str) -> dict[str, Any]:
    """Peak memory in bytes before, after inference and after training; for a process of its own."""
    device = str(image.device)
    network = build(name, config).to(device)
    before = peak_bytes(device)
    forward_action(network, image, dtype)()
    inference = peak_bytes(device)
    training = None
    if any(p.requires_grad for p in network.parameters()):
        training_action(network, image, dtype)()
        training = peak_bytes(device)
    return {"before": before, "inference": inference, "training": training}
