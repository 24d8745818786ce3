"""How many clicks does a label need? Robots correct held-out cases with UDFA and with classical tools.

    python Testing/Benchmarks/robot_user.py --model abdomen-ct-mini --data DATA --output results --labels liver,spleen

The protocol is VerSe's (arXiv 2412.16381): clicks until Dice 0.85, 0.90, 0.95, at most 20, a failure counts as 20; from
the automatic result and from scratch. The robot clicks on after that, so that Dice after N clicks is that of N clicks
for every label, however good it was. DATA is a folder prepared by `udfa-train prepare`; its validation cases are used,
whose patients the checkpoint has never seen. Every tool is corrected by its own robot, which clicks into the largest
error that this tool has left, and the classical tools get UDFA's clicks as well ("same clicks"). "whole error" is no
tool but a bound: with each click the whole connected error, in 3D, is put right. Two more bounds put right of it only
what the click says (who adds does not remove), and only what lies on the clicked slice.

Writes clicks.csv (a row per click), summary.json, summary.md and PNG plots.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Optional, TypeVar

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "UDFASegmentation"), str(ROOT / "Testing")]

from Benchmarks.classical_tools import CLASSICAL_TOOLS, Tool  # noqa: E402
from Benchmarks.robot_report import write_report  # noqa: E402
from Benchmarks.robots import ROBOTS, Robot, RobotClick, next_click  # noqa: E402
from Benchmarks.whole_error import WholeError  # noqa: E402
from udfa.checkpoint import load_checkpoint  # noqa: E402
from udfa.config import DEFAULT_CARRY_SLICES  # noqa: E402
from udfa.devices import make_plan  # noqa: E402
from udfa.geometry import Volume, canonical_orientation  # noqa: E402
from udfa.inference import Segmenter  # noqa: E402
from udfa.interaction import CorrectionSession, SessionOptions  # noqa: E402
from udfa.metrics import dice  # noqa: E402
from udfa.models import resolve_model  # noqa: E402
from udfa.slice_network import SliceNetwork  # noqa: E402
from udfa.volume_io import read_volume  # noqa: E402

T = TypeVar("T")

MOST_CLICKS = 20

BOUNDS = ("whole error", "whole error of the click's sign", "whole error on the clicked slice")
"""Names of the bounds in tables and plots."""


@dataclass(frozen=True)
class Row:
    """One click, or click 0: the state before the first."""

    case: str
    label: str
    start: str
    """auto or scratch."""
    robot: str
    tool: str
    clicks_of: str
    """own: the robot saw this tool's result; udfa: it saw UDFA's."""
    click: int
    dice: float
    positive: Optional[bool] = None
    truthful: Optional[bool] = None
    changed: int = 0
    right: int = 0
    """Changed voxels that are right now."""
    outside_box: int = 0
    foreign: int = 0
    """Changed voxels that the clicked label neither took nor gave."""
    slices: int = 0
    seconds: float = 0.0
    encoded: int = 0
    """Slices that the encoder had to see for this click; 0 when all came from the cache."""


@dataclass(frozen=True)
class Settings:
    """What to run."""

    labels: Sequence[str]
    starts: Sequence[str]
    robots: Sequence[Robot]
    rivals: Sequence[str]
    most_clicks: int
    carry: int
    seed: int


class UDFATool:
    """The product's own session as a tool; sessions of a case share the encoder's features."""

    def __init__(
        self,
        segmenter: Segmenter,
        volume: Volume,
        labelmap: NDArray[np.uint8],
        carry: int,
        shared: Optional[SliceNetwork],
    ) -> None:
        self.session = CorrectionSession(segmenter, volume, labelmap, SessionOptions(carry_slices=carry))
        if shared is not None:
            self.session.network = shared
        self.labelmap = self.session.labelmap
        self.outside_box = self.slices = self.encoded = 0

    def click(self, position: tuple[int, int, int], value: int, positive: bool) -> float:
        """Click, and note what happened outside the box."""
        before = self.labelmap.copy()
        cached = self.session.network.encoded
        edit = self.session.click(position, value, positive)
        changed = before != self.labelmap
        changed[edit.box] = False
        self.outside_box, self.slices = int(changed.sum()), len(edit.slices)
        self.encoded = self.session.network.encoded - cached
        return edit.seconds


@dataclass(frozen=True)
class Case:
    """A held-out case with its automatic result."""

    name: str
    volume: Volume
    reference: NDArray[np.uint8]
    automatic: NDArray[np.uint8]
    slice_axis: int = 0
    """Axis across which the slices are stacked."""


def run(
    case: Case, segmenter: Segmenter, settings: Settings, shared: SliceNetwork, orders: Sequence[tuple[str, str, Robot]]
) -> Iterator[Row]:
    """Yield the rows of a case for each (label, start, robot)."""
    for label, start, robot in orders:
        value = segmenter.config.labels.index(label) + 1
        beginning = case.automatic.copy() if start == "auto" else np.zeros_like(case.automatic)
        tool = UDFATool(segmenter, case.volume, beginning, settings.carry, shared)
        base = {"case": case.name, "label": label, "start": start, "robot": robot.name}
        made: list[RobotClick] = []
        yield from corrected(tool, case, value, robot, settings, {**base, "tool": "UDFA", "clicks_of": "own"}, made)
        for name, bound in bounds(beginning, case).items():
            yield from corrected(bound, case, value, robot, settings, {**base, "tool": name, "clicks_of": "own"}, [])
        for name in settings.rivals:
            for clicks_of, replay in (("own", None), ("udfa", made)):
                rival = CLASSICAL_TOOLS[name](case.volume.array, case.volume.spacing_mm, beginning.copy())
                where = {**base, "tool": name, "clicks_of": clicks_of}
                yield from corrected(rival, case, value, robot, settings, where, [], replay)


def bounds(beginning: NDArray[np.uint8], case: Case) -> dict[str, WholeError]:
    """The bounds by name, each with a copy of the labelmap from which it starts."""
    whole = WholeError(beginning.copy(), case.reference)
    of_sign = WholeError(beginning.copy(), case.reference, same_sign=True)
    on_slice = WholeError(beginning.copy(), case.reference, slice_axis=case.slice_axis)
    return dict(zip(BOUNDS, (whole, of_sign, on_slice)))


def corrected(
    tool: Tool,
    case: Case,
    value: int,
    robot: Robot,
    settings: Settings,
    where: dict[str, str],
    made: list[RobotClick],
    replay: Optional[Sequence[RobotClick]] = None,
) -> Iterator[Row]:
    """Let a robot correct a label with a tool; yields a row per click and fills `made` with the clicks.

    Args:
        tool: Starts from its labelmap.
        case: Volume and reference.
        value: Label value.
        robot: How to click.
        settings: Limits and seed.
        where: The columns that name the run.
        made: Takes the clicks.
        replay: Clicks to make instead of the robot's own.
    """
    random = np.random.default_rng([settings.seed, zlib.crc32("|".join(where.values()).encode())])
    reference = case.reference == value
    score = dice(tool.labelmap == value, reference)
    yield Row(**where, click=0, dice=score)
    for number in range(1, settings.most_clicks + 1):
        if replay is not None:
            click = replay[number - 1] if number <= len(replay) else None
        else:
            click = next_click(
                tool.labelmap == value, reference, case.volume.spacing_mm, robot, random, case.slice_axis
            )
        if click is None:
            return
        before = tool.labelmap.copy()
        seconds = tool.click(click.position, value, click.positive)
        made.append(click)
        changed = before != tool.labelmap
        right = changed & ((tool.labelmap == value) == reference)
        score = dice(tool.labelmap == value, reference)
        yield Row(
            **where,
            click=number,
            dice=score,
            positive=click.positive,
            truthful=click.truthful,
            changed=int(changed.sum()),
            right=int(right.sum()),
            outside_box=getattr(tool, "outside_box", 0),
            foreign=int((changed & (before != value) & (tool.labelmap != value)).sum()),
            slices=getattr(tool, "slices", 0),
            seconds=seconds,
            encoded=getattr(tool, "encoded", 0),
        )


Times = dict[str, list[float]]
"""Seconds by what was done: elapsed, and under the name with _cpu of the processor."""

REPAIR_MM = 15.0
"""Radius of the ball that is missing in the labels that a click repairs."""


def noted(times: Times, name: str, work: Callable[[], T]) -> T:
    """Do something and note how long it took."""
    elapsed, busy = time.perf_counter(), time.process_time()
    result = work()
    times.setdefault(name, []).append(time.perf_counter() - elapsed)
    times.setdefault(f"{name}_cpu", []).append(time.process_time() - busy)
    return result


def slab_of(case: Case, middle: int, reach: int) -> Volume:
    """The slices up to `reach` around one as a volume of their own."""
    volume, pieces = case.volume, [slice(None)] * 3
    pieces[case.slice_axis] = slice(max(0, middle - reach), middle + reach + 1)
    slab = np.ascontiguousarray(volume.array[tuple(pieces)])
    return Volume(slab, volume.spacing_mm, volume.direction, volume.origin_mm)


def timing_of(segmenter: Segmenter, case: Case, carry: int, repeats: int = 5) -> Times:
    """Times of clicks, and of segmenting what they reach again, in turn, so that both meet the same machine.

    The clicks are made in the middle of the largest label: the first one of a session, which has to run the encoder,
    and next ones, whose features are cached. From scratch with the given carrying; on one slice; and where a ball is
    missing in a label that is right elsewhere, against the slices that this repair reaches.
    """
    value = int(np.bincount(case.reference.ravel(), minlength=2)[1:].argmax()) + 1
    others = tuple(axis for axis in range(3) if axis != case.slice_axis)
    planes = np.flatnonzero((case.reference == value).any(axis=others))
    middle = int(planes[len(planes) // 2])
    pixels = np.argwhere(np.take(case.reference, middle, axis=case.slice_axis) == value)
    place = [int(p) for p in pixels[len(pixels) // 2]]
    place.insert(case.slice_axis, middle)
    position = (place[0], place[1], place[2])
    nothing = np.zeros_like(case.reference)
    holed = with_hole(case.reference, value, position, case.volume.spacing_mm)
    times: Times = {}
    for ending, limit, labelmap in (("", carry, nothing), ("_repair", carry, holed), ("_one_slice", 0, nothing)):
        for _ in range(repeats):
            session = CorrectionSession(segmenter, case.volume, labelmap, SessionOptions(carry_slices=limit))
            for kind in ("first", "next", "next"):
                edit = noted(times, f"{kind}_click{ending}", lambda: session.click(position, value))  # noqa: B023
                session.undo()
            reach = max((abs(z - middle) for z in edit.slices), default=0) if labelmap is holed else limit
            slab = slab_of(case, middle, reach)
            noted(times, f"segment_again{ending}", lambda: segmenter.segment(slab))  # noqa: B023
    return times


def with_hole(
    labelmap: NDArray[np.uint8], value: int, centre: tuple[int, int, int], spacing_mm: tuple[float, float, float]
) -> NDArray[np.uint8]:
    """A copy of a labelmap without the part of a label that lies within REPAIR_MM of a voxel."""
    axes = np.ogrid[tuple(slice(n) for n in labelmap.shape)]
    squared = sum(((axis - c) * s) ** 2 for axis, c, s in zip(axes, centre, spacing_mm))
    return np.where((labelmap == value) & (squared <= REPAIR_MM**2), 0, labelmap).astype(np.uint8)


def main() -> int:
    """Run the benchmark from the command line."""
    options = parse()
    started = time.monotonic()
    plan = make_plan(options.device)
    checkpoint = load_checkpoint(resolve_model(options.model))
    segmenter = Segmenter.from_checkpoint(checkpoint, plan)
    names = options.labels.split(",") if options.labels else segmenter.config.labels
    if unknown := [name for name in names if name not in segmenter.config.labels]:
        raise SystemExit(f"--labels: {', '.join(unknown)} unknown; there are: {', '.join(segmenter.config.labels)}.")
    settings = Settings(
        labels=list(names),
        starts=options.starts.split(","),
        robots=[robot for robot in ROBOTS if robot.name in options.robots.split(",")],
        rivals=[name for name in CLASSICAL_TOOLS if name in options.rivals.split(",")],
        most_clicks=options.most_clicks,
        carry=options.carry,
        seed=options.seed,
    )
    options.output.mkdir(parents=True, exist_ok=True)
    timing: Times = {}
    with (options.output / "clicks.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [f.name for f in fields(Row)])
        writer.writeheader()
        for case in load_cases(options, segmenter):
            if not timing:
                timing = timing_of(segmenter, case, settings.carry)
            for row in rows_of(case, segmenter, settings):
                writer.writerow(asdict(row))
                file.flush()
            print(f"{case.name}: done after {time.monotonic() - started:.0f} s", flush=True)
    run_facts = {
        "model": checkpoint.info.name,
        "content_sha256": checkpoint.info.content_sha256,
        "plan": plan.describe(),
        "most_clicks": settings.most_clicks,
        "carry_slices": settings.carry,
        "seed": settings.seed,
        "seconds": round(time.monotonic() - started, 1),
    }
    (options.output / "timing.json").write_text(json.dumps(timing, indent=2), encoding="utf-8")
    print(write_report(options.output, run_facts))
    print(f"Written: {options.output}/summary.md, summary.json, clicks.csv, timing.json, *.png")
    return 0


def rows_of(case: Case, segmenter: Segmenter, settings: Settings) -> Iterator[Row]:
    """Yield all rows of a case, for the labels that it has."""
    session = CorrectionSession(segmenter, case.volume, case.automatic, SessionOptions(cache_bytes=4 * 1024**3))
    present = [n for n in settings.labels if (case.reference == segmenter.config.labels.index(n) + 1).any()]
    orders = [(n, start, robot) for n in present for start in settings.starts for robot in settings.robots]
    yield from run(case, segmenter, settings, session.network, orders)


def load_cases(options: argparse.Namespace, segmenter: Segmenter) -> Iterator[Case]:
    """Read the held-out cases one by one and segment them."""
    manifest = json.loads((options.data / "manifest.json").read_text(encoding="utf-8"))
    if list(manifest["labels"]) != list(segmenter.config.labels):
        raise SystemExit(f"The data has labels {manifest['labels']}, the model {list(segmenter.config.labels)}.")
    entries = [entry for entry in manifest["cases"] if entry["split"] == "val"]
    for entry in entries[: options.cases]:
        volume = read_volume(options.data / entry["image"])
        reference = read_volume(options.data / entry["label"]).array.astype(np.uint8)
        axis = canonical_orientation(volume, segmenter.config.preprocessing.slice_axis).permutation[0]
        yield Case(entry["name"], volume, reference, segmenter.segment(volume).labelmap, axis)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="checkpoint that takes clicks (default: abdomen-ct-mini)")
    parser.add_argument("--data", type=Path, required=True, help="folder prepared by udfa-train prepare")
    parser.add_argument("--output", type=Path, required=True, help="folder for the results")
    parser.add_argument("--labels", help="names separated by commas (default: all)")
    parser.add_argument("--cases", type=int, help="only the first N held-out cases")
    parser.add_argument("--starts", default="auto,scratch", help="auto, scratch, or both")
    parser.add_argument("--robots", default=",".join(robot.name for robot in ROBOTS))
    parser.add_argument("--rivals", default=",".join(CLASSICAL_TOOLS), help="classical tools to compare with")
    parser.add_argument("--most-clicks", type=int, default=MOST_CLICKS)
    parser.add_argument(
        "--carry", type=int, default=DEFAULT_CARRY_SLICES, help="slices up and down that a correction may be carried"
    )
    parser.add_argument("--device", default="auto")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    known = {"starts": ["auto", "scratch"], "robots": [robot.name for robot in ROBOTS], "rivals": list(CLASSICAL_TOOLS)}
    for option, names in known.items():
        if unknown := sorted(set(filter(None, getattr(options, option).split(","))) - set(names)):
            parser.error(f"--{option}: {', '.join(unknown)} unknown; there are: {', '.join(names)}.")
    return options


if __name__ == "__main__":
    sys.exit(main())
