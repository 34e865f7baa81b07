import numpy as np
import pytest
from ase.build import molecule

from diffrelax.diffusion.denoiser import DenoiserConfig
from diffrelax.network.config import NetworkConfig
from diffrelax.training.config import ModelConfig, TrainingConfig
from diffrelax.training.geometries import GeometrySet

NAMES = ("CH4", "NH3", "H2O", "C2H6", "CH3OH", "CO2", "C2H4", "CH3CH2OH", "H2CO", "C2H2")


@pytest.fixture
def geometries():
    """Forty small molecules, starts shaken by 0.05 Å."""
    rng = np.random.default_rng(0)
    found = [molecule(name) for name in NAMES * 4]
    sizes = [len(a) for a in found]
    positions = np.concatenate([a.positions - a.positions.mean(0) for a in found])
    return GeometrySet(
        index=np.arange(len(found)),
        offsets=np.concatenate([[0], np.cumsum(sizes)]),
        numbers=np.concatenate([a.numbers for a in found]).astype(np.uint8),
        positions=positions.astype(np.float32),
        starts=(positions + 0.05 * rng.normal(size=positions.shape)).astype(np.float32),
        start_rmsd=np.full(len(found), 0.08, dtype=np.float32),
        start_torsion=np.zeros(len(found), dtype=np.float32),
        smiles=np.array([name.encode() for name in NAMES * 4]),
    )


@pytest.fixture
def config():
    return ModelConfig(
        name="tiny-1",
        level="none",
        network=NetworkConfig(channels=8, radial=6, coarse=3, layers=2),
        denoiser=DenoiserConfig(),
        training=TrainingConfig(
            batch_size=8,
            steps=20,
            warmup=3,
            cooldown=5,
            precision="float32",
            checkpoints=3,
            log_every=5,
            validate_every=10,
            save_every=4,
            validation_molecules=10,
        ),
    )
