"""The adapters to Slicer's pip and to the PyTorch extension, against modules with the signatures of real versions."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

slicer = pytest.importorskip("slicer")

from UDFASegmentationLib.SlicerInstallers import (  # noqa: E402
    PyTorchExtension,
    SlicerDialogs,
    SlicerPackages,
    installArguments,
    keptVersions,
    torchEntries,
)


class Signatures:
    """`installTorch` as versions of PyTorchUtils declare it."""

    @staticmethod
    def of2021(confirm=True): ...

    @staticmethod
    def of2023(askConfirmation=False, forceComputationBackend=None, torchVersionRequirement=None): ...

    @staticmethod
    def of2024(
        askConfirmation=False,
        forceComputationBackend=None,
        torchVersionRequirement=None,
        torchvisionVersionRequirement=None,
    ): ...

    @staticmethod
    def capital(askConfirmation=False, torchVersionRequirement=None, torchVisionVersionRequirement=None): ...


@pytest.mark.parametrize(
    ("signature", "expected"),
    [
        (Signatures.of2021, {"confirm": False}),
        (Signatures.of2023, {"askConfirmation": False, "torchVersionRequirement": ">=2.4"}),
        (
            Signatures.of2024,
            {
                "askConfirmation": False,
                "torchVersionRequirement": ">=2.4",
                "torchvisionVersionRequirement": ">=0.19",
            },
        ),
        (
            Signatures.capital,
            {
                "askConfirmation": False,
                "torchVersionRequirement": ">=2.4",
                "torchVisionVersionRequirement": ">=0.19",
            },
        ),
    ],
)
def test_each_version_of_the_extension_gets_the_parameters_that_it_knows(signature, expected):
    assert installArguments(signature, ">=2.4", ">=0.19") == expected
    signature(**installArguments(signature, ">=2.4", ">=0.19"))


@pytest.fixture
def extension(monkeypatch, tmp_path):
    """PyTorchUtils with a logic that records its call and returns a torch."""
    calls = []

    class Logic:
        def installTorch(self, askConfirmation=True, torchVersionRequirement=None, torchvisionVersionRequirement=None):
            calls.append((askConfirmation, torchVersionRequirement, torchvisionVersionRequirement))
            return SimpleNamespace(__version__="2.6.0")

    module = ModuleType("PyTorchUtils")
    module.PyTorchUtilsLogic = Logic
    monkeypatch.setitem(sys.modules, "PyTorchUtils", module)
    return PyTorchExtension(tmp_path), calls


def test_torch_is_installed_through_the_extension_without_asking_again(extension):
    torch, calls = extension
    assert torch.isAvailable()
    assert torch.install(">=2.4", ">=0.19")
    assert calls == [(False, ">=2.4", ">=0.19")]


def test_an_extension_that_returns_nothing_did_not_install(extension):
    torch, _ = extension
    module = sys.modules["PyTorchUtils"]
    module.PyTorchUtilsLogic = lambda: SimpleNamespace(installTorch=lambda: None)
    assert torch.install(">=2.4", ">=0.19") is False


class ExtensionsManager:
    """qSlicerExtensionsManagerModel: `interactive` is a property, the install call takes name and restart."""

    def __init__(self):
        self.interactive = True
        self.installed = []
        self.interactiveDuringInstall = None

    def isExtensionInstalled(self, name):
        return name in self.installed

    def installExtensionFromServer(self, name, restart=True):
        assert restart is False
        self.interactiveDuringInstall = self.interactive
        self.installed.append(name)
        return True


def test_the_extension_is_installed_without_pop_ups_and_without_restarting(monkeypatch, tmp_path):
    manager = ExtensionsManager()
    monkeypatch.setattr(slicer, "app", SimpleNamespace(extensionsManagerModel=lambda: manager), raising=False)
    monkeypatch.setitem(sys.modules, "PyTorchUtils", None)
    torch = PyTorchExtension(tmp_path)
    assert not torch.isAvailable()
    assert not torch.isInstalled()
    assert torch.installExtension()
    assert manager.interactiveDuringInstall is False
    assert manager.interactive is True
    assert torch.isInstalled()
    assert not torch.install(">=2.4", ">=0.19")


def test_a_slicer_without_extensions_manager_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(slicer, "app", SimpleNamespace(), raising=False)
    monkeypatch.setitem(sys.modules, "PyTorchUtils", None)
    torch = PyTorchExtension(tmp_path)
    assert not torch.isInstalled()
    assert not torch.installExtension()


def test_only_what_torch_and_torchvision_left_is_theirs(tmp_path):
    own = ["torch", "torch-2.13.0+cu130.dist-info", "torchvision", "torchvision-0.28.0.dist-info", "torchgen"]
    own += ["functorch", "torchvision.libs"]
    others = ["torchaudio", "torchio", "torchaudio-2.6.0.dist-info", "torch_geometric", "pytorch_lightning", "timm"]
    for name in own + others:
        (tmp_path / name).mkdir()
    (tmp_path / "torch.py").write_text("")
    assert [entry.name for entry in torchEntries(tmp_path)] == sorted(own)


def test_a_broken_torch_is_deleted_and_forgotten(tmp_path):
    (tmp_path / "torch" / "nn").mkdir(parents=True)
    (tmp_path / "torch-2.13.0.dist-info").mkdir()
    (tmp_path / "timm").mkdir()
    modules = {"torch": None, "torch.nn": None, "torchvision.ops": None, "torchaudio": None, "timm": None}
    PyTorchExtension(tmp_path, modules).remove()
    assert [entry.name for entry in tmp_path.iterdir()] == ["timm"]
    assert sorted(modules) == ["timm", "torchaudio"]


def test_slicer_5_12_installs_through_pip_ensure_without_its_own_questions(monkeypatch):
    calls = []

    def pip_ensure(
        requirements,
        constraints=None,
        skip_packages=None,
        prompt_install=True,
        prompt_restart=True,
        requester=None,
        skip_in_testing=True,
        show_progress=True,
    ):
        # What pip_check and pip_install read of each requirement: text would fail here, as it does in Slicer.
        names = [
            str(requirement)
            for requirement in requirements
            if requirement.marker is None and not requirement.extras and requirement.specifier.contains("1.0.9")
        ]
        calls.append((names, prompt_install, prompt_restart, requester, Path(constraints).read_text()))

    module = ModuleType("slicer.packaging")
    module.pip_ensure = pip_ensure
    monkeypatch.setitem(sys.modules, "slicer.packaging", module)
    SlicerPackages().install(("timm>=1.0.9",))
    assert calls == [(["timm>=1.0.9"], False, False, "UDFA Segmentation", "".join(f"{k}\n" for k in keptVersions()))]


def test_slicer_5_10_installs_through_pip_install_with_a_list(monkeypatch):
    import slicer.util

    calls = []

    def pip_install(requirements):
        # Slicer 5.8 and 5.10 accept nothing but these two types.
        assert type(requirements) in (str, list)
        calls.append([*requirements[:1], Path(requirements[1]).read_text(), *requirements[2:]])

    monkeypatch.setitem(sys.modules, "slicer.packaging", None)
    monkeypatch.setattr(slicer.util, "pip_install", pip_install)
    SlicerPackages().install(("timm>=1.0.9", "safetensors>=0.4"))
    constraints = "".join(f"{line}\n" for line in keptVersions())
    assert calls == [["--constraint", constraints, "timm>=1.0.9", "safetensors>=0.4"]]


def test_what_slicer_needs_is_held_at_its_version():
    import numpy

    assert f"numpy=={numpy.__version__}" in keptVersions()
    assert all("==" in line for line in keptVersions())


@pytest.mark.parametrize("testing", [True, False])
def test_in_testing_mode_nothing_is_confirmed(monkeypatch, testing):
    import slicer.util

    shown = []

    def confirmOkCancelDisplay(text, windowTitle=None, parent=None, **kwargs):
        shown.append((text, windowTitle, kwargs))
        return True

    monkeypatch.setattr(slicer, "app", SimpleNamespace(testingEnabled=lambda: testing), raising=False)
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", confirmOkCancelDisplay)
    assert SlicerDialogs().confirm("Install?", "UDFA", "- timm") is (not testing)
    assert shown == ([] if testing else [("Install?", "UDFA", {"detailedText": "- timm"})])
