"""Random clicks on a real case: nothing outside the box, nothing in locked labels, undo and redo bit for bit.

    python Testing/Benchmarks/random_clicks.py --model abdomen-ct-mini --clicks 1000

The labels come from a reference labelmap, as a correction finds them. Locks change on the way; some clicks are strokes,
and some edits are brush strokes made elsewhere. Exit code 1 if a promise was broken.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "UDFASegmentation")]

from udfa.history import Edit  # noqa: E402
from udfa.interaction import CorrectionSession, Position  # noqa: E402

SAMPLE = ROOT / "Resources" / "sample" / "abdomen_ct.nii.gz"
REFERENCE = ROOT / "Resources" / "sample" / "abdomen_ct_reference.nii.gz"

STROKE_SHARE, BRUSH_SHARE, BORDER_SHARE = 0.1, 0.1, 0.5
"""Shares of strokes, of brush strokes made elsewhere, and of clicks near the border of a label."""


@dataclass
class Findings:
    """What random clicks showed; every count of a broken promise must be 0."""

    edits: int = 0
    outside_box: int = 0
    """Voxels that changed outside the edit's box."""
    in_locked: int = 0
    """Voxels that a locked label lost or won."""
    not_honoured: int = 0
    """Clicked voxels that are not as clicked, though nothing locked them."""
    foreign: int = 0
    """Voxels that changed without the clicked label taking or giving them."""
    undo_exact: bool = False
    redo_exact: bool = False
    changed: list[int] = field(default_factory=list)
    """Voxels per edit."""
    seconds: list[float] = field(default_factory=list)

    def broken(self) -> bool:
        """Whether a promise was broken."""
        counts = self.outside_box + self.in_locked + self.not_honoured + self.foreign
        return counts > 0 or not (self.undo_exact and self.redo_exact)

    def summary(self) -> dict[str, float | int | bool]:
        """Return the findings for a JSON file; numbers of changed voxels are those of the clicks that changed any."""
        effective = [count for count in self.changed if count]
        return {
            "edits": self.edits,
            "voxels_outside_box": self.outside_box,
            "voxels_in_locked_labels": self.in_locked,
            "clicks_not_honoured": self.not_honoured,
            "voxels_of_other_labels": self.foreign,
            "undo_exact": self.undo_exact,
            "redo_exact": self.redo_exact,
            "clicks": len(self.changed),
            "clicks_that_changed_something": len(effective),
            "median_changed_voxels": float(np.median(effective or [0])),
            "largest_changed_voxels": max(effective, default=0),
            "median_seconds": round(float(np.median(self.seconds or [0])), 4),
        }


def random_positions(labelmap: NDArray[np.uint8], random: np.random.Generator) -> Iterator[Position]:
    """Voxels: half of them anywhere, half near the border of a label."""
    while True:
        place = np.array([random.integers(n) for n in labelmap.shape])
        if random.random() < BORDER_SHARE:
            z = int(place[0])
            border = np.argwhere(labelmap[z, 1:, 1:] != labelmap[z, :-1, :-1])
            if len(border):
                place[1:] = border[random.integers(len(border))] + random.integers(-3, 5, 2)
                place = np.clip(place, 0, np.array(labelmap.shape) - 1)
        yield (int(place[0]), int(place[1]), int(place[2]))


def click_at_random(session: CorrectionSession, count: int, seed: int = 0) -> Findings:
    """Make `count` random edits, check each, then undo and redo all of them.

    Args:
        session: A session whose history is at least `count` deep.
        count: Number of edits.
        seed: Seed of all draws.
    """
    random = np.random.default_rng(seed)
    findings = Findings()
    start = session.labelmap.copy()
    places = random_positions(start, random)
    labels = len(session.segmenter.config.labels)
    for number in range(count):
        if number % 25 == 0:
            session.lock(random.choice(np.arange(1, labels + 1), size=min(labels - 1, 3), replace=False).tolist())
        before = session.labelmap.copy()
        began = time.perf_counter()
        if random.random() < BRUSH_SHARE:
            brush(session, next(places), int(random.integers(labels + 1)), random)
            continue
        path = [next(places)]
        if random.random() < STROKE_SHARE:
            path += [moved(path[0], before.shape, random) for _ in range(2)]
        value, positive = int(random.integers(1, labels + 1)), bool(random.random() < 0.6)
        if not positive and before[path[0]]:
            # Elsewhere a negative click says what is known already.
            value = int(before[path[0]])
        edit = session.scribble(path, value, positive)
        findings.seconds.append(time.perf_counter() - began)
        check(session, before, edit, path, findings)
    findings.edits = count
    end, prompts = session.labelmap.copy(), list(session.clicks)
    while session.undo() is not None:
        pass
    findings.undo_exact = bool(np.array_equal(session.labelmap, start)) and not session.clicks
    while session.redo() is not None:
        pass
    findings.redo_exact = bool(np.array_equal(session.labelmap, end)) and session.clicks == prompts
    return findings


def moved(place: Position, shape: tuple[int, ...], random: np.random.Generator) -> Position:
    """A voxel at most 6 voxels away."""
    d, h, w = (int(np.clip(p + random.integers(-6, 7), 0, n - 1)) for p, n in zip(place, shape))
    return (d, h, w)


def brush(session: CorrectionSession, place: Position, value: int, random: np.random.Generator) -> None:
    """Paint or erase a small box, as a brush elsewhere would."""
    painted = session.labelmap.copy()
    d, h, w = place
    painted[d, h : h + int(random.integers(1, 6)), w : w + int(random.integers(1, 6))] = value
    session.take_up(painted)


def check(
    session: CorrectionSession, before: NDArray[np.uint8], edit: Edit, path: list[Position], findings: Findings
) -> None:
    """Hold an edit against the promises."""
    after, click = session.labelmap, edit.clicks[0]
    changed = before != after
    findings.changed.append(int(changed.sum()))
    outside = changed.copy()
    outside[edit.box] = False
    findings.outside_box += int(outside.sum())
    locked = sorted(session.locked)
    findings.in_locked += int((changed & (np.isin(before, locked) | np.isin(after, locked))).sum())
    involved = after == click.value if click.positive else before == click.value
    findings.foreign += int((changed & ~involved).sum())
    for place in path:
        free = click.value not in session.locked and before[place] not in session.locked
        findings.not_honoured += int(free and bool(after[place] == click.value) != click.positive)


def main() -> int:
    """Run the check from the command line."""
    from udfa.checkpoint import load_checkpoint
    from udfa.devices import make_plan
    from udfa.inference import Segmenter
    from udfa.interaction import SessionOptions
    from udfa.models import resolve_model
    from udfa.volume_io import read_volume

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="checkpoint that takes clicks (default: abdomen-ct-mini)")
    parser.add_argument("--image", type=Path, default=SAMPLE)
    parser.add_argument("--labels", type=Path, default=REFERENCE, help="labelmap with the model's label values")
    parser.add_argument("--clicks", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--output", type=Path, help="JSON file for the findings")
    options = parser.parse_args()
    segmenter = Segmenter.from_checkpoint(load_checkpoint(resolve_model(options.model)), make_plan(options.device))
    volume, labels = read_volume(options.image), read_volume(options.labels).array.astype(np.uint8)
    session = CorrectionSession(segmenter, volume, labels, SessionOptions(undo_depth=options.clicks))
    findings = click_at_random(session, options.clicks, options.seed)
    text = json.dumps(findings.summary(), indent=2)
    print(text)
    if options.output is not None:
        options.output.write_text(text + "\n", encoding="utf-8")
    return int(findings.broken())


if __name__ == "__main__":
    sys.exit(main())
