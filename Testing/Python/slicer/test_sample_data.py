"""The sample data: registered as Slicer's Sample Data module wants it, whole, loadable, and what the README says."""

from __future__ import annotations

import hashlib
import inspect
import re
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from UDFASegmentationLib.SampleDataSources import CATEGORY, SAMPLES, registerSampleData, sampleFolder

CT_SUM = -496851173
"""Sum of all voxels of the original CT."""


class SampleDataLogic:
    """SampleData.SampleDataLogic: the static method's parameters as in Slicer 5.8 to 5.12, sources in a list."""

    def __init__(self):
        self.sources = []

    def registerCustomSampleDataSource(
        self,
        category="Custom",
        sampleName=None,
        uris=None,
        fileNames=None,
        nodeNames=None,
        customDownloader=None,
        thumbnailFileName=None,
        loadFileType="VolumeFile",
        loadFiles=None,
        loadFileProperties=None,
        checksums=None,
    ):
        frame = inspect.currentframe()
        assert frame is not None
        names = inspect.signature(self.registerCustomSampleDataSource).parameters
        self.sources.append({name: frame.f_locals[name] for name in names})


@pytest.fixture(scope="module")
def sources() -> list[dict[str, str]]:
    logic = SampleDataLogic()
    registerSampleData(logic)
    return logic.sources


def fetch(source: dict[str, str], cache: Path) -> Path:
    """What SampleDataLogic.downloadFile does: fetch into the cache, then compare the checksum."""
    path = cache / source["fileNames"]
    urllib.request.urlretrieve(source["uris"], path)
    algorithm, digest = source["checksums"].split(":")
    assert algorithm == "SHA256"
    assert hashlib.sha256(path.read_bytes()).hexdigest() == digest
    return path


def test_both_data_sets_are_registered_under_one_heading(sources):
    assert [source["sampleName"] for source in sources] == ["UDFAAbdomenCT", "UDFACardiacCine"]
    assert {source["category"] for source in sources} == {CATEGORY}
    assert [source["loadFileType"] for source in sources] == ["VolumeFile", "SequenceFile"]
    assert all(source["nodeNames"] == source["sampleName"] for source in sources)


def test_no_network_is_needed_and_the_checksums_are_right(sources, tmp_path):
    for source in sources:
        assert source["uris"].startswith("file:")
        assert fetch(source, tmp_path).stat().st_size > 0


def test_each_data_set_has_a_picture(sources):
    for source in sources:
        picture = Path(source["thumbnailFileName"])
        assert picture.read_bytes().startswith(b"\x89PNG")


def test_together_the_files_stay_small_enough_to_ship():
    assert sum(path.stat().st_size for path in sampleFolder().iterdir()) < 3_000_000


def test_the_readme_names_origin_licence_and_hash_of_each_file():
    readme = (sampleFolder() / "README.md").read_text(encoding="utf-8")
    for sample in SAMPLES:
        assert f"{sample.sha256}  {sample.fileName}" in readme
        (row,) = re.findall(rf"^\| `{re.escape(sample.fileName)}` \|.*$", readme, re.MULTILINE)
        assert "http" in row
        assert "Apache-2.0" in row or "CC0" in row
    assert "Apache License" in (sampleFolder() / "LICENSE-abdomen_ct.txt").read_text(encoding="utf-8")


def test_the_ct_is_in_hounsfield_units_with_the_geometry_of_the_readme(sources, tmp_path):
    image = sitk.ReadImage(str(fetch(sources[0], tmp_path)))
    assert image.GetSize() == (122, 101, 112)
    assert image.GetSpacing() == pytest.approx((3.0, 3.0, 3.0))
    array = sitk.GetArrayFromImage(image)
    assert array.dtype == np.int16
    assert array.min() < -1000
    assert 1000 < array.max() < 4000


def test_the_ct_has_the_voxels_of_its_original_where_that_is_at_hand():
    original = Path(__file__).resolve().parents[4] / "shared" / "data" / "totalsegmentator" / "example_ct.nii.gz"
    array = sitk.GetArrayFromImage(sitk.ReadImage(str(sampleFolder() / "abdomen_ct.nii.gz")))
    assert int(array.sum(dtype=np.int64)) == CT_SUM
    if original.exists():
        assert np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(original))), array)


@pytest.mark.slicer
def test_the_cine_series_loads_as_an_image_sequence_in_slicer(sources, tmp_path):
    slicer = pytest.importorskip("slicer")
    from headless.boot import boot, clear_scene

    boot()
    clear_scene()
    path = fetch(sources[1], tmp_path)
    # What Slicer's sequence reader does (qSlicerSequencesReader::load).
    sequence = slicer.modules.sequences.logic().AddSequence(str(path))
    assert sequence.GetNumberOfDataNodes() == 2
    assert [sequence.GetNthIndexValue(i) for i in range(2)] == ["end-diastole", "end-systole"]
    assert sequence.GetIndexName() == "phase"
    browser = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode")
    browser.SetAndObserveMasterSequenceNodeID(sequence.GetID())
    slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(browser)
    proxy = browser.GetProxyNode(sequence)
    assert proxy.IsA("vtkMRMLScalarVolumeNode")
    assert slicer.util.arrayFromVolume(proxy).shape == (9, 256, 256)
    assert proxy.GetSpacing() == pytest.approx((1.3, 1.3, 8.0))


@pytest.mark.slicer
def test_the_heart_contracts_between_the_two_phases(sources, tmp_path):
    slicer = pytest.importorskip("slicer")
    from headless.boot import boot, clear_scene

    boot()
    clear_scene()
    sequence = slicer.modules.sequences.logic().AddSequence(str(fetch(sources[1], tmp_path)))
    diastole, systole = (slicer.util.arrayFromVolume(sequence.GetNthDataNode(i)).astype(int) for i in range(2))
    assert diastole.shape == systole.shape
    # Bright blood in a box around the left ventricle of the middle slice: 602 and 313 pixels.
    window = (4, slice(110, 153), slice(113, 156))
    assert [int((phase[window] > 40).sum()) for phase in (diastole, systole)] == [602, 313]
