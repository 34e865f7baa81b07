"""Relaxation with density functional theory: optimizers, checks, and every part of the cost."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from diffrelax.dft.settings import DFTSettings

if TYPE_CHECKING:
    from diffrelax.dft.optimization import relax_dft
    from diffrelax.dft.result import DFTRelaxation

__all__ = ["DFTRelaxation", "DFTSettings", "relax_dft"]

_ROOMS = {"DFTRelaxation": "result", "relax_dft": "optimization"}  # which take PySCF


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"module 'diffrelax.dft' has no attribute {name!r}")
    return getattr(import_module(f"diffrelax.dft.{_ROOMS[name]}"), name)
