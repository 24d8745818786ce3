"""The doctor recognises each broken installation and says what to do."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import udfa
from udfa import doctor
from udfa.cli import main
from udfa.doctor import MINIMUM_PYTHON, Check, examine, format_report, has_failure
from udfa.environment import Environment, lower_bounds, read_requirements, real_environment, version_tuple

ROOT = Path(udfa.__file__).resolve().parents[2]
GIB = 1 << 30


class FakeTensor:
    def __init__(self, total: float) -> None:
        self.total = total

    def sum(self) -> float:
        return self.total


def fake_torch(**changes: Any) -> SimpleNamespace:
    """A torch without GPU whose zeros(1) works."""
    fields: dict[str, Any] = {
        "__file__": "/site-packages/torch/__init__.py",
        "__version__": "2.6.0",
        "zeros": lambda *size, device="cpu": FakeTensor(0.0),
        "cuda": SimpleNamespace(is_available=lambda: False),
        "backends": SimpleNamespace(mps=SimpleNamespace(is_available=lambda: False)),
        "version": SimpleNamespace(cuda=None),
    }
    return SimpleNamespace(**{**fields, **changes})


def fake_cuda(free_gib: float) -> SimpleNamespace:
    return SimpleNamespace(
        is_available=lambda: True,
        device_count=lambda: 1,
        get_device_name=lambda index: "GeForce",
        mem_get_info=lambda index: (int(free_gib * GIB), 12 * GIB),
    )


def importer(modules: dict[str, Any]) -> Callable[[str], Any]:
    def import_module(name: str) -> Any:
        found = modules.get(name)
        if found is None:
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)
        if isinstance(found, Exception):
            raise found
        return found

    return import_module


VERSIONS = {
    "numpy": "2.0.2",
    "SimpleITK": "2.4.0",
    "safetensors": "0.5.0",
    "torch": "2.6.0",
    "torchvision": "0.21.0",
    "timm": "1.0.15",
    "matplotlib": "3.9.0",
}


def environment(tmp_path: Path, modules: dict[str, Any] | None = None, **changes: Any) -> Environment:
    """A healthy machine without GPU; `modules` replaces what importing a package gives."""
    healthy = {name: SimpleNamespace(__version__=version) for name, version in VERSIONS.items()}
    found = {**healthy, "torch": fake_torch(), **(modules or {})}
    fields: dict[str, Any] = {
        "platform": "linux",
        "system": "Linux 6.1 x86_64",
        "python_version": (3, 12, 1),
        "executable": "/usr/bin/python",
        "packages_folder": Path("/site-packages"),
        "working_folder": tmp_path,
        "requirements": {"numpy": "1.26", "SimpleITK": "2.3", "torch": "2.4", "torchvision": "0.19", "timm": "1.0.9"},
        "import_module": importer(found),
        "version_of": VERSIONS.get,
        "requirements_of": lambda name: ["numpy", "torch (==2.6.0)"] if name == "torchvision" else [],
        "package_copies": lambda: [Path(udfa.__file__).parent],
        "memory_bytes": lambda: (16 * GIB, 8 * GIB),
        "free_bytes": lambda folder: 50 * GIB,
        "nvidia_driver": lambda: None,
        "model_folders": (),
        "bundled_models": tmp_path,
    }
    return Environment(**{**fields, **changes})


def find(checks: list[Check], name: str) -> Check:
    return next(check for check in checks if check.name == name)


def check(name: str, tmp_path: Path, **changes: Any) -> Check:
    return find(examine(environment(tmp_path, **changes)), name)


def test_a_healthy_machine_passes_all_but_the_missing_models(tmp_path: Path) -> None:
    (tmp_path / "models.json").write_text('{"files": []}')
    checks = examine(environment(tmp_path))
    assert [c.name for c in checks if c.status != "ok"] == ["models"]
    assert find(checks, "torch").detail == "2.6.0"
    assert not has_failure(checks)


def test_an_old_python_fails(tmp_path: Path) -> None:
    assert check("Python", tmp_path, python_version=(3, 8, 10)).status == "fail"
    assert check("Python", tmp_path, python_version=(3, 9, 0)).status == "ok"


@pytest.mark.parametrize("name", ["numpy", "SimpleITK", "safetensors", "timm", "torchvision"])
def test_a_missing_package_fails_and_the_advice_installs_it(tmp_path: Path, name: str) -> None:
    found = check(name, tmp_path, modules={name: None}, requirements_of=lambda _: [])
    assert (found.status, found.detail) == ("fail", "not installed")
    assert "pip install" in found.advice
    assert name in found.advice


@pytest.mark.parametrize("name", ["SimpleITK", "torch", "timm"])
def test_in_slicer_the_advice_is_the_modules_button_and_not_pip(tmp_path: Path, name: str) -> None:
    running = Path(udfa.__file__).parent
    found = check(name, tmp_path, modules={name: None}, expected_package=running)
    assert (found.status, found.detail) == ("fail", "not installed")
    assert "press 'Segment'" in found.advice
    assert "pip" not in found.advice


def test_an_old_package_fails_with_both_versions(tmp_path: Path) -> None:
    versions = {**VERSIONS, "timm": "1.0.3"}
    found = check("timm", tmp_path, version_of=versions.get)
    assert (found.status, found.detail) == ("fail", "1.0.3, but 1.0.9 or newer is needed")


def test_missing_torch_fails_and_nothing_built_on_it_is_imported(tmp_path: Path) -> None:
    def forbidden(name: str) -> Any:
        assert name not in ("timm", "torchvision")
        if name == "torch":
            raise ModuleNotFoundError("No module named 'torch'", name="torch")
        return SimpleNamespace(__version__="99")

    checks = examine(environment(tmp_path, import_module=forbidden))
    assert find(checks, "torch").detail == "not installed"
    assert "In Slicer: press 'Segment'" in find(checks, "torch").advice
    assert {"timm", "torchvision", "device"}.isdisjoint(c.name for c in checks)
    assert find(checks, "numpy").status == "ok"


def test_a_half_installed_torch_is_recognised_by_its_missing_file(tmp_path: Path) -> None:
    found = check("torch", tmp_path, modules={"torch": SimpleNamespace(__file__=None)})
    assert found.status == "fail"
    assert "half installed" in found.detail
    assert "Remove it completely" in found.advice
    assert "/site-packages" in found.advice.replace("\\", "/")


@pytest.mark.parametrize(
    "error",
    [OSError("[WinError 126] c10.dll not found"), ImportError("libtorch.so: cannot open"), AttributeError("dtype")],
)
def test_a_torch_that_cannot_be_imported_fails_with_its_error(tmp_path: Path, error: Exception) -> None:
    found = check("torch", tmp_path, modules={"torch": error})
    assert found.status == "fail"
    assert str(error) in found.detail
    assert "Remove it completely" in found.advice


def test_a_torch_that_cannot_compute_fails(tmp_path: Path) -> None:
    def broken(*size: int, device: str = "cpu") -> None:
        raise RuntimeError("Illegal instruction\nlong trace")

    found = check("torch", tmp_path, modules={"torch": fake_torch(zeros=broken)})
    assert (found.status, found.detail) == ("fail", "imports, but cannot compute (RuntimeError: Illegal instruction)")


def test_an_old_torch_fails(tmp_path: Path) -> None:
    versions = {**VERSIONS, "torch": "2.2.2"}
    found = check("torch", tmp_path, version_of=versions.get)
    assert (found.status, found.detail) == ("fail", "2.2.2, but 2.4 or newer is needed")


@pytest.mark.parametrize(
    ("requirement", "status"),
    [("torch (==2.6.0)", "ok"), ("torch==2.5.1", "fail"), ("torch (>=2.14.0)", "fail"), ("torch>=2.4", "ok")],
)
def test_a_torchvision_for_another_torch_fails(tmp_path: Path, requirement: str, status: str) -> None:
    found = check("torchvision", tmp_path, requirements_of=lambda name: [requirement])
    assert found.status == status
    assert ("together" in found.advice) == (status == "fail")


def test_a_torchvision_whose_operators_are_missing_fails(tmp_path: Path) -> None:
    error = RuntimeError("operator torchvision::nms does not exist")
    found = check("torchvision", tmp_path, modules={"torchvision": error})
    assert found.status == "fail"
    assert "nms does not exist" in found.detail
    assert "torch is 2.6.0" in found.detail


def test_a_gpu_is_shown_with_its_memory_and_driver(tmp_path: Path) -> None:
    torch = fake_torch(cuda=fake_cuda(8), version=SimpleNamespace(cuda="12.4"))
    found = check("device cuda:0", tmp_path, modules={"torch": torch}, nvidia_driver=lambda: "550.1")
    assert (found.status, found.detail) == ("ok", "GeForce, 8.0 of 12.0 GiB free, driver 550.1, CUDA 12.4")


def test_a_full_or_failing_gpu_warns_and_names_the_cpu(tmp_path: Path) -> None:
    def cpu_only(*size: int, device: str = "cpu") -> FakeTensor:
        if device != "cpu":
            raise RuntimeError("no kernel image is available")
        return FakeTensor(0.0)

    full = fake_torch(cuda=fake_cuda(1), version=SimpleNamespace(cuda="12.4"))
    failing = fake_torch(cuda=fake_cuda(8), version=SimpleNamespace(cuda="12.4"), zeros=cpu_only)
    for torch in (full, failing):
        found = check("device cuda:0", tmp_path, modules={"torch": torch})
        assert found.status == "warn"
        assert "--device cpu" in found.advice
    assert "no kernel image" in found.detail


def test_a_driver_without_a_cuda_build_of_torch_warns(tmp_path: Path) -> None:
    found = check("device", tmp_path, nvidia_driver=lambda: "550.1")
    assert found.status == "warn"
    assert "built for the CPU" in found.detail
    torch = fake_torch(version=SimpleNamespace(cuda="13.0"))
    found = check("device", tmp_path, modules={"torch": torch}, nvidia_driver=lambda: "470.1")
    assert "Update the NVIDIA driver" in found.advice


def test_mps_is_recognised(tmp_path: Path) -> None:
    torch = fake_torch(backends=SimpleNamespace(mps=SimpleNamespace(is_available=lambda: True)))
    assert "mps" in check("device", tmp_path, modules={"torch": torch}).detail


def test_little_memory_and_disk_are_noticed(tmp_path: Path) -> None:
    assert check("memory", tmp_path, memory_bytes=lambda: (8 * GIB, 2 * GIB)).status == "warn"
    assert check("memory", tmp_path, memory_bytes=lambda: None).status == "ok"
    assert check("disk", tmp_path, free_bytes=lambda _: GIB // 2).status == "warn"
    assert check("disk", tmp_path, free_bytes=lambda _: GIB // 20).status == "fail"


def test_long_install_folders_are_noticed_on_windows_only(tmp_path: Path) -> None:
    # 132 + 1 + 126 characters are the 259 that Windows allows.
    fits, too_long = Path("C" * 132), Path("C" * 133)
    assert check("path length", tmp_path, platform="win32", packages_folder=fits).status == "ok"
    assert check("path length", tmp_path, platform="win32", packages_folder=too_long).status == "warn"
    checks = examine(environment(tmp_path, packages_folder=too_long))
    assert "path length" not in {c.name for c in checks}


def test_a_second_copy_of_udfa_is_noticed(tmp_path: Path) -> None:
    running = Path(udfa.__file__).parent
    found = check("udfa", tmp_path, package_copies=lambda: [running, tmp_path / "udfa"])
    assert found.status == "warn"
    assert str(tmp_path / "udfa") in found.detail
    assert "pip uninstall udfa" in found.advice


def test_a_copy_that_hides_the_extension_fails(tmp_path: Path) -> None:
    found = check("udfa", tmp_path, expected_package=tmp_path / "extension" / "udfa")
    assert found.status == "fail"
    assert str(tmp_path / "extension" / "udfa") in found.advice
    assert check("udfa", tmp_path, expected_package=Path(udfa.__file__).parent).status == "ok"


def test_another_version_on_pips_record_is_noticed(tmp_path: Path) -> None:
    versions = {**VERSIONS, "udfa": "0.0.1"}
    found = check("udfa", tmp_path, version_of=versions.get)
    assert (found.status, "0.0.1" in found.detail) == ("warn", True)


def test_a_changed_bundled_file_fails_and_a_broken_user_file_warns(tmp_path: Path) -> None:
    bundled, user = tmp_path / "bundled", tmp_path / "user"
    bundled.mkdir()
    user.mkdir()
    (bundled / "models.json").write_text('{"files": [{"name": "a.safetensors", "sha256": "0", "size_bytes": 3}]}')
    (user / "b.safetensors").write_bytes(b"not one")
    checks = examine(environment(tmp_path, bundled_models=bundled, model_folders=(user,)))
    assert find(checks, "bundled models").detail == "a.safetensors is missing."
    assert find(checks, "bundled models").status == "fail"
    assert find(checks, "model b").status == "warn"


def test_a_model_folder_that_does_not_exist_is_noticed(tmp_path: Path) -> None:
    found = check("model folder", tmp_path, model_folders=(tmp_path / "typo",))
    assert (found.status, found.detail) == ("warn", f"{tmp_path / 'typo'} does not exist")


def test_a_check_that_breaks_does_not_stop_the_others(tmp_path: Path) -> None:
    def broken(folder: Path) -> int:
        raise PermissionError("denied")

    checks = examine(environment(tmp_path, free_bytes=broken))
    assert find(checks, "disk") == Check(
        "disk", "warn", "could not be checked (PermissionError: denied)", "Please report this."
    )
    assert find(checks, "models").name == "models"


def test_the_report_counts_gives_advice_and_hides_the_home_folder() -> None:
    checks = [
        Check("Python", "ok", "3.12 at /home/ada/python"),
        Check("torch", "fail", "not installed", "Install it."),
        Check("disk", "warn", "little", "Free some."),
    ]
    lines = format_report(checks, home=Path("/home/ada")).splitlines()
    assert lines[0].startswith(f"UDFA doctor, udfa {udfa.__version__}, ")
    assert lines[1:] == [
        "[ ok ] Python: 3.12 at ~/python",
        "[fail] torch: not installed",
        "       -> Install it.",
        "[warn] disk: little",
        "       -> Free some.",
        "Result: 1 failed, 1 warned.",
    ]


@pytest.mark.parametrize(("status", "code"), [("ok", 0), ("warn", 0), ("fail", 1)])
def test_the_command_prints_the_report_and_its_exit_code_tells_of_failures(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], status: Any, code: int
) -> None:
    monkeypatch.setattr(doctor, "examine", lambda: [Check("torch", status, "as faked")])
    assert main(["doctor"]) == code
    assert "torch: as faked" in capsys.readouterr().out


def test_the_real_machine_is_examined_without_a_broken_check() -> None:
    checks = examine(real_environment())
    assert not [c for c in checks if "could not be checked" in c.detail]
    assert find(checks, "torch").status == "ok"
    assert find(checks, "memory").detail != "unknown"


def test_the_doctor_works_where_torch_numpy_and_simpleitk_are_missing() -> None:
    code = (
        "import sys\n"
        "for name in ('torch', 'numpy', 'SimpleITK', 'timm', 'safetensors'): sys.modules[name] = None\n"
        "from udfa.cli import main\n"
        "sys.exit(main(['doctor']))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT / "UDFASegmentation", capture_output=True, text=True)
    assert done.returncode == 1
    for name in ("torch", "numpy", "SimpleITK", "safetensors"):
        assert f"[fail] {name}: not installed" in done.stdout
    assert done.stderr == ""


def test_the_modules_requirements_agree_with_pyproject() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    block = re.search(r"^dependencies = (\[.*?^\])", text, re.DOTALL | re.MULTILINE)
    python = re.search(r'requires-python = ">=(\d+)\.(\d+)"', text)
    assert block is not None
    assert python is not None
    assert read_requirements() == lower_bounds(ast.literal_eval(block.group(1)))
    assert len(read_requirements()) == 6
    assert tuple(int(part) for part in python.groups()) == MINIMUM_PYTHON


def test_requirement_lines_are_read_with_comments_brackets_and_extras() -> None:
    lines = ["# why", "numpy>=1.26  # arrays", "torch (>=2.4)", "pytest>=8; extra == 'test'", "SimpleITK", ""]
    assert lower_bounds(lines) == {"numpy": "1.26", "torch": "2.4"}


def test_versions_compare_by_their_numbers() -> None:
    assert version_tuple("2.4.1+cu121") == (2, 4, 1)
    assert version_tuple("2.10") > version_tuple("2.9.1")
    assert version_tuple("2.4.0") == version_tuple("2.4")
    assert version_tuple("1.0.9.dev0") == (1, 0, 9)
