"""Molecules: the record, checks, bonds, embedding, identity."""

from diffrelax.molecule.bonds import Bond
from diffrelax.molecule.record import Molecule

__all__ = ["Bond", "Molecule"]
