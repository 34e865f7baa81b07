"""Cautions about relaxations of molecules that a model covers."""

from __future__ import annotations

from math import isnan

from ase.data import chemical_symbols
from rdkit import Chem

from diffrelax.levels.names import spelt
from diffrelax.models.domain import knows_start
from diffrelax.models.release import Model
from diffrelax.molecule import Molecule

TURNING, PUCKERED = map(Chem.MolFromSmarts, ("[!D1]-!@[!D1]", "[^3]-@[^3]"))
UNCONVERGED = " unconverged"  # suffix of the force field of a start


def caution(start: Molecule, model: Model, level: str, error_bound: float) -> str:
    """Say what to beware of in the relaxation of a covered molecule; empty if nothing.

    Parameters
    ----------
    start : Molecule
    model : Model
    level : str
        Level of theory of the minimum.
    error_bound : float, Å
        NaN if there is none.
    """
    cautions = list(filter(None, [not_learned_there(start, model, level)]))
    if _is_zwitterion(start):
        cautions.append(
            "a zwitterion: in the gas phase, where the model was trained, a proton may move"
        )
    elif _may_pass_a_proton_on(start):
        cautions.append("a doubly charged anion: in the gas phase, a proton may move")
    heavy, n_atoms = start.n_heavy, start.n_atoms
    most_heavy, largest = model.config.most_heavy, model.config.largest
    if heavy > most_heavy or n_atoms > largest:
        cautions.append(
            f"{heavy} heavy atoms, {n_atoms} in total: extrapolated, trained on at most "
            f"{most_heavy} and {largest}"
        )
    if cautions and not isnan(error_bound):
        cautions.append("the error bound is not calibrated for this")
    if (learned := model.config.learned.get(level)) and learned.stale:
        cautions.append(f"fine-tuned to other levels since {level}: less accurate than before")
    elif model.config.calibrations and level not in model.config.calibrations:
        cautions.append(f"no error bound at {level}: too few molecules for validation")
    if error_bound > model.config.training.max_start_rmsd and _has_conformers(start):
        cautions.append(
            "its error bound is as large as the distance between conformers: compare its "
            "torsions with the start, it may be another conformer"
        )
    own = start.start in ("given", "diffusion") or knows_start(start, model)
    if model.config.relaxation.bridge and not own:
        cautions.append(f"{_odd_start(start, model)}: its error may be larger than usual")
    return "; ".join(cautions)


def not_learned_there(molecule: Molecule, model: Model, level: str) -> str:
    """Say which features of a molecule the model has learned only at other levels of theory.

    Empty if there are none, or if it is not known what was learned at each level.
    """
    if (learned := model.config.learned.get(level)) is None:
        return ""
    lacking = [chemical_symbols[z] for z in sorted({*molecule.numbers} - {*learned.elements})]
    if molecule.charge not in learned.charges:
        lacking.append(f"charge {molecule.charge:+d}" if molecule.charge else "neutral molecule")
    if lacking:
        return f"at {level} the model has learned {' and '.join(lacking)} only at other levels"
    heavy = molecule.n_heavy
    if learned.most_heavy < heavy <= model.config.most_heavy:
        return (
            f"{heavy} heavy atoms: at {level} the model has learned at most "
            f"{learned.most_heavy}, more only at other levels"
        )
    return ""


def _is_zwitterion(molecule: Molecule) -> bool:
    """Tell whether a proton of a cationic atom could move to an anionic atom elsewhere."""
    charges = molecule.formal_charges
    joined = [(i, j) for bond in molecule.bonds for i, j in (bond[:2], bond[1::-1])]
    donors = {i for i, j in joined if charges[i] > 0 and molecule.numbers[j] == 1}
    beside = {i for i, j in joined if charges[j] > 0}
    return bool(donors) and any(q < 0 and i not in beside for i, q in enumerate(charges))


def _may_pass_a_proton_on(molecule: Molecule) -> bool:
    """Tell whether a molecule is a doubly charged anion with a proton on oxygen or nitrogen."""
    ends = ((molecule.numbers[i], molecule.numbers[j]) for i, j, _ in molecule.bonds)
    return molecule.charge < -1 and any({*map(int, pair)} in ({1, 8}, {1, 7}) for pair in ends)


def _has_conformers(molecule: Molecule) -> bool:
    """Tell whether a single bond can turn, or a saturated ring pucker."""
    mol = Chem.RemoveHs(molecule.to_rdkit(stereo=False))
    return mol.HasSubstructMatch(TURNING) or mol.HasSubstructMatch(PUCKERED)


def _odd_start(molecule: Molecule, model: Model) -> str:
    """Describe the start of a molecule, of a kind that the model was not trained on."""
    level = molecule.start.removesuffix(UNCONVERGED)
    if level == "embedded":
        return "no force field has parameters for it, so its start is an unrelaxed embedding"
    if molecule.start.endswith(UNCONVERGED):
        return f"{spelt(level)} did not converge for its start"
    learned = " and ".join(spelt(start) for start in model.config.training.starts)
    return f"its start was relaxed with {spelt(level)}, but those in training with {learned}"
