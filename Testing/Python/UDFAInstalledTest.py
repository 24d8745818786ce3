"""Runs inside Slicer (ctest): the installed module brings its own core and resources, and loads without torch."""

import sys
import unittest
from pathlib import Path

import slicer


class UDFAInstalledTest(unittest.TestCase):
    """What Slicer sees after the extension was built or installed."""

    def setUp(self):
        self.folder = Path(slicer.modules.udfasegmentation.path).parent

    def test_the_core_is_the_one_beside_the_module(self):
        """A `udfa` installed with pip into Slicer's Python would shadow the bundled one."""
        import udfa

        assert Path(udfa.__file__).resolve().parent == (self.folder / "udfa").resolve()

    def test_importing_the_core_does_not_import_torch(self):
        before = "torch" in sys.modules
        import udfa.config
        import udfa.labels  # noqa: F401

        assert ("torch" in sys.modules) == before

    def test_the_resources_are_installed(self):
        for kind in ("UI/*.ui", "Icons/UDFASegmentation.png", "requirements.txt"):
            assert list((self.folder / "Resources").glob(kind)), f"{kind} is missing in {self.folder}"


if __name__ == "__main__":
    unittest.main()
