"""Checks of relaxed geometries by their bond lengths and by GFN2-xTB."""

from __future__ import annotations

from collections import defaultdict
from math import dist, hypot, isnan, nan
from typing import NamedTuple

import numpy as np
from rdkit import Chem

from diffrelax.geometry import superpose
from diffrelax.levels import get_calculator, relax_at_level
from diffrelax.levels.distances import from_gfn2
from diffrelax.levels.model_hessian import model_hessian
from diffrelax.molecule import Molecule
from diffrelax.molecule.bent_bonds import flat_cumulene, has_bent_bonds
from diffrelax.molecule.connectivity import skeleton
from diffrelax.molecule.strained_rings import has_strained_ring
from diffrelax.units import KCAL_PER_MOL

REBONDED = 0.028  # Å, root mean square change of three or more bonds
RISE = 0.5  # kcal/mol; GFN2-xTB does not rank geometries near a minimum more finely
SPRING = 700.0  # kcal/mol/Å², about the force constant of a bond
OWN_RISE = 1.5  # kcal/mol, added for starts at a minimum of GFN2-xTB: 98% of validation molecules
STILL = 0.1  # eV/Å; largest force at a minimum of GFN2-xTB
STEPS = 200  # of relaxations with GFN2-xTB
STRAINED_RISE = 1.5  # kcal/mol, added for strain: 98% of 300 validation molecules of QM9
UNEVEN = 0.015  # Å; equivalent bonds of 2,742 validation minima differ by 0.0142 at most


def is_rebonded(start: Molecule, positions: np.ndarray) -> bool:
    """Tell whether a relaxation moved double bonds, or may have, at charges beyond -1 and +1.

    Force fields know the lengths of conjugated C-C bonds, so in few conjugated systems they change
    by more than `REBONDED`. In fulvalenes, pentalenes or the dianion of hydroquinone, the number of
    electrons decides where double bonds are, which the model learned from few molecules.

    Parameters
    ----------
    start : Molecule
        Start, at a force-field geometry.
    positions : (n_atoms, 3) array, Å
        Relaxed geometry.
    """
    if abs(start.charge) > 1:
        return True
    mol = Chem.RWMol(start.to_rdkit(stereo=False))
    for bond in list(mol.GetBonds()):
        if not bond.GetIsConjugated():
            mol.RemoveBond(bond.GetBeginAtomIdx(), bond.GetEndAtomIdx())
    systems = {atom: place for place, atoms in enumerate(Chem.GetMolFrags(mol)) for atom in atoms}
    changes = defaultdict(list)
    for bond in mol.GetBonds():
        if bond.GetBeginAtom().GetAtomicNum() == bond.GetEndAtom().GetAtomicNum() == 6:
            i, j = bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()
            before, after = (dist(x[i], x[j]) for x in (start.positions, positions))
            changes[systems[i]].append(after - before)
    return any(
        len(some) > 2 and hypot(*some) / len(some) ** 0.5 > REBONDED for some in changes.values()
    )


def uneven_bonds(start: Molecule, positions: np.ndarray) -> str:
    """Say which conjugated C-C bonds are equivalent but differ in length; empty if none do.

    Equivalent bonds differ only in the Lewis structure, by its double bonds and charges. Where
    these are delocalised, as in cyanine dyes and azulene, a force field keeps the bond alternation
    of the Lewis structure, and a model may keep it too.
    """
    mol = start.to_rdkit(stereo=False)
    pairs = [(bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()) for bond in mol.GetBonds()]
    middles = range(start.n_atoms, start.n_atoms + len(pairs))  # atoms that stand for bonds
    bare = skeleton(
        [*start.numbers.tolist(), *(0 for _ in middles)],
        ((end, middle) for ends, middle in zip(pairs, middles, strict=True) for end in ends),
    )
    kinds = list(Chem.CanonicalRankAtoms(bare, breakTies=False, includeChirality=False))
    alike = defaultdict(list)
    for bond, (i, j), middle in zip(mol.GetBonds(), pairs, middles, strict=True):
        if bond.GetIsConjugated() and (start.numbers[[i, j]] == 6).all():
            alike[kinds[middle]].append((dist(*positions[[i, j]]), i, j))
    for bonds in alike.values():
        (short, *one), (long, *other) = min(bonds), max(bonds)
        if long - short > UNEVEN:
            names = ("–".join(map(start.label, pair)) for pair in (one, other))
            return (
                f"{' and '.join(names)}, which differ only in the Lewis structure, differ "
                f"by {long - short:.3f} Å: if the charge or the double bonds are "
                "delocalised, they should be equal"
            )
    return ""


def expected_rise(molecule: Molecule, level: str) -> float:
    """Return how far a minimum of a level may be above a good start by GFN2-xTB, kcal/mol.

    Each bond is a spring, stretched by the typical difference of bond lengths between the level and
    GFN2-xTB. `OWN_RISE` is added for a start that is itself a minimum of GFN2-xTB.
    """
    own = OWN_RISE if molecule.start == "given" and _is_still(molecule) else 0.0
    return RISE + own + len(molecule.bonds) * SPRING * from_gfn2(level) ** 2


def _is_still(molecule: Molecule) -> bool:
    try:
        forces = get_calculator("gfn2-xtb", molecule).get_forces(molecule.to_atoms())
    except (RuntimeError, ArithmeticError, ValueError):
        return False
    return bool(np.linalg.norm(forces, axis=1).max() < STILL)


def rise(start: Molecule, positions: np.ndarray) -> float:
    """Return the GFN2-xTB energy of positions relative to a start, kcal/mol; NaN if it fails."""
    try:
        calculator = get_calculator("gfn2-xtb", start)
        energies = []
        for geometry in (start.positions, positions):
            atoms = start.with_positions(geometry).to_atoms()
            energies.append(calculator.get_potential_energy(atoms))
    except (RuntimeError, ArithmeticError, ValueError):
        return nan
    return (energies[1] - energies[0]) / KCAL_PER_MOL


def second_opinion(start: Molecule, positions: np.ndarray, level: str) -> str:
    """Say why GFN2-xTB prefers the start to the relaxed positions; empty if it does not."""
    above = rise(start, positions)
    if above <= expected_rise(start, level):
        return ""
    if isnan(above):
        return "GFN2-xTB cannot check the energy of the end"
    return f"GFN2-xTB finds the end {above:.1f} kcal/mol above the start"


def widened(error_bound: float, start: Molecule, positions: np.ndarray) -> float:
    """Widen the error bound at charges beyond -1 and +1 to how far GFN2-xTB moves the geometry.

    There, groups of like charge turn away from each other, which is rare in other molecules.
    """
    if abs(start.charge) < 2 or isnan(error_bound):
        return error_bound
    found = relax_at_level(start.with_positions(positions), "gfn2-xtb", max_steps=STEPS)
    return max(error_bound, superpose(positions, found.positions)[1])


class Strain(NamedTuple):
    """Result of a check of strain: a caution, and the minimum of GFN2-xTB to return, if any."""

    caution: str = ""
    minimum: Molecule | None = None


def strain(start: Molecule, positions: np.ndarray, level: str) -> Strain:
    """Check with GFN2-xTB how far a strained geometry is above a minimum.

    Strained are multiple bonds and arenes that are bent or in a small ring. They are rare in
    training, and the environments of atoms do not show them. If the estimate from one gradient
    (`height`) is above half of the limit, the geometry is relaxed with GFN2-xTB.

    Parameters
    ----------
    start : Molecule
    positions : (n_atoms, 3) array, Å
        Relaxed geometry.
    level : str
        Level of theory of the minimum.
    """
    flat = flat_cumulene(start, positions)
    if not (
        flat
        or has_strained_ring(start.to_rdkit(stereo=False))
        or any(has_bent_bonds(start, x) for x in (positions, start.positions))
    ):
        return Strain()
    end = start.with_positions(positions)
    limit = STRAINED_RISE + expected_rise(start, level)
    above = height(end)
    if above > limit / 2 or flat:
        found = relax_at_level(end, "gfn2-xtb", max_steps=STEPS)
        fall = rise(start.with_positions(found.positions), positions) if found.converged else 0.0
        if fall > limit:
            return Strain(
                f"strained: GFN2-xTB finds the end {fall:.1f} kcal/mol above its own nearby "
                "minimum, which is returned instead",
                end.with_positions(found.positions, start="gfn2-xtb"),
            )
        if not found.converged and above > limit:
            return Strain(
                f"strained: according to GFN2-xTB about {above:.0f} kcal/mol above a minimum"
            )
    if flat:
        return Strain(
            f"the ends of {flat} are nearly coplanar, but perpendicular at a minimum: the "
            "energy may be tens of kcal/mol too high"
        )
    return Strain()


def height(molecule: Molecule) -> float:
    """Estimate how far a geometry is above the nearest minimum of GFN2-xTB, kcal/mol.

    The estimate is ½ gᵀH⁻¹g, with the gradient g and a model Hessian H. NaN if GFN2-xTB fails.
    """
    atoms = molecule.to_atoms()
    try:
        forces = get_calculator("gfn2-xtb", molecule).get_forces(atoms).ravel()
    except (RuntimeError, ArithmeticError, ValueError):
        return nan
    return float(forces @ np.linalg.solve(model_hessian(atoms), forces)) / 2 / KCAL_PER_MOL
