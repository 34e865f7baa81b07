"""Relaxation with density functional theory, with every part of its cost counted."""

from diffrelax.dft.optimization import relax_dft
from diffrelax.dft.result import DFTRelaxation
from diffrelax.dft.settings import DFTSettings

__all__ = ["DFTRelaxation", "DFTSettings", "relax_dft"]
