"""Molecules: the record, checks, bonds, embedding, identity."""

from diffrelax.molecule.record import Bond, Molecule

__all__ = ["Bond", "Molecule"]
