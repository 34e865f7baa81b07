"""The domain of a model: which molecules it covers, and which it covers with caution."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from ase.data import chemical_symbols
from rdkit import Chem

from diffrelax.models import Model
from diffrelax.molecule import Molecule

MAX_ATOMS = 100


def outside_domain(molecule: Molecule, model: Model) -> str:
    """Say why the model does not cover a molecule; empty if it does."""
    if reason := outside_method(molecule, model.config.network.elements):
        return reason
    if molecule.n_atoms > (limit := atom_limit(model)):
        return (
            f"{molecule.n_atoms} atoms: the model was trained on at most {model.config.largest} "
            f"and is not used beyond {limit}"
        )
    for pair in sorted(bond_kinds(molecule) - set(model.config.bonds)):
        names = "–".join(chemical_symbols[z] for z in pair)
        return f"it has a bond {names}, of which the model has seen none"
    return ""


def atom_limit(model: Model) -> int:
    """Return how many atoms, hydrogens counted, the model is used for at most."""
    return max(MAX_ATOMS, model.config.largest)


def outside_method(molecule: Molecule, elements: Collection[int]) -> str:
    """Say why no model of these elements can learn or relax a molecule; empty if one can."""
    foreign = sorted({s for s, z in zip(molecule.symbols, molecule.numbers, strict=True)
                      if z not in elements})  # fmt: skip
    if foreign:
        return f"the model was not trained on {', '.join(foreign)}"
    if molecule.charge:
        return f"charge {molecule.charge:+d}: the model was trained on neutral molecules"
    if molecule.multiplicity != 1:
        return (
            f"multiplicity {molecule.multiplicity}: the model was trained on closed-shell molecules"
        )
    if molecule.n_atoms == 1:
        return "a single atom has no geometry to relax"
    if not np.isin(molecule.numbers, (6, 7, 8)).any():
        return f"{molecule.formula}: the model was trained on molecules with C, N or O"
    if not molecule.bonds:
        return (
            f"no bonds are known, or fit its positions and a charge of {molecule.charge}, so "
            "nothing could be checked: give the right charge, positions in Å, or a SMILES"
        )
    try:
        fragments = len(Chem.GetMolFrags(molecule.to_rdkit()))
    except ValueError as error:
        return f"its bonds make no structure that RDKit knows ({error}): give a SMILES"
    if fragments > 1:
        return f"{fragments} fragments: the model was trained on single molecules"
    return ""


def bond_kinds(molecule: Molecule) -> set[tuple[int, int]]:
    """Return the pairs of atomic numbers, the smaller first, that are bonded in a molecule."""
    ends = molecule.numbers[np.array([bond[:2] for bond in molecule.bonds])]
    return {(int(a), int(b)) for a, b in np.sort(ends, axis=1)}


def has_cumulenes(molecule: Molecule) -> bool:
    """Tell whether an atom of a molecule has two double bonds, as in allene or an isocyanate."""
    ends = [atom for *pair, order in molecule.bonds if order == 2 for atom in pair]
    return len(ends) > len(set(ends))


def caution(start: Molecule, model: Model, *, bounded: bool) -> str:
    """Say what to beware of in the relaxation of a molecule that is covered; empty if nothing.

    Parameters
    ----------
    start : Molecule
    model : Model
    bounded : bool
        Whether a bound on the error is told.
    """
    cautions = []
    heavy, n_atoms = np.count_nonzero(start.numbers > 1), start.n_atoms
    most_heavy, largest = model.config.most_heavy, model.config.largest
    if heavy > most_heavy or n_atoms > largest:
        cautions.append(
            f"{heavy} heavy atoms, {n_atoms} in all: extrapolated, trained on at most {most_heavy} "
            f"and {largest}"
        )
    if has_cumulenes(start) and not model.config.cumulenes:
        cautions.append("an atom has two double bonds, of which the model has seen none")
    if cautions and bounded:
        cautions.append("its error bound is not calibrated for that")
    known = model.config.training.starts
    if model.config.relaxation.bridge and start.start not in (*known, "given", "diffusion"):
        cautions.append(f"started from {start.start}, trained on {', '.join(known)}")
    return "; ".join(cautions)
