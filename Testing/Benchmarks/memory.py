"""Memory and cancelling: how much a large CT needs on the CPU, and how long a cancelled run takes to return.

    python Testing/Benchmarks/memory.py --checkpoint UDFASegmentation/Resources/models/abdomen-ct-mini.safetensors

The work is done in a process of its own, so that its peak memory is that of one segmentation, interpreter and torch
included. Exits with 1 when the peak is above the limit.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

PACKAGE_FOLDER = Path(__file__).resolve().parents[2] / "UDFASegmentation"
if str(PACKAGE_FOLDER) not in sys.path:
    sys.path.insert(0, str(PACKAGE_FOLDER))

from udfa.checkpoint import load_checkpoint  # noqa: E402
from udfa.devices import make_plan  # noqa: E402
from udfa.errors import CancelledError  # noqa: E402
from udfa.geometry import Volume  # noqa: E402
from udfa.inference import Segmenter, SegmentOptions  # noqa: E402

GIB = 1024**3


def synthetic_ct(slices: int, size: int) -> Volume:
    """An abdomen of ellipses in air, int16 HU with noise: 0.8 mm pixels, 1.5 mm slices."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:size, :size] / size - 0.5
    organs = [(0.05, -0.12, 0.17, 0.14, 60), (0.05, 0.17, 0.08, 0.07, 120), (-0.05, 0.0, 0.05, 0.12, 35)]
    array = np.empty((slices, size, size), dtype=np.int16)
    for z in range(slices):
        swing = np.sin(np.pi * (z + 0.5) / slices)
        plane = np.full((size, size), -1000.0)
        plane[(columns / 0.4) ** 2 + (rows / 0.28) ** 2 < 1] = -90
        plane[(columns / 0.37) ** 2 + (rows / 0.25) ** 2 < 1] = 45
        for y, x, height, width, hu in organs:
            plane[((columns - x) / (width * swing)) ** 2 + ((rows - y) / (height * swing)) ** 2 < 1] = hu
        plane[(columns / 0.05) ** 2 + ((rows - 0.18) / 0.05) ** 2 < 1] = 400
        array[z] = plane + rng.normal(0, 12, plane.shape)
    # Axes (D, H, W) run towards superior, posterior and left.
    return Volume(array, (1.5, 0.8, 0.8), np.eye(3)[:, ::-1].copy())


def peak_bytes() -> int:
    """Largest resident memory of this process so far. Linux counts KiB, macOS bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def cancel_latency(segmenter: Segmenter, volume: Volume, after_seconds: float) -> float | None:
    """Seconds from a request to cancel to the return; None when the run had ended before the request."""
    wish = threading.Event()
    requested: list[float] = []

    def request() -> None:
        requested.append(time.monotonic())
        wish.set()

    timer = threading.Timer(after_seconds, request)
    timer.start()
    try:
        segmenter.segment(volume, cancelled=wish.is_set)
    except CancelledError:
        return time.monotonic() - requested[0]
    finally:
        timer.cancel()
    return None


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Segment once to the end, then cancel at several moments. Returns the figures."""
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    loading = time.monotonic()
    checkpoint = load_checkpoint(arguments.checkpoint)
    segmenter = Segmenter.from_checkpoint(checkpoint, make_plan("cpu", arguments.batch_size))
    loaded = time.monotonic()
    volume = synthetic_ct(arguments.slices, arguments.size)
    baseline = peak_bytes()
    times = [time.monotonic()]
    result = segmenter.segment(
        volume, SegmentOptions(uncertainty=arguments.uncertainty), progress=lambda event: times.append(time.monotonic())
    )
    ended = time.monotonic()
    batches = np.diff(times)
    peak = peak_bytes()
    moments = [float(np.sum(batches[:2])) * share for share in np.linspace(0.02, 1, arguments.cancels)]
    latencies = [cancel_latency(segmenter, volume, moment) for moment in moments]
    return {
        "seconds_to_load": loaded - loading,
        "seconds": result.seconds,
        "longest_batch": float(batches.max()),
        "after_last_batch": ended - times[-1],
        "latencies": [latency for latency in latencies if latency is not None],
        "plan": result.plan.describe(),
        "labels_found": int(len(np.unique(result.labelmap)) - 1),
        "baseline": baseline,
        "peak": peak,
    }


def report(figures: dict[str, Any], arguments: argparse.Namespace) -> bool:
    """Print the figures; returns whether the memory stayed within the limit."""
    within = figures["peak"] <= arguments.limit_gib * GIB
    latencies, longest = figures["latencies"], figures["longest_batch"]
    print(f"{arguments.size} x {arguments.size} x {arguments.slices} int16 on {figures['plan']}")
    print(f"labels found            {figures['labels_found']}")
    print(f"load checkpoint         {figures['seconds_to_load']:.2f} s")
    print(
        f"segment                 {figures['seconds']:.1f} s, {figures['seconds'] / arguments.slices:.3f} s per slice"
    )
    print(f"longest batch           {longest:.2f} s")
    print(f"clean-up after it       {figures['after_last_batch']:.2f} s")
    if latencies:
        print(f"cancel to return        {max(latencies):.2f} s at most of {len(latencies)} requests", end="")
        print(f" = {max(latencies) / longest:.2f} of the longest batch")
    print(f"memory before           {figures['baseline'] / GIB:.2f} GiB (interpreter, torch, network, volume)")
    print(f"peak memory             {figures['peak'] / GIB:.2f} GiB, limit {arguments.limit_gib:g} GiB", end="")
    print(": within" if within else ": ABOVE THE LIMIT")
    return within


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True, help="the .safetensors checkpoint to run")
    parser.add_argument("--slices", type=int, default=300, help="slices of the volume (default: 300)")
    parser.add_argument("--size", type=int, default=512, help="pixels along a side of a slice (default: 512)")
    parser.add_argument("--batch-size", type=int, default=None, help="slices per batch (default: as on this CPU)")
    parser.add_argument("--threads", type=int, default=None, help="threads of torch (default: torch's own choice)")
    parser.add_argument("--uncertainty", action="store_true", help="also compute the uncertainty")
    parser.add_argument("--cancels", type=int, default=6, help="runs that are cancelled, at different moments")
    parser.add_argument("--limit-gib", type=float, default=4.0, help="largest peak memory that passes (default: 4)")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit code."""
    arguments = parse(argv)
    if arguments.worker:
        print(json.dumps(measure(arguments)))
        return 0
    given = list(sys.argv[1:] if argv is None else argv)
    result = subprocess.run(
        [sys.executable, str(Path(__file__).resolve()), *given, "--worker"],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if result.returncode:
        return result.returncode
    return 0 if report(json.loads(result.stdout.splitlines()[-1]), arguments) else 1


if __name__ == "__main__":
    sys.exit(main())
