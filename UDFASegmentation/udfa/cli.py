"""Command line: udfa segment, udfa refine, udfa cine, udfa models, udfa doctor.

Exit codes: 0 done, 1 failed, 2 wrong usage, 130 cancelled with Ctrl+C. Heavy packages are imported by the commands
that need them, so that `--help` answers at once and works when they are not installed.
"""

from __future__ import annotations

import argparse
import errno
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import udfa
from udfa.cli_arguments import add_cine_arguments, add_refine_arguments, add_segment_arguments
from udfa.errors import CancelledError, UDFAError
from udfa.messages import Messages

DISK_ERRORS = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT)
"""Errors of the system that a user can act on."""

DONE, FAILED, WRONG_USAGE, CANCELLED = 0, 1, 2, 130

EXAMPLES = """examples:
  udfa segment ct.nii.gz --output organs.seg.nrrd
  udfa segment dicom_folder --output organs.nii.gz --labels liver,spleen --report report
  udfa segment mr.nrrd --output heart.seg.nrrd --model my_model.safetensors --device cpu
  udfa refine ct.nii.gz organs.seg.nrrd --click 85.5,-20,-310,liver,+ --output corrected.seg.nrrd
  udfa cine heart.seq.nrrd --output heart
  udfa models
  udfa doctor

Research use only: not a medical device, not for diagnosis or treatment.
"""

SEGMENT_NOTES = """OUT may be
  .seg.nrrd   a segmentation for 3D Slicer: one segment per label found, with name, colour and terminology
  .nii.gz     a labelmap, with names, colours and provenance in OUT's name ending in .json
  .nrrd       likewise

examples:
  udfa segment ct.nii.gz --output organs.seg.nrrd
  udfa segment dicom_folder --output organs.nii.gz --labels liver,spleen --report report --uncertainty doubt.nii.gz

exit codes: 0 done, 1 failed, 2 wrong usage, 130 cancelled. On failure or Ctrl+C nothing is written.
"""

REFINE_NOTES = """A click is x,y,z,LABEL,+ (the place belongs to LABEL) or x,y,z,LABEL,- (it does not); clicks are made
in the order given. Segments that the model does not know stay as they are. A file beside OUT, its name ending in
.audit.json, tells what every click did.

examples:
  udfa refine ct.nii.gz organs.seg.nrrd --click 85.5,-20,-310,liver,+ --output corrected.seg.nrrd
  udfa refine ct.nii.gz organs.nii.gz --coordinates ijk --click 300,250,40,spleen,- --lock liver,stomach --carry 8 \\
      --output corrected.nii.gz

exit codes: 0 done, 1 failed, 2 wrong usage, 130 cancelled. On failure or Ctrl+C nothing is written.
"""

CINE_NOTES = """INPUT has all frames: a 4D NIfTI, NRRD or MHA file, or a sequence saved by 3D Slicer (.seq.nrrd). Of
INPUT heart.seq.nrrd, FOLDER gets
  heart_labels.nii.gz   labels of all frames (4D), with names and provenance in heart_labels.json
  heart_volumes.csv     volumes of each frame in mL
  heart_function.csv    of both ventricles: volumes at end-diastole and end-systole, ejection fraction; myocardial mass
  heart_volumes.png     volumes against frames, if matplotlib is installed

examples:
  udfa cine heart.seq.nrrd --output heart
  udfa cine cine_4d.nii.gz --output results --device cuda

exit codes: 0 done, 1 failed, 2 wrong usage, 130 cancelled. On failure or Ctrl+C nothing is written.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code; wrong usage exits with 2 as argparse does."""
    for stream in (sys.stdout, sys.stderr):
        # A label name that the terminal's encoding lacks must not end the run.
        getattr(stream, "reconfigure", lambda **_: None)(errors="replace")
    options = build_parser().parse_args(_with_joined_clicks(sys.argv[1:] if arguments is None else arguments))
    try:
        return int(options.run(options))
    except (KeyboardInterrupt, CancelledError):
        return _say("cancelled; nothing was written.", options.debug, CANCELLED)
    except UDFAError as error:
        return _say(str(error), options.debug, FAILED)
    except ImportError as error:
        return _say(f"{error}. 'udfa doctor' says what is missing.", options.debug, FAILED)
    except Exception as error:
        return _say(_unexpected(error), options.debug, FAILED)


def _unexpected(error: Exception) -> str:
    """What to say of an error that nobody raised on purpose."""
    if isinstance(error, OSError) and error.errno in DISK_ERRORS:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}. Check permissions and free space of the files and folders."
    return f"{type(error).__name__}: {error} (--debug shows where; 'udfa doctor' checks the installation)"


def _with_joined_clicks(arguments: Sequence[str]) -> list[str]:
    """Join "--click" with a place that begins with a minus sign, which argparse would take for an option."""
    joined: list[str] = []
    for argument in arguments:
        if joined and joined[-1] == "--click" and re.match(r"-[\d.]", argument):
            joined[-1] += f"={argument}"
        else:
            joined.append(argument)
    return joined


def _say(text: str, debug: bool, code: int) -> int:
    """Print an error as one line, after the traceback if that is wanted; return the exit code."""
    if debug:
        traceback.print_exc()
    print(f"udfa: {' '.join(text.split())}", file=sys.stderr)
    return code


def build_parser() -> argparse.ArgumentParser:
    """Return the argument parser."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="udfa", description="Segment medical images with U-DFA networks.", epilog=EXAMPLES, formatter_class=raw
    )
    parser.add_argument("--version", action="version", version=f"udfa {udfa.__version__}")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--debug", action="store_true", help="show the traceback of an error")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, run: Callable[[argparse.Namespace], int], **texts: Any) -> argparse.ArgumentParser:
        command = commands.add_parser(name, parents=[common], formatter_class=raw, **texts)
        command.set_defaults(run=run)
        return command

    text = "Segment a volume. The result lies on exactly the voxel grid of the input."
    add_segment_arguments(add("segment", _segment, help="segment a volume", description=text, epilog=SEGMENT_NOTES))
    text = "Correct a segmentation by clicks, as the Segment Editor effect does."
    brief = "correct a segmentation by clicks"
    add_refine_arguments(add("refine", _refine, help=brief, description=text, epilog=REFINE_NOTES))
    text = "Segment all frames of a cine series of the heart, and tell the ventricular function."
    brief = "segment all frames of a cine series, tell ventricular function"
    add_cine_arguments(add("cine", _cine, help=brief, description=text, epilog=CINE_NOTES))
    add("models", _models, help="list the checkpoints on this machine")
    add("doctor", _doctor, help="check the installation and print a report to paste into a question")
    return parser


def _segment(options: argparse.Namespace) -> int:
    from udfa.segment_command import SegmentJob, run_segment

    job = SegmentJob(
        input=options.input,
        output=options.output,
        model=options.model,
        labels=options.labels,
        uncertainty=options.uncertainty,
        report=options.report,
        device=options.device,
        precision=options.precision,
        batch_size=options.batch_size,
        cleanup=not options.no_cleanup,
        backbone_weights=options.backbone_weights,
    )
    return _told(run_segment, job, options)


def _refine(options: argparse.Namespace) -> int:
    from udfa.refine import ClickRequest, RefineJob, run_refine

    job = RefineJob(
        input=options.input,
        segmentation=options.segmentation,
        output=options.output,
        clicks=tuple(ClickRequest(*click) for click in options.clicks),
        coordinates=options.coordinates,
        lock=options.lock,
        carry=options.carry,
        audit=options.audit,
        model=options.model,
        device=options.device,
        precision=options.precision,
        backbone_weights=options.backbone_weights,
    )
    return _told(run_refine, job, options)


def _cine(options: argparse.Namespace) -> int:
    from udfa.cine_command import CineJob, run_cine

    job = CineJob(
        input=options.input,
        output=options.output,
        model=options.model,
        device=options.device,
        precision=options.precision,
        batch_size=options.batch_size,
        cleanup=not options.no_cleanup,
        backbone_weights=options.backbone_weights,
    )
    return _told(run_cine, job, options)


def _told(run: Callable[[Any, Messages], Any], job: Any, options: argparse.Namespace) -> int:
    """Do a job, tell how it goes, and print what came out."""
    messages = Messages(sys.stderr, options.quiet)
    try:
        outcome = run(job, messages)
    finally:
        messages.close_line()
    if not options.quiet:
        print(outcome.summary())
    return DONE


def _models(options: argparse.Namespace) -> int:
    from udfa.models import describe_models, list_models

    print(describe_models(list_models()))
    return DONE


def _doctor(options: argparse.Namespace) -> int:
    from udfa.doctor import examine, format_report, has_failure

    checks = examine()
    print(format_report(checks))
    return FAILED if has_failure(checks) else DONE


if __name__ == "__main__":
    sys.exit(main())
