"""Flows of jobs, from a laptop to Slurm: Makers for jobflow, in the style of atomate2."""

from diffrelax.flows.atoms import to_atoms
from diffrelax.flows.batches import DiffusionRelaxMaker, EmbedMaker
from diffrelax.flows.conformers import ConformerFlowMaker
from diffrelax.flows.levels import DFTRelaxMaker, ForceFieldRelaxMaker, StaticMaker
from diffrelax.flows.relax import RelaxFlowMaker
from diffrelax.flows.speedup import SpeedupFlowMaker

__all__ = [
    "ConformerFlowMaker",
    "DFTRelaxMaker",
    "DiffusionRelaxMaker",
    "EmbedMaker",
    "ForceFieldRelaxMaker",
    "RelaxFlowMaker",
    "SpeedupFlowMaker",
    "StaticMaker",
    "to_atoms",
]
