"""UDFA core: U-DFA networks, checkpoints, preprocessing, inference and correction, free of Slicer.

Importing this package imports neither torch nor SimpleITK; the submodules do so when they are needed.
"""

__version__ = "0.1.0"
