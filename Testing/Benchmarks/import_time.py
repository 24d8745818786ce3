"""Prints how long importing the module file takes, and what took longest. Needs slicer-core and PySide6.

python Testing/Benchmarks/import_time.py
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

TESTING = Path(__file__).resolve().parents[1]
SCRIPT = f"""
import sys, tempfile, time
from pathlib import Path
sys.path[:0] = [{str(TESTING.parent / "UDFASegmentation")!r}, {str(TESTING)!r}]
import slicer
sys.path.append({str(TESTING / "Python")!r})
from doubles import harness
with harness.installed(Path(tempfile.mkdtemp())):
    import numpy, vtk, slicer.util
    print("BEGIN", file=sys.stderr)
    wall, processor = time.perf_counter(), time.process_time()
    import UDFASegmentation
    print(time.perf_counter() - wall, time.process_time() - processor)
"""
SHOWN = 8
LINE = re.compile(r"import time:\s+(\d+) \|\s+\d+ \|\s+(\S+)")


def main() -> None:
    """Import the module file in a fresh process, with Slicer's own packages loaded already."""
    command = [sys.executable, "-X", "importtime", "-c", SCRIPT]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    wall, processor = (float(value) for value in done.stdout.split())
    print(f"import UDFASegmentation: {wall:.3f} s, {processor:.3f} s of processor time")
    parts = [(int(own), name) for own, name in LINE.findall(done.stderr.split("BEGIN", 1)[1])]
    for own, name in sorted(parts, reverse=True)[:SHOWN]:
        print(f"  {own / 1000:8.1f} ms  {name}")


if __name__ == "__main__":
    main()
