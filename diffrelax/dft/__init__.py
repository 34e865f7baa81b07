"""Relaxation with density functional theory: optimizers, checks of the minimum, and costs."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diffrelax.dft.optimization import relax_dft
    from diffrelax.dft.optimizers.internal import TRIC
    from diffrelax.dft.result import DFTRelaxation
    from diffrelax.dft.settings import DFTSettings

__all__ = ["TRIC", "DFTRelaxation", "DFTSettings", "relax_dft"]

_MODULES = {
    "TRIC": "optimizers.internal",
    "DFTRelaxation": "result",
    "DFTSettings": "settings",
    "relax_dft": "optimization",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'diffrelax.dft' has no attribute {name!r}")
    return getattr(import_module(f"diffrelax.dft.{_MODULES[name]}"), name)
