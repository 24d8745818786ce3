"""The module's sample data in Slicer's Sample Data module. The files ship with the module: no network is needed.

Slicer copies them from their `file:` address into its cache, checks the SHA-256 and loads them, as it does with
downloads. That way the buttons of the Sample Data module and `SampleData.downloadSample(name)` work alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

CATEGORY = "UDFA Segmentation"
"""Heading in the Sample Data module."""


@dataclass(frozen=True)
class Sample:
    """One data set."""

    name: str
    """Name for scripts: `SampleData.downloadSample(name)`; also the node's name."""
    fileName: str
    thumbnail: str
    sha256: str
    loadFileType: str
    """Kind of file as Slicer's readers name it."""


ABDOMEN_CT = Sample(
    "UDFAAbdomenCT",
    "abdomen_ct.nii.gz",
    "AbdomenCT.png",
    "7811475c3e61c4310c51b56998b365ef5d561919388ecb89839f3cf119389e8c",
    "VolumeFile",
)
CARDIAC_CINE = Sample(
    "UDFACardiacCine",
    "cardiac_cine.seq.nrrd",
    "CardiacCine.png",
    "09f48823285cd49306ae717c92126939e1ab7466e4b8c9a7a7c77d60b5ac2664",
    "SequenceFile",
)
SAMPLES = (ABDOMEN_CT, CARDIAC_CINE)


def sampleFolder() -> Path:
    """Return the folder of the files."""
    return Path(__file__).resolve().parent.parent / "Resources" / "SampleData"


def registerSampleData(sampleDataLogic: Any = None) -> None:
    """Add the data sets to the Sample Data module; call it when Slicer has started up.

    Args:
        sampleDataLogic: SampleData.SampleDataLogic; None for Slicer's.
    """
    if sampleDataLogic is None:
        import SampleData

        sampleDataLogic = SampleData.SampleDataLogic
    folder = sampleFolder()
    for sample in SAMPLES:
        sampleDataLogic.registerCustomSampleDataSource(
            category=CATEGORY,
            sampleName=sample.name,
            thumbnailFileName=str(folder / sample.thumbnail),
            uris=(folder / sample.fileName).as_uri(),
            fileNames=f"UDFA-{sample.fileName}",
            nodeNames=sample.name,
            loadFileType=sample.loadFileType,
            checksums=f"SHA256:{sample.sha256}",
        )
