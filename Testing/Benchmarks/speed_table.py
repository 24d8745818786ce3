"""Tables of speed.py."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

MIB = 2**20


def write_report(folder: Path, figures: dict[str, Any]) -> Path:
    """Write speed.json and speed.md; returns the path of the latter."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "speed.json").write_text(json.dumps(figures, indent=1))
    path = folder / "speed.md"
    path.write_text(report(figures))
    return path


def report(figures: dict[str, Any]) -> str:
    """Return all tables as Markdown."""
    seconds = "processor time" if figures["clock"] == "cpu" else "wall time"
    head = (
        f"{figures['machine']} ({figures['device']}), {figures['threads']} thread(s), torch {figures['torch']}, "
        f"backbone {figures['backbone']}; {seconds}, median (p10-p90) of {figures['repeats']} interleaved repeats."
    )
    tables = {
        "forward": forward_table,
        "parts": parts_table,
        "volumes": volume_table,
        "training": training_table,
        "memory": memory_table,
    }
    measured = [make(figures) for name, make in tables.items() if figures.get(name)]
    return "\n\n".join([head, network_table(figures), *measured]) + "\n"


def network_table(figures: dict[str, Any]) -> str:
    """Size of each network."""
    rows = [
        [name, f"{facts['parameters'] / 1e6:.2f} M", f"{facts['gigaflops']:.1f}"]
        for name, facts in figures["networks"].items()
    ]
    head = ["network", "weights", f"GFLOP per slice at S = {figures['size']}"]
    return "Networks\n\n" + _table(head, rows)


def forward_table(figures: dict[str, Any]) -> str:
    """Time per slice and U-DFA's ratio to each network."""
    rows = []
    for row in figures["forward"]:
        rows.append(
            [
                f"{row['size']}",
                f"{row['batch']}",
                row["dtype"],
                row["network"],
                _spread(row["seconds_per_slice"], 1000, 1),
                _spread(row["udfa_ratio"], 1, 2),
            ]
        )
    head = ["S", "batch", "precision", "network", "ms per slice", "U-DFA's time / it"]
    return "Forward pass\n\n" + _table(head, rows)


def parts_table(figures: dict[str, Any]) -> str:
    """Shares of U-DFA's forward pass in per cent."""
    names = list(figures["parts"][0]["shares"])
    rows = [
        [str(row["size"]), str(row["batch"]), row["dtype"], *(_spread(row["shares"][name], 100, 0) for name in names)]
        for row in figures["parts"]
    ]
    return "Where the time goes inside U-DFA, per cent\n\n" + _table(["S", "batch", "precision", *names], rows)


def volume_table(figures: dict[str, Any]) -> str:
    """Whole volumes through the product's inference."""
    rows = [
        [
            f"{row['slices']} x {row['size']} x {row['size']}",
            row["dtype"],
            row["network"],
            _spread(row["seconds"], 1, 2),
            f"{row['seconds']['median'] / row['slices'] * 1000:.0f}",
            _spread(row["udfa_ratio"], 1, 2),
        ]
        for row in figures["volumes"]
    ]
    head = ["volume", "precision", "network", "s per volume", "ms per slice", "U-DFA's time / it"]
    return "Whole volumes, preprocessing to labelmap\n\n" + _table(head, rows)


def training_table(figures: dict[str, Any]) -> str:
    """Training images per second."""
    rows = [
        [
            f"{row['size']}",
            f"{row['batch']}",
            row["dtype"],
            row["network"],
            _spread(row["images_per_second"], 1, 2),
            _spread(row["udfa_ratio"], 1, 2),
        ]
        for row in figures["training"]
    ]
    head = ["S", "batch", "precision", "network", "images/s", "U-DFA's time / it"]
    return "Training step\n\n" + _table(head, rows)


def memory_table(figures: dict[str, Any]) -> str:
    """Peak memory beyond what the loaded network takes."""
    rows = []
    for row in figures["memory"]:
        training = "-" if row["training"] is None else f"{(row['training'] - row['before']) / MIB:.0f}"
        inference = f"{(row['inference'] - row['before']) / MIB:.0f}"
        setting = f"S {row['size']}, batch {row['batch']}, {row['dtype']}"
        rows.append([row["network"], setting, f"{row['before'] / MIB:.0f}", inference, training])
    head = ["network", "setting", "loaded, MiB", "inference adds, MiB", "training adds, MiB"]
    return "Peak memory\n\n" + _table(head, rows)


def _spread(values: dict[str, float], factor: float, digits: int) -> str:
    low, middle, high = (f"{values[key] * factor:.{digits}f}" for key in ("p10", "median", "p90"))
    return f"{middle} ({low}-{high})"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])
