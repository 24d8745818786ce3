"""Arguments of the commands, and how their words are read. Light: `--help` must answer at once."""

from __future__ import annotations

import argparse
import math
import re
from pathlib import Path

from udfa.config import DEFAULT_CARRY_SLICES
from udfa.errors import UDFAError
from udfa.output_names import LABELMAP_SUFFIXES, OUTPUT_SUFFIXES, split_name


def add_segment_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `udfa segment` takes."""
    parser.add_argument(
        "input", type=Path, metavar="INPUT", help="NIfTI, NRRD or MHA file, or a folder with one DICOM series"
    )
    parser.add_argument(
        "--output", "-o", type=_output, required=True, metavar="OUT", help="result: .seg.nrrd, .nii.gz or .nrrd"
    )
    _add_model_arguments(parser)
    parser.add_argument("--labels", type=_names, metavar="A,B", help="write only these labels (default: all)")
    parser.add_argument(
        "--uncertainty", type=_volume_output, metavar="FILE", help="also write the voxelwise uncertainty, 0 to 255"
    )
    parser.add_argument(
        "--report", type=Path, metavar="DIR", help="also write volumes (CSV) and an overview (PNG) there"
    )
    _add_run_arguments(parser)


def add_cine_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `udfa cine` takes."""
    parser.add_argument(
        "input", type=Path, metavar="INPUT", help="4D NIfTI, NRRD or MHA file, or a sequence of Slicer (.seq.nrrd)"
    )
    parser.add_argument(
        "--output", "-o", type=Path, required=True, metavar="FOLDER", help="folder for the results; made if missing"
    )
    _add_model_arguments(parser, "cardiac-mr-mini")
    _add_run_arguments(parser)


def add_refine_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `udfa refine` takes."""
    parser.add_argument("input", type=Path, metavar="INPUT", help="the volume that was segmented")
    parser.add_argument(
        "segmentation", type=Path, metavar="SEGMENTATION", help=".seg.nrrd, or a labelmap with its JSON beside it"
    )
    parser.add_argument(
        "--click",
        type=_click,
        action="append",
        required=True,
        dest="clicks",
        metavar="X,Y,Z,LABEL,+|-",
        help="may be repeated",
    )
    parser.add_argument(
        "--output", "-o", type=_output, required=True, metavar="OUT", help="result: .seg.nrrd, .nii.gz or .nrrd"
    )
    parser.add_argument(
        "--coordinates",
        choices=("ras", "ijk"),
        default="ras",
        help="ras: mm, as in Slicer; ijk: voxel indices from 0 (default: ras)",
    )
    parser.add_argument("--lock", type=_names, default=(), metavar="A,B", help="labels that must not change")
    parser.add_argument(
        "--carry",
        type=_count,
        default=DEFAULT_CARRY_SLICES,
        metavar="N",
        help=f"slices a correction may carry up and down (default: {DEFAULT_CARRY_SLICES})",
    )
    parser.add_argument("--audit", type=Path, metavar="FILE", help="where to write the record (default: beside OUT)")
    _add_model_arguments(parser, "the one that made the segmentation, else abdomen-ct-mini")
    parser.add_argument("--quiet", "-q", action="store_true", help="print nothing but warnings and errors")


def _add_model_arguments(parser: argparse.ArgumentParser, default: str = "abdomen-ct-mini") -> None:
    parser.add_argument("--model", metavar="NAME|PATH", help=f"checkpoint (default: {default}; see 'udfa models')")
    parser.add_argument("--device", type=_device, default="auto", help="auto, cpu, cuda, cuda:N or mps (default: auto)")
    parser.add_argument(
        "--precision",
        choices=("auto", "float32", "float16", "bfloat16"),
        default="auto",
        help="number format (default: auto)",
    )
    parser.add_argument(
        "--backbone-weights", type=Path, metavar="FILE", help="local DINOv2 weights, for checkpoints that need them"
    )


def _add_run_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--batch-size", type=_positive, metavar="N", help="slices at a time (default: chosen by device)"
    )
    parser.add_argument(
        "--no-cleanup", action="store_true", help="keep small islands too, which the model drops for some labels"
    )
    parser.add_argument("--quiet", "-q", action="store_true", help="print nothing but warnings and errors")


def _output(text: str, suffixes: tuple[str, ...] = OUTPUT_SUFFIXES) -> Path:
    try:
        split_name(Path(text), suffixes)
    except UDFAError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return Path(text)


def _volume_output(text: str) -> Path:
    return _output(text, LABELMAP_SUFFIXES)


def _names(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not names:
        raise argparse.ArgumentTypeError("expected names separated by commas, such as liver,spleen")
    return names


def _device(text: str) -> str:
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", text):
        raise argparse.ArgumentTypeError(f"'{text}' is not one of auto, cpu, cuda, cuda:N, mps")
    return text


def _click(text: str) -> tuple[tuple[float, float, float], str, bool]:
    """Parse x,y,z,LABEL,+ into place, label and whether it is positive."""
    parts = [part.strip() for part in text.split(",")]
    try:
        x, y, z = (float(part) for part in parts[:3])
        label, sign = parts[3:]
        if sign not in ("+", "-") or not label or not all(map(math.isfinite, (x, y, z))):
            raise ValueError
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"'{text}' is not of the form x,y,z,LABEL,+ or x,y,z,LABEL,-") from error
    return (x, y, z), label, sign == "+"


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number of at least 0")
    return int(text)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number of at least 1")
    return int(text)
