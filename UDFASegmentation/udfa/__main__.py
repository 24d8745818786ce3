"""`python -m udfa` is the same as `udfa`; in Slicer: `PythonSlicer -m udfa doctor`."""

import sys

from udfa.cli import main

sys.exit(main())
