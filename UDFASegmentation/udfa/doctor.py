"""Checks of the installation, with a report to paste into a question.

The checks look only at an `Environment`, so that every fault can be imitated in a test, and work when torch or numpy
are missing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any, Literal, Optional

import udfa
from udfa.environment import Environment, real_environment, version_tuple
from udfa.errors import UDFAError
from udfa.models import FOLDERS_VARIABLE, PINS_FILE, bundled_folder, check_pins, list_models

Status = Literal["ok", "warn", "fail"]

MINIMUM_PYTHON = (3, 9)
GIB = 1 << 30

LONGEST_TORCH_PATH = 126
"""Characters of the longest path inside torch's wheel (2.15): a licence file, nested deeply."""

WINDOWS_PATH_LIMIT = 259

_IMPORT_NAMES = ("numpy", "SimpleITK", "safetensors")
"""Required packages that do not need torch themselves; their names on PyPI are those that are imported."""

NOT_INSTALLED = "not installed"

_OFFERED_BY_THE_MODULE = "press 'Segment' in the module UDFA Segmentation, which offers to install what is missing"

_REINSTALL_TORCH = (
    "Remove it completely (pip uninstall torch torchvision; then delete folders torch* and torchgen* left in {folder}) "
    "and install it again. In Slicer: use the PyTorch extension for both."
)


@dataclass(frozen=True)
class Check:
    """Result of one check."""

    name: str
    status: Status
    detail: str
    """What was found."""
    advice: str = ""
    """What to do; empty when all is well."""


def examine(environment: Optional[Environment] = None) -> list[Check]:
    """Run all checks. A check that breaks is reported as a warning and does not stop the others."""
    env = environment or real_environment()
    probes = {
        "Python": _python,
        "udfa": _package,
        "packages": _packages,
        "torch": _torch_family,
        "memory": _memory,
        "disk": _disk,
        "path length": _long_paths,
        "matplotlib": _report_extra,
        "models": _models,
    }
    return [check for name, probe in probes.items() for check in _guarded(name, partial(probe, env))]


def _guarded(name: str, probe: Callable[[], list[Check]]) -> list[Check]:
    try:
        return probe()
    except Exception as error:
        return [Check(name, "warn", f"could not be checked ({type(error).__name__}: {error})", "Please report this.")]


def has_failure(checks: Sequence[Check]) -> bool:
    """Whether a check failed."""
    return any(check.status == "fail" for check in checks)


def format_report(checks: Sequence[Check], home: Optional[Path] = None) -> str:
    """Return the report as text; the home folder is written as ~, so that it can be pasted in public."""
    now = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    lines = [f"UDFA doctor, udfa {udfa.__version__}, {now}"]
    for check in checks:
        lines.append(f"[{check.status:^4}] {check.name}: {check.detail}")
        if check.advice:
            lines.append(f"       -> {check.advice}")
    failed = sum(check.status == "fail" for check in checks)
    warned = sum(check.status == "warn" for check in checks)
    lines.append("Result: all well." if not failed + warned else f"Result: {failed} failed, {warned} warned.")
    folder = str(home or Path.home())
    text = "\n".join(lines)
    return text.replace(folder, "~") if len(folder) > 1 else text


def _python(env: Environment) -> list[Check]:
    version = ".".join(map(str, env.python_version))
    detail = f"{version} at {env.executable}, {env.system}"
    if env.python_version[:2] < MINIMUM_PYTHON:
        needed = ".".join(map(str, MINIMUM_PYTHON))
        return [Check("Python", "fail", detail, f"UDFA needs Python {needed} or newer; use Slicer 5.8 or newer.")]
    return [Check("Python", "ok", detail)]


def _package(env: Environment) -> list[Check]:
    """Which copy of udfa runs, and whether another one stands in its way."""
    running = Path(udfa.__file__).resolve().parent
    detail = f"{udfa.__version__} at {running}"
    if env.expected_package is not None and env.expected_package.resolve() != running:
        advice = f"It hides {env.expected_package}. Run 'pip uninstall udfa', then restart."
        return [Check("udfa", "fail", detail, advice)]
    others = [str(path) for path in env.package_copies() if path.resolve() != running]
    installed = env.version_of("udfa")
    if others:
        advice = "Keep one: run 'pip uninstall udfa', or take the other folder off PYTHONPATH."
        return [Check("udfa", "warn", f"{detail}; there is another copy at {', '.join(others)}", advice)]
    if installed not in (None, udfa.__version__):
        advice = "Run 'pip install' of udfa again, or 'pip uninstall udfa' if it came with Slicer."
        return [Check("udfa", "warn", f"{detail}; pip has version {installed} on record", advice)]
    return [Check("udfa", "ok", detail)]


def _packages(env: Environment) -> list[Check]:
    return [_import_check(env, name)[0] for name in _IMPORT_NAMES]


def _import_check(env: Environment, name: str) -> tuple[Check, Any]:
    """Import a required package and compare its version; also returns the module, None when it is unusable."""
    bound, install = env.requirements.get(name, ""), _installation(env, name)
    try:
        module = env.import_module(name)
    except ModuleNotFoundError as error:
        if error.name == name:
            return Check(name, "fail", NOT_INSTALLED, f"Install it: {install}"), None
        return Check(name, "fail", f"cannot be imported ({error})", f"Install what is missing, or: {install}"), None
    except Exception as error:
        return Check(
            name, "fail", f"installed, but cannot be imported ({_short(error)})", f"Reinstall: {install}"
        ), None
    version = env.version_of(name) or str(getattr(module, "__version__", ""))
    if bound and version and version_tuple(version) < version_tuple(bound):
        return Check(name, "fail", f"{version}, but {bound} or newer is needed", f"Update it: {install}"), module
    return Check(name, "ok", version or "version unknown"), module


def _installation(env: Environment, name: str) -> str:
    """How to install a package: pip would go past Slicer's own ways, such as the PyTorch extension."""
    if env.in_slicer:
        return _OFFERED_BY_THE_MODULE
    bound = env.requirements.get(name, "")
    return f"pip install '{name}>={bound}'" if bound else f"pip install {name}"


def _short(error: BaseException) -> str:
    """Type and first line of an error."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _torch_family(env: Environment) -> list[Check]:
    """torch, then what is built on it; the latter are not imported when torch is broken."""
    check, torch = _torch(env)
    if torch is None:
        return [check]
    timm, _ = _import_check(env, "timm")
    torchvision = _guarded("torchvision", partial(_torchvision, env, torch))
    return [check, *torchvision, timm, *_guarded("device", partial(_device, env, torch))]


def _torch(env: Environment) -> tuple[Check, Any]:
    check, torch = _import_check(env, "torch")
    broken = _REINSTALL_TORCH.format(folder=env.packages_folder)
    if torch is None:
        if check.detail == NOT_INSTALLED:
            advice = check.advice if env.in_slicer else f"{check.advice}. In Slicer: {_OFFERED_BY_THE_MODULE}."
            return Check("torch", "fail", check.detail, advice), None
        return Check("torch", "fail", check.detail, broken), None
    if getattr(torch, "__file__", None) is None:
        return Check("torch", "fail", "half installed: its folder is there, but not the package", broken), None
    if check.status == "fail":
        return check, None
    try:
        total = float(torch.zeros(1).sum())
    except Exception as error:
        return Check("torch", "fail", f"imports, but cannot compute ({_short(error)})", broken), None
    if total != 0:
        return Check("torch", "fail", f"computes wrongly: zeros(1) sums to {total}", broken), None
    return Check("torch", "ok", str(getattr(torch, "__version__", check.detail))), torch


def _torchvision(env: Environment, torch: Any) -> list[Check]:
    """torchvision is built for one version of torch; another one breaks it, and timm with it."""
    version = str(torch.__version__)
    advice = "Install torch and torchvision together, from the same index. In Slicer: with the PyTorch extension."
    for line in env.requirements_of("torchvision"):
        match = re.match(r"torch\s*\(?\s*(==|>=)\s*([\d.]+)", line)
        if match is None:
            continue
        relation, bound = match.groups()
        have, need = version_tuple(version), version_tuple(bound)
        if have < need or (relation == "==" and have != need):
            found = env.version_of("torchvision")
            return [Check("torchvision", "fail", f"{found} needs torch {relation} {bound}, not {version}", advice)]
    check, module = _import_check(env, "torchvision")
    if module is None and check.detail != NOT_INSTALLED:
        return [Check("torchvision", "fail", f"{check.detail}; torch is {version}", advice)]
    return [check]


def _device(env: Environment, torch: Any) -> list[Check]:
    if torch.cuda.is_available():
        return [_gpu(env, torch, index) for index in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        return [Check("device", "ok", "Apple GPU (mps)")]
    driver = env.nvidia_driver()
    if driver is None:
        return [Check("device", "ok", "CPU only (no supported GPU found)")]
    build = getattr(torch.version, "cuda", None)
    if build is None:
        advice = "Install a CUDA build of torch and torchvision. In Slicer: reinstall with the PyTorch extension."
        return [Check("device", "warn", f"NVIDIA driver {driver}, but this torch is built for the CPU", advice)]
    advice = f"Update the NVIDIA driver, or install a torch built for an older CUDA than {build}."
    return [Check("device", "warn", f"NVIDIA driver {driver}, but torch (CUDA {build}) cannot use the GPU", advice)]


def _gpu(env: Environment, torch: Any, index: int) -> Check:
    name = f"device cuda:{index}"
    try:
        float(torch.zeros(1, device=f"cuda:{index}").sum())
        free, total = torch.cuda.mem_get_info(index)
    except Exception as error:
        advice = "Update driver and torch so that they fit each other, or use --device cpu."
        return Check(name, "warn", f"{torch.cuda.get_device_name(index)} cannot compute ({_short(error)})", advice)
    detail = (
        f"{torch.cuda.get_device_name(index)}, {free / GIB:.1f} of {total / GIB:.1f} GiB free, "
        f"driver {env.nvidia_driver() or 'unknown'}, CUDA {torch.version.cuda}"
    )
    if free < 2 * GIB:
        return Check(name, "warn", detail, "Close programs that use the GPU, or use --device cpu.")
    return Check(name, "ok", detail)


def _memory(env: Environment) -> list[Check]:
    memory = env.memory_bytes()
    if memory is None:
        return [Check("memory", "ok", "unknown")]
    total, available = memory
    if available is None:
        return [Check("memory", "ok", f"{total / GIB:.1f} GiB")]
    detail = f"{available / GIB:.1f} of {total / GIB:.1f} GiB available"
    if available < 3 * GIB:
        return [Check("memory", "warn", detail, "Close other programs, or crop large volumes first.")]
    return [Check("memory", "ok", detail)]


def _disk(env: Environment) -> list[Check]:
    free = env.free_bytes(env.working_folder)
    detail = f"{free / GIB:.1f} GiB free at {env.working_folder}"
    if free < GIB // 10:
        return [Check("disk", "fail", detail, "Free some space, or work in another folder.")]
    if free < GIB:
        return [Check("disk", "warn", detail, "Results and temporary files may not fit. Free some space.")]
    return [Check("disk", "ok", detail)]


def _long_paths(env: Environment) -> list[Check]:
    if env.platform != "win32":
        return []
    longest = len(str(env.packages_folder)) + 1 + LONGEST_TORCH_PATH
    detail = f"{longest} characters for the longest file of torch below {env.packages_folder}"
    if longest > WINDOWS_PATH_LIMIT:
        advice = (
            f"Windows allows {WINDOWS_PATH_LIMIT}: installing torch will stop half way. Install Slicer (or Python) to "
            f"a short path such as C:\\Slicer."
        )
        return [Check("path length", "warn", detail, advice)]
    return [Check("path length", "ok", detail)]


def _report_extra(env: Environment) -> list[Check]:
    version = env.version_of("matplotlib")
    if version is None:
        advice = "Only --report needs it. Install it: pip install matplotlib"
        return [Check("matplotlib", "ok", "not installed (optional)", advice)]
    return [Check("matplotlib", "ok", version)]


def _models(env: Environment) -> list[Check]:
    checks = []
    bundled = bundled_folder() if env.bundled_models is None else env.bundled_models
    if bundled.is_dir():
        try:
            problems = check_pins(bundled)
        except UDFAError as error:
            problems = [str(error)]
        detail = " ".join(problems) or f"as listed in {PINS_FILE}"
        advice = "Install UDFA again." if problems else ""
        checks.append(Check("bundled models", "fail" if problems else "ok", detail, advice))
    for folder in env.model_folders:
        if not folder.is_dir():
            checks.append(Check("model folder", "warn", f"{folder} does not exist", f"Correct {FOLDERS_VARIABLE}."))
    entries = list_models([bundled, *env.model_folders])
    for entry in entries:
        if entry.info is None:
            checks.append(Check(f"model {entry.name}", "warn", entry.error, f"Replace or remove {entry.path}."))
    usable = [entry.name for entry in entries if entry.info is not None]
    if not usable:
        advice = f"Give a checkpoint by its path, or set {FOLDERS_VARIABLE} to a folder of them."
        return [*checks, Check("models", "warn", "there is no usable checkpoint", advice)]
    return [*checks, Check("models", "ok", ", ".join(usable))]
