"""How fast is U-DFA? Ratios to its bare ViT, to plain U-Nets of the same size and to SwinUNETR, in one run.

    python Testing/Benchmarks/speed.py --output results/speed --sizes 256 512 --batches 1 4

All networks are timed in turns, so that ratios hold although the machine may do other work; each number is the median
over the repeats with p10 and p90. "Same size" is meant in two ways: a U-Net with as many parameters as all of U-DFA,
and one with as many as its trainable part. With --clock cpu, seconds are those of the processor (on one thread: about
what an idle machine would need). Writes speed.json and speed.md.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / folder) for folder in ("UDFASegmentation", "training", "Testing")]

from Benchmarks.speed_measure import (  # noqa: E402
    DTYPES,
    NETWORKS,
    build,
    forward_action,
    gigaflops,
    interleaved,
    memory,
    ratio,
    shares,
    spread,
    training_action,
)
from Benchmarks.speed_table import write_report  # noqa: E402
from udfa.config import ModelConfig, NetworkConfig, PreprocessingConfig  # noqa: E402
from udfa.devices import make_plan  # noqa: E402
from udfa.geometry import Volume  # noqa: E402
from udfa.inference import Segmenter  # noqa: E402

MEASUREMENTS = ("forward", "parts", "volumes", "training", "memory")


def noise(batch: int, size: int, device: str) -> torch.Tensor:
    """(batch, 3, size, size) on the device, as the networks get it."""
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(batch, 3, size, size, generator=generator)
    return image.to(device).contiguous(memory_format=torch.channels_last)


def measure_forward(options: argparse.Namespace, networks: dict[str, Any]) -> list[dict[str, Any]]:
    """Time per slice of every network, and U-DFA's ratio to each."""
    rows = []
    for size in options.sizes:
        for batch in options.batches:
            for dtype in options.dtypes:
                image = noise(batch, size, options.device)
                actions = {name: forward_action(network, image, dtype) for name, network in networks.items()}
                samples = interleaved(actions, options.repeats, options.device)
                for name in networks:
                    seconds = spread([sample[options.clock] / batch for sample in samples[name]])
                    slower = ratio(samples, "U-DFA", name, options.clock)
                    rows.append(
                        {"size": size, "batch": batch, "dtype": dtype, "network": name}
                        | {"seconds_per_slice": seconds, "udfa_ratio": slower, "samples": samples[name]}
                    )
    return rows


def measure_training(options: argparse.Namespace, networks: dict[str, Any]) -> list[dict[str, Any]]:
    """Training images per second, at the first size and the largest batch."""
    size, batch = options.sizes[0], max(options.batches)
    rows = []
    for dtype in options.dtypes:
        image = noise(batch, size, options.device)
        trained = {name: network for name, network in networks.items() if name != "bare ViT"}
        actions = {name: training_action(network, image, dtype) for name, network in trained.items()}
        samples = interleaved(actions, options.repeats, options.device)
        for name in trained:
            rate = spread([batch / sample[options.clock] for sample in samples[name]])
            slower = ratio(samples, "U-DFA", name, options.clock)
            rows.append(
                {"size": size, "batch": batch, "dtype": dtype, "network": name}
                | {"images_per_second": rate, "udfa_ratio": slower}
            )
    return rows


def measure_volumes(
    options: argparse.Namespace, networks: dict[str, Any], config: NetworkConfig
) -> list[dict[str, Any]]:
    """Seconds for whole volumes of several depths through the product's inference, first size."""
    size, dtype = options.sizes[0], options.dtypes[-1]
    preprocessing = PreprocessingConfig(
        modality="MR", in_plane_spacing_mm=None, slice_axis="acquisition", tile_size=size, crop_to_body=False
    )
    labels = tuple(f"label_{i}" for i in range(1, config.num_classes))
    model = ModelConfig(task="Benchmark", labels=labels, network=config, preprocessing=preprocessing)
    precision = {"fp32": "float32", "bf16": "bfloat16"}[dtype]
    plan = make_plan(options.device, max(options.batches), precision)
    segmenters = {name: Segmenter(network.eval(), model, plan) for name, network in networks.items()}
    del segmenters["bare ViT"]
    rows = []
    for depth in options.slices:
        array = np.random.default_rng(0).normal(size=(depth, size, size)).astype(np.float32)
        volume = Volume(array, (8.0, 1.0, 1.0), np.eye(3)[:, ::-1].copy())
        actions = {name: partial(segmenter.segment, volume) for name, segmenter in segmenters.items()}
        samples = interleaved(actions, max(1, options.repeats // 3), options.device)
        for name in segmenters:
            seconds = spread([sample[options.clock] for sample in samples[name]])
            slower = ratio(samples, "U-DFA", name, options.clock)
            rows.append(
                {"slices": depth, "size": size, "dtype": dtype, "network": name}
                | {"seconds": seconds, "udfa_ratio": slower}
            )
    return rows


def measure_parts(options: argparse.Namespace, networks: dict[str, Any]) -> list[dict[str, Any]]:
    """Where the time goes inside U-DFA."""
    batch = max(options.batches)
    return [
        {"size": size, "batch": batch, "dtype": dtype}
        | {
            "shares": shares(
                networks["U-DFA"], noise(batch, size, options.device), dtype, options.repeats, options.clock
            )
        }
        for size in options.sizes
        for dtype in options.dtypes
    ]


def measure_memory(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Peak memory of each network, each in a process of its own."""
    size, batch, dtype = options.sizes[0], max(options.batches), options.dtypes[-1]
    rows = []
    for name in NETWORKS:
        command = [sys.executable, str(Path(__file__).resolve()), "--memory-of", name, "--device", options.device]
        command += ["--sizes", str(size), "--batches", str(batch), "--dtypes", dtype, "--classes", str(options.classes)]
        command += ["--backbone", options.backbone]
        result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        found = json.loads(result.stdout.splitlines()[-1])
        rows.append({"network": name, "size": size, "batch": batch, "dtype": dtype, **found})
    return rows


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All measurements of one device."""
    config = NetworkConfig(backbone=options.backbone, num_classes=options.classes)
    networks = {name: build(name, config).to(options.device) for name in NETWORKS}
    sizes = {
        name: {
            "parameters": sum(p.numel() for p in network.parameters()),
            "gigaflops": gigaflops(network, options.sizes[0]),
        }
        for name, network in networks.items()
    }
    measurements: dict[str, Callable[[], list[dict[str, Any]]]] = {
        "forward": partial(measure_forward, options, networks),
        "parts": partial(measure_parts, options, networks),
        "volumes": partial(measure_volumes, options, networks, config),
        "training": partial(measure_training, options, networks),
        "memory": partial(measure_memory, options),
    }
    return {
        "device": options.device,
        "machine": device_name(options.device),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "clock": options.clock,
        "repeats": options.repeats,
        "backbone": options.backbone,
        "networks": sizes,
        "size": options.sizes[0],
        **{name: action() for name, action in measurements.items() if name in options.measure},
    }


def device_name(device: str) -> str:
    """Name of the GPU, or of the processor as far as Python knows it."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    return platform.processor() or platform.machine()


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("speed"), help="folder for speed.json and speed.md")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512], help="sides S; the first is the main one")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--dtypes", nargs="+", choices=sorted(DTYPES), default=["fp32", "bf16"])
    parser.add_argument("--slices", type=int, nargs="+", default=[8, 16, 32], help="depths of the volumes")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="cpu: on a machine that is busy")
    parser.add_argument("--threads", type=int, help="threads of torch (default: torch's own choice)")
    parser.add_argument("--backbone", default="mini")
    parser.add_argument("--classes", type=int, default=14)
    parser.add_argument("--measure", nargs="+", choices=MEASUREMENTS, default=list(MEASUREMENTS), help="tables to make")
    parser.add_argument("--memory-of", choices=NETWORKS, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit code."""
    options = parse(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.clock == "cpu" and options.device != "cpu":
        raise SystemExit("--clock cpu measures the processor; leave it out for a GPU.")
    if options.memory_of:
        config = NetworkConfig(backbone=options.backbone, num_classes=options.classes)
        image = noise(options.batches[0], options.sizes[0], options.device)
        print(json.dumps(memory(options.memory_of, config, image, options.dtypes[0])))
        return 0
    print(write_report(options.output, measure(options)).read_text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
