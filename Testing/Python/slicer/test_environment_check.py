"""What is wrong with an installation, each fault made by hand: no fault needs the computer that shows it."""

from __future__ import annotations

import importlib
import importlib.metadata
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from UDFASegmentationLib import EnvironmentCheck, SelfTest
from UDFASegmentationLib.EnvironmentCheck import (
    architectureProblem,
    diskProblem,
    isSatisfied,
    missingRequirements,
    pathProblem,
    readRequirements,
    shadowProblem,
    specifierOf,
    torchState,
    versionClashes,
)

MODULE_FOLDER = Path(EnvironmentCheck.__file__).parent.parent


def installed(**versions):
    def version(name):
        if name.lower().replace("-", "_") in versions:
            return versions[name.lower().replace("-", "_")]
        raise importlib.metadata.PackageNotFoundError(name)

    return version


def works(name):
    return SimpleNamespace(__file__="torch/__init__.py", zeros=lambda n: [0.0] * n)


def spec(origin):
    return lambda name: SimpleNamespace(origin=origin)


def test_requirements_are_read_without_comments_options_and_empty_lines(tmp_path):
    path = tmp_path / "requirements.txt"
    path.write_text("# head\n\n-r other.txt\ntorch>=2.4\ntimm>=1.0.9  # models\n  safetensors>=0.4 \n")
    assert readRequirements(path) == ["torch>=2.4", "timm>=1.0.9", "safetensors>=0.4"]


def test_the_shipped_requirements_are_lower_bounds_without_pins():
    lines = readRequirements(MODULE_FOLDER / "Resources" / "requirements.txt")
    names = {EnvironmentCheck.requirementName(line) for line in lines}
    assert {"torch", "torchvision", "timm", "safetensors"} <= names
    for line in lines:
        assert specifierOf(lines, EnvironmentCheck.requirementName(line)).startswith(">=")
        assert "," not in line


def test_this_python_satisfies_the_shipped_requirements():
    assert missingRequirements(readRequirements(MODULE_FOLDER / "Resources" / "requirements.txt")) == []


@pytest.mark.parametrize(
    "bundled",
    [{"numpy": "1.26.4", "simpleitk": "2.4.0rc2.dev213"}, {"numpy": "2.0.2", "simpleitk": "2.5.2rc2.dev6"}],
    ids=["5.8", "5.10"],
)
def test_what_slicer_brings_is_never_asked_of_pip(bundled):
    """Slicer builds SimpleITK between two releases; pip, held at that version, could not give another one."""
    shipped = readRequirements(MODULE_FOLDER / "Resources" / "requirements.txt")
    missing = {EnvironmentCheck.requirementName(line) for line in missingRequirements(shipped, installed(**bundled))}
    assert missing == {"torch", "torchvision", "timm", "safetensors"}


@pytest.mark.parametrize(
    ("version", "satisfied"), [("1.0.9", True), ("1.0.10", True), ("1.0.8", False), ("2.0.0rc1", True), (None, False)]
)
def test_versions_are_compared_as_numbers_not_as_text(version, satisfied):
    lookup = installed(timm=version) if version else installed()
    assert isSatisfied("timm>=1.0.9", lookup) is satisfied


def test_a_build_for_a_graphics_card_satisfies_the_plain_version():
    assert isSatisfied("torch>=2.4", installed(torch="2.4.0+cu121"))
    assert isSatisfied("torch==2.4.0", installed(torch="2.4.0+cu121"))


def test_a_package_whose_registration_lacks_a_version_is_missing():
    assert missingRequirements(["timm>=1.0.9"], lambda name: None) == ["timm>=1.0.9"]


def test_a_requirement_for_another_system_is_satisfied():
    assert isSatisfied("pywin32; sys_platform == 'nowhere'", installed())


def test_a_working_torch_is_good():
    state = torchState("torch>=2.4", installed(torch="2.6.0"), works, spec("torch/__init__.py"))
    assert (state.kind, state.detail) == ("good", "2.6.0")


def test_without_any_trace_of_torch_it_is_absent():
    assert torchState("torch>=2.4", installed(), works, lambda name: None).kind == "absent"


def test_a_torch_folder_without_init_is_recognised_without_importing_it():
    def mustNotImport(name):
        raise AssertionError("imported")

    state = torchState("torch>=2.4", installed(torch="2.13.0"), mustNotImport, spec(None))
    assert state.kind == "broken"
    assert "cut short" in state.detail


def test_a_torch_folder_without_registration_is_broken():
    state = torchState("torch>=2.4", installed(), works, spec("torch/__init__.py"))
    assert (state.kind, "registration" in state.detail) == ("broken", True)


def test_a_registration_without_files_is_broken():
    assert torchState("torch>=2.4", installed(torch="2.6.0"), works, lambda name: None).kind == "broken"


def test_an_old_torch_is_named_with_both_versions():
    state = torchState("torch>=2.4", installed(torch="1.13.1"), works, spec("torch/__init__.py"))
    assert state.kind == "old"
    assert "1.13.1" in state.detail
    assert "torch>=2.4" in state.detail


def failing(count):
    raise RuntimeError("no kernel image is available")


@pytest.mark.parametrize(
    "module",
    [
        SimpleNamespace(__file__=None, zeros=lambda n: [0.0] * n),
        SimpleNamespace(__file__="torch/__init__.py"),
        SimpleNamespace(__file__="torch/__init__.py", zeros=failing),
    ],
    ids=["namespace package", "without zeros", "zeros fails"],
)
def test_a_torch_that_imports_but_does_not_compute_is_broken(module):
    state = torchState("torch>=2.4", installed(torch="2.6.0"), lambda name: module, spec("torch/__init__.py"))
    assert state.kind == "broken"


@pytest.mark.parametrize("error", [ImportError("DLL load failed"), OSError("WinError 126"), TypeError("x")])
def test_a_torch_whose_import_fails_is_broken_and_the_reason_is_kept(error):
    def importer(name):
        raise error

    state = torchState("torch>=2.4", installed(torch="2.6.0"), importer, spec("torch/__init__.py"))
    assert state.kind == "broken"
    assert str(error) in state.detail


def test_a_real_half_installed_torch_is_recognised(tmp_path):
    """The state that a cut-short pip leaves: a folder without __init__, and metadata without the list of files."""
    (tmp_path / "torch" / "nn").mkdir(parents=True)
    (tmp_path / "torch" / "nn" / "functional.py").write_text("")
    metadata = tmp_path / "torch-2.13.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 2.13.0\n")
    code = (
        "from UDFASegmentationLib.EnvironmentCheck import torchState; s = torchState('torch>=2.4'); "
        "import sys; print(s.kind, 'torch' in sys.modules)"
    )
    path = f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(MODULE_FOLDER)!r}]; {code}"
    done = subprocess.run([sys.executable, "-S", "-c", path], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["broken", "False"]


def test_packages_that_do_not_fit_each_other_are_named():
    versions = installed(torch="2.6.0", torchvision="0.15.2", timm="1.0.9", numpy="2.0.0")
    needs = {
        "torchvision": ["numpy", "torch (==2.0.1)", "pillow>=5", "scipy; extra == 'scipy'"],
        "timm": ["torch", "torchvision", "pyyaml"],
    }
    clashes = versionClashes(version=versions, requires=needs.get)
    assert clashes == ["torchvision 0.15.2 needs torch==2.0.1, but version 2.6.0 is installed"]


def test_a_package_that_another_one_lacks_is_named():
    clashes = versionClashes(version=installed(timm="1.0.9", torch="2.6.0"), requires={"timm": ["torchvision"]}.get)
    assert clashes == ["timm 1.0.9 needs torchvision, but it is not installed"]


def test_the_packages_of_this_python_fit_each_other():
    assert versionClashes() == []


def test_the_bundled_udfa_is_the_one_that_is_used_here():
    assert shadowProblem() is None


def test_another_udfa_on_the_path_is_told_with_its_folder(tmp_path):
    package = tmp_path / "site-packages" / "udfa"
    problem = shadowProblem(MODULE_FOLDER / "udfa", spec(str(package / "__init__.py")))
    assert problem is not None
    assert str(package) in problem.text
    assert problem.blocking


def test_a_long_windows_folder_is_a_problem_and_a_short_one_is_not():
    default = Path("C:/Users/maria/AppData/Local/slicer.org/3D Slicer 5.12.3/lib/Python/Lib/site-packages")
    assert len(str(default)) == 85
    assert pathProblem(default, "win32") is not None
    assert pathProblem(Path(str(default)[:84]), "win32") is None
    assert pathProblem(Path("C:/Slicer/lib/Python/Lib/site-packages"), "win32") is None
    assert pathProblem(default, "linux") is None


def test_too_little_disk_is_told_in_gigabytes():
    problem = diskProblem(Path("/"), cuda=False, freeBytes=lambda folder: 1_200_000_000)
    assert problem is not None
    assert "1.2 GB" in problem.text
    assert "3 GB" in problem.text
    assert not problem.blocking


def test_cuda_needs_more_disk_than_the_cpu():
    def free(folder):
        return 5_000_000_000

    assert diskProblem(Path("/"), cuda=False, freeBytes=free) is None
    assert diskProblem(Path("/"), cuda=True, freeBytes=free) is not None


def test_the_disk_of_a_folder_that_does_not_exist_yet_is_found(tmp_path):
    # Other programs write meanwhile.
    found, expected = EnvironmentCheck._freeBytes(tmp_path / "a" / "b"), EnvironmentCheck._freeBytes(tmp_path)
    assert found == pytest.approx(expected, abs=2**30)


def test_an_intel_slicer_on_a_mac_cannot_get_a_recent_torch():
    problem = architectureProblem("darwin", "x86_64")
    assert problem is not None
    assert problem.blocking
    assert architectureProblem("darwin", "arm64") is None
    assert architectureProblem("linux", "x86_64") is None


def test_the_self_test_passes_with_the_packages_of_this_python():
    assert SelfTest.selfTest() == []


def test_the_self_test_names_a_package_that_does_not_import():
    def importer(name):
        if name == "timm":
            raise ImportError("operator torchvision::nms does not exist")
        return importlib.import_module(name)

    assert SelfTest.selfTest(importer) == ["timm: ImportError: operator torchvision::nms does not exist"]


def test_the_self_test_notices_a_torch_that_does_not_know_this_numpy():
    import torch

    def fromNumpy(array):
        raise RuntimeError("Numpy is not available")

    def importer(name):
        if name != "torch":
            return importlib.import_module(name)
        return SimpleNamespace(__file__=torch.__file__, from_numpy=fromNumpy, cuda=torch.cuda)

    assert SelfTest.selfTest(importer) == ["torch: RuntimeError: Numpy is not available"]
