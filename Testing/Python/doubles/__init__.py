"""Doubles of what PythonQt, CTK and qMRML offer in Slicer, on PySide6 and real MRML, for tests of the panel.

They are small and strict: a name, signal or property that the double does not know raises. A pass says that the code
fits our reading of Slicer's source (listed in `Testing/Python/slicer/slicer_api.json`), not that Slicer was run.
"""
