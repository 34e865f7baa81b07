"""Flows of jobs, from a laptop to a cluster: Makers for jobflow, in the style of atomate2."""

from diffrelax.flows.relax import RelaxFlowMaker
from diffrelax.flows.stages import (
    DFTRelaxMaker,
    DiffusionRelaxMaker,
    EmbedMaker,
    ForceFieldRelaxMaker,
    StaticMaker,
)

__all__ = [
    "DFTRelaxMaker",
    "DiffusionRelaxMaker",
    "EmbedMaker",
    "ForceFieldRelaxMaker",
    "RelaxFlowMaker",
    "StaticMaker",
]
