import csv
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from diffrelax.clock import Time
from diffrelax.training.devices import own_device
from diffrelax.training.loop import train
from diffrelax.training.ranks import Ranks, joined_ranks
from diffrelax.training.state import load_tensors


@pytest.mark.slow
@pytest.mark.parametrize(
    ("optimizer", "options"),
    [
        ("adamw", []),
        ("muon", []),
        pytest.param(
            "muon",
            ["--compile"],
            marks=[
                pytest.mark.slow,
                pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler"),
            ],
        ),
    ],
)
def test_two_processes_learn_what_one_learns(geometries, config, tmp_path, optimizer, options):
    changes = {"steps": 6, "log_every": 3, "optimizer": optimizer, "data": "sets"}
    training = config.training.model_copy(update=changes)
    config = config.model_copy(update={"training": training})
    two = tmp_path / "two"
    (two / "sets").mkdir(parents=True)
    geometries = replace(geometries, smiles=np.full(len(geometries), b"C"))
    for split in ("train", "validation"):
        geometries.save(two / f"sets/{split}.npz")
    (two / "config.yaml").write_text(config.model_dump_json())
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command = ["-m", "diffrelax", "train", two / "config.yaml", "--threads=1", *options]
    told = subprocess.run([*launch, *command], check=True, capture_output=True, text=True).stdout
    assert told.count("step 6 of 6") == 1
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


def test_processes_agree_where_all_have_the_same_value(monkeypatch):
    def with_others(*others):
        return lambda ranks, values, device: {
            "sum": values["sum"] + sum(others),
            "squares": values["squares"] + sum(other**2 for other in others),
        }

    monkeypatch.setattr(Ranks, "add_up", with_others(65_536, 65_536))
    assert Ranks(0, 3).agree_on(65_536, torch.device("cpu"))
    monkeypatch.setattr(Ranks, "add_up", with_others(65_536, 0))
    assert not Ranks(0, 3).agree_on(65_536, torch.device("cpu"))


def test_each_process_has_a_gpu_of_its_own(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert own_device("cuda") == torch.device("cuda:3")
    assert own_device("cuda:1") == torch.device("cuda:1")
    assert own_device("cpu") == torch.device("cpu")
    monkeypatch.delenv("LOCAL_RANK")
    assert own_device("cuda") == torch.device("cuda")


def test_a_process_that_torchrun_did_not_start_is_alone(monkeypatch):
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    with joined_ranks(torch.device("cpu")) as ranks:
        assert ranks == Ranks(0, 1)
        assert ranks.add_up({"a": 2.0}, torch.device("cpu")) == {"a": 2.0}


def test_time_is_that_of_all_processors_and_of_one_clock(monkeypatch):
    monkeypatch.setattr(
        Ranks, "add_up", lambda ranks, values, device: {k: 3 * v for k, v in values.items()}
    )
    assert Ranks(1, 3).time_of_all(Time(1.0, 0.5), torch.device("cpu")) == Time(1.0, 1.5)
