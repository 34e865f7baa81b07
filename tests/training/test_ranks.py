import csv
import shutil
import subprocess
import sys

import pytest
import torch

from diffrelax.clock import Time
from diffrelax.training.loop import train
from diffrelax.training.ranks import Ranks, joined_ranks
from diffrelax.training.state import load_tensors

TRAINING = """
import sys
from pathlib import Path
import torch
from diffrelax.training.config import ModelConfig
from diffrelax.training.geometries import GeometrySet
from diffrelax.training.loop import train

torch.set_num_threads(1)
folder = Path(sys.argv[1])
geometries = GeometrySet.load(folder.with_suffix(".npz"))
config = ModelConfig.model_validate_json(folder.with_suffix(".json").read_text())
train(config, folder, geometries, geometries, compiled="compiled" in sys.argv)
"""
COMPILED = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler"),
]


@pytest.mark.parametrize(
    ("optimizer", "options"),
    [("adamw", []), ("muon", []), pytest.param("muon", ["compiled"], marks=COMPILED)],
)
def test_two_processes_learn_what_one_learns(geometries, config, tmp_path, optimizer, options):
    changes = {"steps": 6, "log_every": 3, "optimizer": optimizer}
    training = config.training.model_copy(update=changes)
    config = config.model_copy(update={"training": training})
    folder = tmp_path / "two"
    geometries.save(folder.with_suffix(".npz"))
    folder.with_suffix(".json").write_text(config.model_dump_json())
    (tmp_path / "train.py").write_text(TRAINING)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    subprocess.run([*launch, tmp_path / "train.py", folder, *options], check=True)
    train(config, tmp_path / "one", geometries, geometries)
    one, two = (load_tensors(tmp_path / n / "resume.safetensors")[0] for n in ("one", "two"))
    for name, weights in one.items():
        torch.testing.assert_close(two[name], weights, atol=1e-4, rtol=1e-3)
    losses = []
    for name in ("one", "two"):
        with (tmp_path / name / "training.csv").open() as file:
            losses.append([float(row["loss"]) for row in csv.DictReader(file)])
    assert len(losses[0]) == 2
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_parts_of_a_batch_are_all_of_it():
    batch = list(range(11))
    parts = [batch[Ranks(rank, 3).part] for rank in range(3)]
    assert sorted(i for part in parts for i in part) == batch


def test_a_process_that_torchrun_did_not_start_is_alone(monkeypatch):
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    with joined_ranks("cpu") as ranks:
        assert ranks == Ranks(0, 1)
        assert ranks.add_up({"a": 2.0}, torch.device("cpu")) == {"a": 2.0}


def test_time_is_that_of_all_processors_and_of_one_clock(monkeypatch):
    monkeypatch.setattr(
        Ranks, "add_up", lambda ranks, values, device: {k: 3 * v for k, v in values.items()}
    )
    assert Ranks(1, 3).time_of_all(Time(1.0, 0.5), torch.device("cpu")) == Time(1.0, 1.5)
