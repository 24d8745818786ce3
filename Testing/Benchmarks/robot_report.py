"""Numbers and plots from the clicks of robot users."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from Benchmarks.classical_tools import CLASSICAL_TOOLS

THRESHOLDS = (0.85, 0.90, 0.95)
SHOWN_CLICKS = (0, 1, 3, 5, 10, 20)
AUC_CLICKS = 5
BOOTSTRAPS = 2000

FASTER_THAN = (
    ("next_click_one_slice", "segment_again"),
    ("next_click_one_slice", "segment_again_one_slice"),
    *((f"{click}{of}", f"segment_again{start}{of}") for of in ("", "_cpu") for click, start in (
        ("first_click", ""), ("next_click", ""), ("first_click_repair", "_repair"), ("next_click_repair", "_repair")
    )),
)  # fmt: skip
"""Which times are compared: a click on one slice with segmenting the slab again that a correction may reach, the same
click with its slice alone, and clicks that carry with segmenting again the slab that they carry through: the first one,
which has to run the encoder, and next ones; of a whole organ from scratch, and of a hole in it; the processor's time,
too."""


@dataclass(frozen=True)
class Run:
    """One label of one case, corrected by one robot with one tool.

    Attributes:
        key: Columns that name the run, without case.
        case: Case.
        dice: Dice after 0, 1, 2, ... clicks, as far as the run went.
        clicks: The rows of the clicks.
    """

    key: tuple[str, str, str, str, str]
    case: str
    dice: NDArray[np.float64]
    clicks: list[dict[str, str]]

    def at(self, click: int) -> float:
        """Dice after so many clicks; held after the run's end."""
        return float(self.dice[min(click, len(self.dice) - 1)])

    def clicks_to(self, threshold: float, most: int) -> tuple[int, bool]:
        """Clicks until a Dice is reached, and whether it was; `most` if not."""
        reached = np.flatnonzero(self.dice >= threshold)
        return (int(reached[0]), True) if len(reached) else (most, False)

    def area(self) -> float:
        """Mean Dice over clicks 0 to 5, by the trapezoid rule."""
        values = np.array([self.at(click) for click in range(AUC_CLICKS + 1)])
        return float((values[1:] + values[:-1]).mean() / 2)


def read_runs(path: Path) -> list[Run]:
    """Read clicks.csv."""
    grouped: dict[tuple[str, ...], list[dict[str, str]]] = {}
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            key = (row["label"], row["start"], row["robot"], row["tool"], row["clicks_of"], row["case"])
            grouped.setdefault(key, []).append(row)
    return [
        Run(key[:5], key[5], np.array([float(row["dice"]) for row in rows]), rows[1:])  # type: ignore[arg-type]
        for key, rows in grouped.items()
    ]


def interval(values: Sequence[float]) -> list[float]:
    """95 % bootstrap interval of the mean."""
    draws = np.random.default_rng(0).choice(np.asarray(values), (BOOTSTRAPS, len(values)))
    return [round(float(edge), 4) for edge in np.percentile(draws.mean(axis=1), (2.5, 97.5))]


def summary_of(runs: Sequence[Run], most: int) -> dict[str, Any]:
    """Return the numbers of a group of runs."""
    result: dict[str, Any] = {"runs": len(runs)}
    for threshold in THRESHOLDS:
        found = [run.clicks_to(threshold, most) for run in runs]
        result[f"noc@{threshold:.2f}"] = round(float(np.mean([clicks for clicks, _ in found])), 3)
        result[f"failures@{threshold:.2f}"] = sum(not reached for _, reached in found)
    shown = [click for click in SHOWN_CLICKS if click <= most]
    result["dice"] = {str(click): round(float(np.mean([run.at(click) for run in runs])), 4) for click in shown}
    result["dice@5_interval"] = interval([run.at(AUC_CLICKS) for run in runs])
    gap = 1 - np.mean([run.at(0) for run in runs])
    gained = np.mean([run.at(AUC_CLICKS) for run in runs]) - np.mean([run.at(0) for run in runs])
    result["share_of_gap_closed@5"] = round(float(gained / gap), 4) if gap > 0 else None
    result["auc_0_5"] = round(float(np.mean([run.area() for run in runs])), 4)
    return {**result, **harm_of(runs)}


def harm_of(runs: Iterable[Run]) -> dict[str, Any]:
    """Return how often clicks lower Dice, how many changed voxels are right, and what changed outside the box."""
    lowered = made = lowered_true = made_true = changed = right = outside = foreign = 0
    for run in runs:
        for before, after, row in zip(run.dice, run.dice[1:], run.clicks):
            worse, true = bool(after < before - 1e-9), row["truthful"] == "True"
            made, lowered = made + 1, lowered + worse
            made_true, lowered_true = made_true + true, lowered_true + (worse and true)
            changed, right = changed + int(row["changed"]), right + int(row["right"])
            outside, foreign = outside + int(row["outside_box"]), foreign + int(row.get("foreign") or 0)
    return {
        "clicks": made,
        "harm_rate": round(lowered / max(1, made), 4),
        "harm_rate_of_true_clicks": round(lowered_true / max(1, made_true), 4),
        "right_share_of_changed_voxels": round(right / max(1, changed), 4),
        "voxels_outside_box": outside,
        "voxels_of_other_labels": foreign,
    }


def latency_of(runs: Iterable[Run]) -> dict[str, Any]:
    """Return the times of UDFA's clicks, those that had to run the encoder apart."""
    rows = [row for run in runs if run.key[3] == "UDFA" for row in run.clicks]
    groups = {"with_encoder": lambda r: int(r["encoded"]) > 0, "from_cache": lambda r: int(r["encoded"]) == 0}
    result = {}
    for name, belongs in groups.items():
        seconds = [float(row["seconds"]) for row in rows if belongs(row)]
        slices = [int(row["slices"]) for row in rows if belongs(row)]
        if seconds:
            p50, p95 = np.percentile(seconds, (50, 95))
            mean = round(float(np.mean(slices)), 2)
            result[name] = {"clicks": len(seconds), "p50_s": round(p50, 4), "p95_s": round(p95, 4), "mean_slices": mean}
    return result


def write_report(folder: Path, facts: dict[str, Any]) -> str:
    """Write summary.json, summary.md and the plots from clicks.csv and timing.json; returns the table."""
    runs = read_runs(folder / "clicks.csv")
    most = int(facts["most_clicks"])
    groups: dict[tuple[str, ...], list[Run]] = {}
    for run in runs:
        label, start, robot, tool, clicks_of = run.key
        groups.setdefault((start, robot, tool, clicks_of, "all labels"), []).append(run)
        groups.setdefault((start, robot, tool, clicks_of, label), []).append(run)
    columns = ("start", "robot", "tool", "clicks_of", "label")
    rows = [{**dict(zip(columns, key)), **summary_of(found, most)} for key, found in sorted(groups.items())]
    timing = timing_summary(json.loads((folder / "timing.json").read_text(encoding="utf-8")))
    document = {"run": facts, "latency": latency_of(runs), "timing": timing, "groups": rows}
    (folder / "summary.json").write_text(json.dumps(document, indent=2), encoding="utf-8")
    losses = where_rivals_win(rows, tuple(CLASSICAL_TOOLS))
    table = "\n\n".join([table_of(rows, most), timing_table(timing), losses])
    (folder / "summary.md").write_text(table + "\n", encoding="utf-8")
    plot_means(folder, runs, most)
    plot_labels(folder, runs, most)
    return table


def timing_summary(timing: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """Return p50 and p95 of each kind of time, and how many times faster a next click is than segmenting again."""
    result: dict[str, Any] = {}
    for name, seconds in timing.items():
        p50, p95 = np.percentile(seconds, (50, 95))
        result[name] = {"repeats": len(seconds), "p50_s": round(float(p50), 4), "p95_s": round(float(p95), 4)}
    for click, again in FASTER_THAN:
        slow, fast = result.get(again), result.get(click)
        if slow is not None and fast is not None and fast["p50_s"] > 0:
            result[f"{click}_faster_than_{again}"] = round(slow["p50_s"] / fast["p50_s"], 2)
    return result


def timing_table(timing: Mapping[str, Any]) -> str:
    """Return the times as a Markdown table."""
    lines = ["| seconds | p50 | p95 | repeats |", "| --- | --- | --- | --- |"]
    for name, found in timing.items():
        if isinstance(found, dict):
            cells = (f"{found['p50_s']:.3f}", f"{found['p95_s']:.3f}", str(found["repeats"]))
            lines.append("| " + " | ".join((name.replace("_", " "), *cells)) + " |")
    for name, factor in timing.items():
        if not isinstance(factor, dict):
            lines.append(f"| {name.replace('_', ' ')} | {factor:.1f} x | | |")
    return "\n".join(lines)


def where_rivals_win(rows: Iterable[dict[str, Any]], rivals: Collection[str]) -> str:
    """Return in plain words for which labels one of the classical tools has the higher Dice after 5 clicks."""
    places: dict[tuple[str, ...], dict[str, float]] = {}
    for row in rows:
        dice = row["dice"].get(str(AUC_CLICKS))
        if dice is not None and row["tool"] in ("UDFA", *rivals):
            name = row["tool"] if row["clicks_of"] == "own" else f"{row['tool']} on UDFA's clicks"
            places.setdefault((row["start"], row["robot"], row["label"]), {})[name] = dice
    if not any(len(found) > 1 for found in places.values()):
        return f"No classical tool was run up to {AUC_CLICKS} clicks."
    lines = []
    for (start, robot, label), found in sorted(places.items()):
        best = max(found, key=lambda name: found[name])
        if "UDFA" in found and found[best] > found["UDFA"]:
            lines.append(f"* {label}, {start}, robot {robot}: {best} {found[best]:.3f}, UDFA {found['UDFA']:.3f}")
    if not lines:
        return f"No classical tool has a higher mean Dice after {AUC_CLICKS} clicks."
    return "\n".join([f"Classical tools with a higher mean Dice after {AUC_CLICKS} clicks:", "", *lines])


def table_of(rows: Iterable[dict[str, Any]], most: int) -> str:
    """Return the groups over all labels, and UDFA's labels, as a Markdown table."""
    shown = [click for click in SHOWN_CLICKS if click <= most]
    head = ["start", "robot", "tool", "clicks of", "label", "runs", "NoC85", "NoC90", "NoC95", "failed 90"]
    head += [*(f"Dice {click}" for click in shown), "AUC 0-5", "harm", "outside box", "other labels"]
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for row in rows:
        if row["label"] != "all labels" and not (row["tool"] == "UDFA" and row["robot"] == "centre"):
            continue
        cells = [str(row[name]) for name in ("start", "robot", "tool", "clicks_of", "label", "runs")]
        cells += [f"{row[f'noc@{threshold:.2f}']:.1f}" for threshold in THRESHOLDS]
        cells += [str(row["failures@0.90"]), *(f"{row['dice'][str(click)]:.3f}" for click in shown)]
        cells += [f"{row['auc_0_5']:.3f}", f"{row['harm_rate_of_true_clicks']:.0%}"]
        lines.append(
            "| " + " | ".join([*cells, str(row["voxels_outside_box"]), str(row["voxels_of_other_labels"])]) + " |"
        )
    return "\n".join(lines)


def plot_means(folder: Path, runs: Sequence[Run], most: int) -> None:
    """Draw mean Dice against clicks for every tool, a panel per start and robot."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    starts, robots = (sorted({run.key[i] for run in runs}) for i in (1, 2))
    figure = Figure(figsize=(4.5 * len(robots), 3.6 * len(starts)), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(starts), len(robots), squeeze=False, sharex=True, sharey="row")
    clicks = np.arange(most + 1)
    for line, start in zip(panels, starts):
        for axes, robot in zip(line, robots):
            chosen = [run for run in runs if run.key[1:3] == (start, robot)]
            for tool, clicks_of in sorted({run.key[3:] for run in chosen}, key=lambda t: (t[0] != "UDFA", t)):
                own = [run for run in chosen if run.key[3:] == (tool, clicks_of)]
                mean = np.mean([[run.at(click) for click in clicks] for run in own], axis=0)
                name = tool if clicks_of == "own" else f"{tool}, UDFA's clicks"
                style = {"linewidth": 2.5} if tool == "UDFA" else {"linestyle": "-" if clicks_of == "own" else ":"}
                axes.plot(clicks, mean, label=name, **style)
            axes.set_title(
                f"{'from the automatic result' if start == 'auto' else 'from scratch'}, robot: {robot}", size=9
            )
            axes.set_xlabel("clicks")
            axes.set_ylabel("mean Dice")
            axes.grid(alpha=0.3)
        lowest = min(float(curve.get_ydata().min()) for axes in line for curve in axes.get_lines())
        line[0].set_ylim(math.floor(10 * lowest) / 10, 1)
    figure.legend(*panels[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=7)
    figure.savefig(folder / "dice_by_tool.png", dpi=130)


def plot_labels(folder: Path, runs: Sequence[Run], most: int) -> None:
    """Draw UDFA's Dice against clicks for every label, a panel per start."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    chosen = [run for run in runs if run.key[3] == "UDFA" and run.key[2] == "centre"]
    starts = sorted({run.key[1] for run in chosen})
    if not starts:
        return
    figure = Figure(figsize=(6 * len(starts), 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(starts), squeeze=False, sharey=True)[0]
    clicks = np.arange(most + 1)
    for axes, start in zip(panels, starts):
        for label in sorted({run.key[0] for run in chosen}):
            own = [run for run in chosen if run.key[:2] == (label, start)]
            if own:
                mean = np.mean([[run.at(click) for click in clicks] for run in own], axis=0)
                axes.plot(clicks, mean, label=label.replace("_", " "))
        axes.set_title("from the automatic result" if start == "auto" else "from scratch", size=10)
        axes.set_xlabel("clicks")
        axes.set_ylabel("Dice (UDFA, robot: centre)")
        axes.set_ylim(0, 1)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7)
    figure.savefig(folder / "dice_by_label.png", dpi=130)
