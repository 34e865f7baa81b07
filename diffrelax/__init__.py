"""Relax molecules with a diffusion model before a DFT relaxation.

Units: Å, eV, eV/Å, K.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diffrelax.boltzmann import sample_boltzmann
    from diffrelax.conformers import sample_conformers
    from diffrelax.dft import DFTRelaxation, relax_dft
    from diffrelax.ensemble import Ensemble
    from diffrelax.files import Rejected, read_molecules
    from diffrelax.models import Model, load_model
    from diffrelax.molecule import Molecule
    from diffrelax.relaxation import Relaxation, relax

__all__ = [
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
]

_ROOMS = {
    "DFTRelaxation": "dft",
    "relax_dft": "dft",
    "Ensemble": "ensemble",
    "Model": "models",
    "load_model": "models",
    "Molecule": "molecule",
    "Rejected": "files",
    "read_molecules": "files",
    "Relaxation": "relaxation",
    "relax": "relaxation",
    "sample_boltzmann": "boltzmann",
    "sample_conformers": "conformers",
}


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"module 'diffrelax' has no attribute {name!r}")
    return getattr(import_module(f"diffrelax.{_ROOMS[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
