import os
import sys
from dataclasses import replace
from unittest.mock import patch

import numpy as np
import pytest
import torch
from source_tree import OLDER
from threadpoolctl import threadpool_limits

import diffrelax.levels.density_functional  # noqa: F401  before a test imports PySCF itself
from diffrelax.geometry import superpose
from diffrelax.models.release import load_model
from diffrelax.molecule import Molecule
from diffrelax.molecule.environments import count_environments
from diffrelax.network.config import NetworkConfig
from diffrelax.training.config import build_denoiser
from diffrelax.training.geometries import GeometrySet
from diffrelax.training.learned import Learned

LONG = ("slow", "slurm")
SMILES = ("CCO", "CC=O", "C1CC1", "C#C", "CC(N)=O", "c1ccoc1")


def pytest_configure(config):
    """Let workers take files in the order that is told below."""
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False


def pytest_collection_modifyitems(items):
    """Begin with the files that take minutes, so that no worker is left alone with one."""
    long = {item.path for item in items if any(map(item.get_closest_marker, LONG))}
    items.sort(key=lambda item: item.path not in long)


@pytest.fixture(scope="session")
def model():
    """The first released relaxation model."""
    return load_model(OLDER)


@pytest.fixture(scope="session")
def geometries():
    """Embedded molecules, whose "DFT" geometry is a slightly shaken one."""
    rng = np.random.default_rng(0)
    molecules = [Molecule.from_smiles(s) for s in SMILES]
    sizes = [m.n_atoms for m in molecules]
    starts = [m.positions - m.positions.mean(0) for m in molecules]
    minima = [superpose(p + 0.01 * rng.normal(size=p.shape), p)[0] for p in starts]
    return GeometrySet(
        index=np.arange(20, 20 * 7, 20),
        offsets=np.concatenate([[0], np.cumsum(sizes)]),
        numbers=np.concatenate([m.numbers for m in molecules]).astype(np.uint8),
        positions=np.concatenate(minima).astype(np.float32),
        starts=np.concatenate(starts).astype(np.float32),
        start_rmsd=np.full(6, 0.02, dtype=np.float32),
        start_torsion=np.zeros(6, dtype=np.float32),
        smiles=np.array([m.smiles.encode() for m in molecules]),
    )


@pytest.fixture(scope="session")
def several(model):
    """A tiny model of several levels, charges and elements, which moves nothing."""
    cho = Learned(minima=90, elements=(1, 6, 7, 8), charges=(0,), most_heavy=9)
    more = Learned(minima=9, elements=(1, 6, 7, 8, 15, 17), charges=(-1, 0, 1), most_heavy=20)
    config = model.config.model_copy(
        update={
            "name": "several-1",
            "level": "r2SCAN-3c",
            "network": NetworkConfig(
                levels=("B3LYP/6-31G(2df,p)", "r2SCAN-3c", "BP86/def2-SVP"),
                charges=(-2, -1, 0, 1, 2),
                elements=(1, 6, 7, 8, 15, 17, 35),
                channels=8,
                products=4,
                layers=1,
            ),
            "learned": {"B3LYP/6-31G(2df,p)": cho, "r2SCAN-3c": more},
            "largest": 60,
            "most_heavy": 20,
            "limit": 250,
        }
    )
    denoiser = build_denoiser(config).requires_grad_(False).eval()
    known = 5 * [
        "CCCl", "CCO", "CCCCCO", "NCC(=O)O", "[NH3+]CC(=O)[O-]", "C[NH3+]", "CC(=O)[O-]",
        "C[N+](=O)[O-]", "COP(=O)([O-])OC", "COP(=O)(O)OC",
    ]  # fmt: skip
    environments = count_environments(known)
    return replace(model, config=config, denoiser=denoiser, environments=environments)


@pytest.fixture(autouse=True)
def same_threads():
    """Give each test the environment and the threads that the first one has."""
    threads = torch.get_num_threads()
    with patch.dict(os.environ), threadpool_limits():
        yield
    torch.set_num_threads(threads)


@pytest.fixture
def run(monkeypatch, capsys):
    """Run the command line in this process; return exit status, output and errors."""
    from diffrelax.cli import main

    monkeypatch.setattr("diffrelax.progress.BETWEEN_LINES", 1e6)  # s

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["diffrelax", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        captured = capsys.readouterr()
        return stop.value.code or 0, captured.out, captured.err

    return call
