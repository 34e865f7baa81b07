"""Relaxation with density functional theory: optimizers, checks, and every part of the cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from diffrelax.dft.result import DFTRelaxation
from diffrelax.dft.settings import DFTSettings

if TYPE_CHECKING:
    from diffrelax.dft.optimization import relax_dft

__all__ = ["DFTRelaxation", "DFTSettings", "relax_dft"]


def __getattr__(name: str) -> Any:
    if name != "relax_dft":
        raise AttributeError(f"module 'diffrelax.dft' has no attribute {name!r}")
    from diffrelax.dft.optimization import relax_dft  # takes PySCF

    return relax_dft
