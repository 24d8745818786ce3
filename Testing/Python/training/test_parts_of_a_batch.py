"""A batch in passes or over processes gives the loss and the update of the batch in one piece.

Sums in another order round differently: losses agree within 1e-5, gradients within 1e-3 of their length.
"""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from monai.losses import DiceCELoss
from torch import Tensor

from udfa.config import NetworkConfig, to_dict
from udfa.networks.udfa import UDFA
from udfa_training.fit import fit
from udfa_training.fit_config import FitConfig
from udfa_training.supervised_stage import SupervisedObjective

Settings = Callable[..., FitConfig]
ROOT = Path(__file__).resolve().parents[3]
CLI = "udfa_training.cli"
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nnodes", "1", "--nproc-per-node", "2", "-m", CLI]
OF_A_PROCESS = {"RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}
"""Variables by which a launcher tells a process who it is."""


def logged(output: Path) -> list[float]:
    """Losses of the steps."""
    with (output / "log.csv").open() as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


def moments(output: Path) -> Tensor:
    """AdamW's first moments: of a run with one step, its clipped gradient."""
    record = torch.load(output / "last.pt", weights_only=True)
    return torch.cat([state["exp_avg"].flatten() for state in record["optimizer"]["state"].values()])


def distance(first: Tensor, second: Tensor) -> float:
    """Length of the difference, relative to the length of the first."""
    return float((first - second).norm() / first.norm())


def test_the_sums_of_all_parts_give_monais_loss_and_gradient() -> None:
    """Two uneven halves: the first has label 1 only, the second label 2 only."""
    torch.manual_seed(0)
    network = UDFA(NetworkConfig(num_classes=3, spa_channels=(8,) * 5, lgfa_width=16, decoder_channels=(8,) * 4))
    image = torch.randn(4, 3, 32, 32)
    label = torch.zeros(4, 1, 32, 32, dtype=torch.int64)
    label[:2, :, 4:20, 4:20], label[2:, :, 10:14, 8:30] = 1, 2
    parameters = [p for p in network.parameters() if p.requires_grad]

    def of(loss: Tensor) -> Tensor:
        return torch.cat([g.flatten() for g in torch.autograd.grad(loss, parameters)])

    whole = SupervisedObjective(network)(image, label, 0)
    objective = SupervisedObjective(network, parts=2)
    total = sum(objective.dice_sums(image[i : i + 2], label[i : i + 2]) for i in (0, 2)).detach()  # type: ignore[union-attr]
    halves = [objective(image[i : i + 2], label[i : i + 2], 0, total) for i in (0, 2)]
    assert torch.stack(halves).mean().item() == pytest.approx(whole.item(), abs=1e-5)
    expected, got = of(whole), torch.stack([of(half) for half in halves]).mean(dim=0)
    assert distance(expected, got) < 1e-3
    # Without the common sums, the mean of two Dice losses is another loss.
    alone = [SupervisedObjective(network)(image[i : i + 2], label[i : i + 2], 0) for i in (0, 2)]
    assert abs(torch.stack(alone).mean().item() - whole.item()) > 1e-2


def test_one_part_alone_is_monais_dice_and_cross_entropy() -> None:
    torch.manual_seed(0)
    network = UDFA(NetworkConfig(num_classes=3, spa_channels=(8,) * 5, lgfa_width=16, decoder_channels=(8,) * 4))
    image, label = torch.randn(2, 3, 32, 32), torch.randint(0, 3, (2, 1, 32, 32))
    objective = SupervisedObjective(network, parts=2)
    sums = objective.dice_sums(image, label)
    logits = network(image)
    pooled = objective._pooled_dice(sums, sums.detach())[0] + torch.nn.functional.cross_entropy(logits, label[:, 0])
    criterion = DiceCELoss(include_background=False, to_onehot_y=True, softmax=True, batch=True)
    assert pooled.item() == pytest.approx(criterion(logits, label).item(), abs=1e-5)


def test_two_passes_of_half_a_batch_make_the_step_of_the_whole_batch(settings: Settings, tmp_path: Path) -> None:
    common = {"steps": 2, "log_every": 1}
    whole = settings(batch_size=4, output=str(tmp_path / "whole"), **common)
    passes = settings(batch_size=2, accumulate=2, output=str(tmp_path / "passes"), **common)
    for config in (whole, passes):
        fit(config, stop_after=1)
    assert logged(tmp_path / "passes") == pytest.approx(logged(tmp_path / "whole"), abs=1e-5)
    assert distance(moments(tmp_path / "whole"), moments(tmp_path / "passes")) < 1e-3


def test_a_run_with_two_passes_resumes_exactly(settings: Settings, tmp_path: Path) -> None:
    whole, parts = (
        settings(batch_size=1, accumulate=2, steps=3, output=str(tmp_path / name)) for name in ("whole", "parts")
    )
    fit(whole, stop_after=2)
    for step in (1, 2):
        fit(parts, stop_after=step)
    assert torch.equal(moments(tmp_path / "whole"), moments(tmp_path / "parts"))


def files(output: Path) -> list[str]:
    """Names of all files of a run, those of TensorBoard without time and process."""
    return sorted(re.sub(r"tfevents.*", "tfevents", path.name) for path in output.rglob("*") if path.is_file())


def printed_by(command: list[str], config: FitConfig, folder: Path) -> str:
    """Run a command with the arguments of `udfa-train fit`; returns what it printed."""
    file = folder / "settings.yaml"
    file.write_text(yaml.safe_dump(to_dict(config)))
    paths = os.pathsep.join(str(ROOT / name) for name in ("UDFASegmentation", "training"))
    inherited = {name: value for name, value in os.environ.items() if name not in OF_A_PROCESS}
    done = subprocess.run(
        [sys.executable, *command, "fit", "--config", str(file)],
        env={**inherited, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.parametrize(
    ("command", "passes"), [(["-m", CLI], 1), (TORCHRUN, 2)], ids=["plain command", "torchrun, two passes"]
)
def test_two_processes_leave_the_run_of_one_with_the_whole_batch(
    command: list[str], passes: int, settings: Settings, tmp_path: Path
) -> None:
    common = {"steps": 2, "log_every": 1, "validate_every": 1, "train": "decoder"}
    one = settings(batch_size=4, output=str(tmp_path / "one"), **common)
    parts = {"batch_size": 2 // passes, "accumulate": passes, "devices": 2}
    two = settings(output=str(tmp_path / "two"), **common, **parts)
    published = fit(one)
    assert printed_by(command, two, tmp_path) == f"{tmp_path / 'two' / published.name}\n"
    assert files(tmp_path / "two") == files(tmp_path / "one")
    assert len(logged(tmp_path / "two")) == 2
    assert logged(tmp_path / "two") == pytest.approx(logged(tmp_path / "one"), abs=1e-5)
    assert distance(moments(tmp_path / "one"), moments(tmp_path / "two")) < 1e-3
    states = [torch.load(tmp_path / name / "last.pt", weights_only=True) for name in ("one", "two")]
    assert states[1]["step"] == states[1]["validated"] == 2
    assert states[0]["best_dice"] == pytest.approx(states[1]["best_dice"], abs=1e-3)
    rows = (tmp_path / "two" / "validation.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["step", "1", "2"]
