"""Segments the bundled sample CT through the Slicer layer, and leaves files and a picture in demo/.

    python Testing/demo.py [--model NAME_OR_PATH] [--output FOLDER]

Needs no Slicer: the real MRML comes from PyPI's slicer-core.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from udfa.statistics import LabelStatistics
    from UDFASegmentationLib.Contracts import LoadedModel
    from UDFASegmentationLib.SegmentationLogic import SegmentationLogic

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "UDFASegmentation"))

SAMPLE = ROOT / "Resources" / "sample"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; returns 0 when all files were written."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="name or path of a checkpoint (default: the bundled one)")
    parser.add_argument("--output", type=Path, default=ROOT / "demo", help="folder for the results (default: demo)")
    options = parser.parse_args(arguments)
    from headless.requirements import missing_slicer

    if missing_slicer():
        sys.exit(f"demo: {missing_slicer()}")
    from udfa.errors import UDFAError

    try:
        run(options.model, options.output)
    except UDFAError as error:
        sys.exit(f"demo: {error}")
    return 0


def run(model_name: str | None, output: Path) -> None:
    """Segment the sample, write all results, and print a table."""
    import slicer.util

    from headless.boot import boot
    from headless.overview import write_overview
    from headless.overview_parts import Overview
    from headless.reading import read_labels
    from udfa.errors import UDFAError
    from udfa.statistics import label_statistics, write_csv
    from UDFASegmentationLib.SegmentationLogic import SegmentationLogic
    from UDFASegmentationLib.VolumeConversion import readVolume

    boot()
    output.mkdir(parents=True, exist_ok=True)
    logic = SegmentationLogic()
    model = logic.model(model_name)
    volume = slicer.util.loadVolume(str(SAMPLE / "abdomen_ct.nii.gz"))
    segmentation = segment(logic, volume, model)
    saved = slicer.util.saveNode(segmentation, str(output / "abdomen.seg.nrrd"))
    if not saved or not slicer.util.saveScene(str(output / "scene.mrb")):
        raise UDFAError(f"Slicer could not write to {output}. Check that there is space, and the permission to write.")
    # What is measured, shown and compared is read back from the scene.
    image, labels = readVolume(volume), dict(enumerate(model.labels, start=1))
    labelmap = read_labels(segmentation, volume, {label.name: value for value, label in labels.items()})
    statistics = label_statistics(labelmap, image, labels)
    write_csv(output / "statistics.csv", statistics)
    texts = ("Abdominal organs (CT)", f"found by the model {model.name}")
    how = write_overview(
        output / "overview.png", Overview(volume, segmentation, labelmap, image, labels, statistics, *texts)
    )
    print_table(statistics, labelmap)
    print(f"\n{segmentation.GetAttribute('UDFA.Seconds')} s on {segmentation.GetAttribute('UDFA.Device')}.")
    print(f"Panels drawn by {how}.")
    for name in ("abdomen.seg.nrrd", "scene.mrb", "statistics.csv", "overview.png"):
        print(output / name)


def segment(logic: SegmentationLogic, volume: Any, model: LoadedModel) -> Any:
    """Segment a volume node with a progress bar; returns the segmentation node, with surfaces."""
    from tqdm import tqdm

    from UDFASegmentationLib.Contracts import SegmentationSettings

    settings = SegmentationSettings(closedSurface=True)
    slices = volume.GetImageData().GetDimensions()[2]
    with tqdm(desc=f"Segmenting with {model.name}", total=slices, unit="slice") as bar:
        return logic.segmentVolume(volume, model, settings, progress=lambda state: bar.update(state.done - bar.n))


def print_table(statistics: Sequence[LabelStatistics], labelmap: NDArray[np.uint8]) -> None:
    """Print volume and agreement with the bundled reference for each organ."""
    from udfa.metrics import dice_per_label
    from udfa.volume_io import read_volume

    reference = read_volume(SAMPLE / "abdomen_ct_reference.nii.gz").array
    scores = dice_per_label(labelmap, reference, [row.value for row in statistics])
    print(f"\n{'organ':30s} {'volume':>10s}   Dice with the reference")
    for row in statistics:
        score = scores[row.value]
        print(f"{row.title:30s} {row.volume_ml:7.1f} mL   {'-' if math.isnan(score) else f'{score:.3f}'}")
    print("\nThe reference is the output of another network at 3 mm, not a reader's: see Resources/sample/README.md.")


if __name__ == "__main__":
    sys.exit(main())
