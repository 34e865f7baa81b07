"""Relax molecules with a diffusion model before a DFT relaxation.

Units: Å, eV, eV/Å, K.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diffrelax.dft import TRIC, DFTRelaxation, relax_dft
    from diffrelax.files.reading import Rejected, read_molecules
    from diffrelax.files.writing import write_molecules
    from diffrelax.models.release import Model, load_model
    from diffrelax.molecule import Molecule
    from diffrelax.relaxation import Relaxation, relax
    from diffrelax.sampling.boltzmann import sample_boltzmann
    from diffrelax.sampling.conformers import sample_conformers
    from diffrelax.sampling.ensemble import Ensemble

# Threads that sleep while they wait: beside another busy process, spinning ones cost several-fold.
# It is read once, when torch is loaded, so there is no later place for it.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__all__ = [
    "TRIC",
    "DFTRelaxation",
    "Ensemble",
    "Model",
    "Molecule",
    "Rejected",
    "Relaxation",
    "load_model",
    "read_molecules",
    "relax",
    "relax_dft",
    "sample_boltzmann",
    "sample_conformers",
    "write_molecules",
]

_MODULES = {
    "TRIC": "dft",
    "DFTRelaxation": "dft",
    "relax_dft": "dft",
    "Ensemble": "sampling.ensemble",
    "Model": "models.release",
    "load_model": "models.release",
    "Molecule": "molecule",
    "Rejected": "files.reading",
    "read_molecules": "files.reading",
    "write_molecules": "files.writing",
    "Relaxation": "relaxation",
    "relax": "relaxation",
    "sample_boltzmann": "sampling.boltzmann",
    "sample_conformers": "sampling.conformers",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version  # slow to import

        return version("diffrelax")
    if name not in _MODULES:
        raise AttributeError(f"module 'diffrelax' has no attribute {name!r}")
    return getattr(import_module(f"diffrelax.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
