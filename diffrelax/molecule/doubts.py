"""Remarks on doubtful interpretations of coordinates."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from ase.data import covalent_radii
from ase.units import Bohr
from scipy.spatial import cKDTree

from diffrelax.molecule.record import Molecule
from diffrelax.molecule.twists import annulenes, open_twists

# Å beyond the covalent radii; at most -0.13 in 2,000 validation molecules of QM9 and their MMFF94
# geometries. Nearly all that lack two hydrogens get such a bond or separated charges.
LONG_DOUBLE_BOND = -0.08
TRIPLETS = ([8, 8], [8, 16], [16, 16])  # O2, SO, S2
OPEN_SHELLS = {*range(23, 29), *range(58, 71)}  # V to Ni, Ce to Yb
CHECK = "check its hydrogens and its charge (of .xyz and .pdb files, --charge)"
BOHR_APART = (0.9 / Bohr, 1.1 / Bohr)  # distances in bohr over sums of covalent radii in Å


def odd_reading(molecule: Molecule) -> str:
    """Describe doubts about how a molecule was read; empty if there are none.

    This is unspecified stereochemistry, or low spin where high spin is likely. For coordinates, it
    is also separated charges, unpaired electrons, or multiple bonds as long as single bonds, which
    are typical of missing hydrogens or a wrong charge.
    """
    if molecule.left_open:
        mol = molecule.to_rdkit()
        chains = ["=".join(map(molecule.label, twist.chain)) for twist in open_twists(mol)]
        large = [f"the double bonds of the ring of {len(ring)}" for ring in annulenes(mol)]
        about = " and ".join(chains + large)
        more = f", and the orientation at {about}" if about else ""
        return f"stereochemistry not specified: chosen as {molecule.smiles}{more}"
    if doubt := low_spin(molecule):
        return doubt
    if molecule.start != "given":
        return ""
    if not molecule.smiles:
        radical = molecule.multiplicity % 2 == 0
        return f"an odd number of electrons: {CHECK}" if radical else ""
    odd = ", ".join(_oddities(molecule))
    return f"read as {molecule.smiles}, {odd}: {CHECK}" if odd else ""


def low_spin(molecule: Molecule) -> str:
    """Describe low spin of O2, S2 or metals with open d or f shells; empty if none."""
    numbers = sorted(molecule.numbers.tolist())
    likes_high_spin = numbers in TRIPLETS or not OPEN_SHELLS.isdisjoint(numbers)
    if molecule.multiplicity > 2 or not likes_high_spin:
        return ""
    return (
        f"treated with multiplicity {molecule.multiplicity}: for more unpaired electrons, "
        "write [O][O], or multiplicity=3 with coordinates"
    )


def _oddities(molecule: Molecule) -> Iterator[str]:
    charges = np.array(molecule.formal_charges or molecule.n_atoms * (0,))
    numbers = molecule.numbers
    usual = {
        k
        for i, j, order in molecule.bonds
        if charges[i] * charges[j] < 0 and (order == 3 or 6 not in numbers[[i, j]])
        for k in (i, j)
    }  # nitro groups, N-oxides, azides, diazo groups, isocyanides
    if np.abs(np.delete(charges, list(usual))).sum() > abs(molecule.charge):
        yield "with separated charges"
    if molecule.multiplicity > 1:
        yield "with unpaired electrons"
    for i, j, order in molecule.bonds:
        if order < 2 or numbers[[i, j]].max() > 8:  # UFF gives such lengths for S=O
            continue
        length = np.linalg.norm(molecule.positions[i] - molecule.positions[j])
        if length > covalent_radii[numbers[[i, j]]].sum() + LONG_DOUBLE_BOND:
            names = map(molecule.label, (i, j))
            yield f"where {'='.join(names)} is as long as a single bond ({length:.2f} Å)"
            return


def looks_like_bohr(molecule: Molecule) -> str:
    """Describe distances that look like bonds in bohr; empty if they do not."""
    distances, nearest = cKDTree(molecule.positions).query(molecule.positions, k=2)
    radii = covalent_radii[molecule.numbers]
    apart = np.median(distances[:, 1] / (radii + radii[nearest[:, 1]]))
    if not BOHR_APART[0] < apart < BOHR_APART[1]:
        return ""
    return (
        f"distances are {apart:.2f} times those of bonds, so the positions seem to be in "
        f"bohr: multiply them by {Bohr:.4f} to get Å"
    )
