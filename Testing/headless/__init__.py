"""The real Slicer machinery of the slicer-core package, started without the Slicer application."""
