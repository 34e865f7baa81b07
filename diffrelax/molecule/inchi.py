"""Reading InChI, and its stereochemistry.

A standard InChI does not locate mobile hydrogens, so it covers several tautomers.
"""

from __future__ import annotations

from rdkit import Chem, rdBase
from rdkit.Chem.MolStandardize import rdMolStandardize

from diffrelax.errors import InputError

ACIDS = [  # of P, S, As and Se, whose tautomers RDKit does not enumerate
    Chem.MolFromSmarts(smarts)
    for smarts in (
        "[#8;!H0]-[#15,#16,#33,#34]=[#16,#34]", "[#16,#34;!H0]-[#15,#16,#33,#34]=[#8]",
        "[#7;!H0]-[#15,#16,#33,#34]=[#7]",
    )
]  # fmt: skip
BASIC = Chem.MolFromSmarts(  # nitrogen that may have gained the proton instead
    "[#7+0;!H0,X2,X3;!$([#7]#*);!$([nH]);!$([nX3]);!$(N-[#6]=[#8,#16]);!$(NS(=O)=O)]"
)
NAMED_TAUTOMERS = 3


def read_inchi(inchi: str) -> Chem.Mol:
    """Read an InChI; of several tautomers, return the one that RDKit prefers, such as an amide.

    Raises
    ------
    ValueError
        If it is invalid, RDKit cannot read its stereochemistry, it is ambiguous (tautomers, ions),
        or it has isotopes and mobile hydrogens.
    """
    with rdBase.BlockLogs():
        mol = Chem.MolFromInchi(inchi)
        if mol is None:
            raise InputError(f"{inchi!r} is not an InChI: check it")
        if "/f" in inchi:
            return _as_fixed(mol, inchi)
        if _identity(Chem.MolToInchi(mol)) != _identity(inchi):
            raise InputError(
                f"RDKit reads {Chem.MolToSmiles(mol)} from this InChI, which has a "
                "different formula or charge: give a SMILES"
            )
        if lost := lost_stereo(inchi, Chem.MolToInchi(mol)):
            raise InputError(
                f"RDKit cannot read the stereochemistry {lost} of this InChI: give a "
                "SMILES, or coordinates"
            )
        if "/p" in inchi and _has_choice(mol):
            raise InputError(
                "an InChI does not say which atom has gained or lost a proton: give a SMILES"
            )
        if "(H" not in inchi:
            return mol
        if any(atom.GetIsotope() for atom in mol.GetAtoms()):
            raise InputError(
                "an InChI with isotopes does not say where its mobile hydrogens are: give a SMILES"
            )
        tautomers = _tautomers(Chem.RemoveHs(mol))
    if len(tautomers) == 1 and not any(map(mol.HasSubstructMatch, ACIDS)):
        return next(iter(tautomers.values()))
    named = " or ".join(sorted(tautomers)[:NAMED_TAUTOMERS]) if len(tautomers) > 1 else ""
    raise InputError(
        "an InChI does not say where its mobile hydrogens are: give a SMILES"
        + (f", such as {named}" if named else "")
    )


def _as_fixed(mol: Chem.Mol, inchi: str) -> Chem.Mol:
    """Return the molecule of an InChI with fixed hydrogens, if RDKit reads it correctly."""
    if Chem.MolToInchi(mol, options="/FixedH") != inchi.strip():
        raise InputError(
            f"RDKit reads {Chem.MolToSmiles(mol)} from this InChI, but its fixed hydrogens "
            "(/f) are in other positions: give a SMILES"
        )
    return mol


def _identity(inchi: str) -> dict[str, str]:
    """Return the formula, charge and protons of an InChI."""
    _, formula, *layers = [*inchi.strip().split("/"), ""]
    known = {layer[:1]: layer[1:] for layer in layers if layer[:1] in ("q", "p")}
    return known | {"formula": formula}


def _has_choice(ion: Chem.Mol) -> bool:
    """Return whether another atom could carry the charge: basic N, or an atom with H."""
    if Chem.GetFormalCharge(ion) > 0:
        return ion.HasSubstructMatch(BASIC)
    neutral = (atom for atom in ion.GetAtoms() if atom.GetFormalCharge() == 0)
    return any(a.GetTotalNumHs() for a in neutral if a.GetAtomicNum() not in (1, 6))


def _tautomers(mol: Chem.Mol) -> dict[str, Chem.Mol]:
    """Return the best-ranked tautomers with the same InChI, by SMILES."""
    enumerator = rdMolStandardize.TautomerEnumerator()
    enumerator.SetRemoveSp3Stereo(False)
    enumerator.SetRemoveBondStereo(False)
    found = enumerator.Enumerate(mol)
    if found.status != rdMolStandardize.TautomerEnumeratorStatus.Completed:
        return {}
    inchi = Chem.MolToInchi(mol)
    named = {Chem.MolToSmiles(one): one for one in found if Chem.MolToInchi(one) == inchi}
    scores = {smiles: enumerator.ScoreTautomer(one) for smiles, one in named.items()}
    best = max(scores.values(), default=0)
    return {smiles: one for smiles, one in named.items() if scores[smiles] == best}


def lost_stereo(asked: str, found: str) -> str:
    """Name the configurations in one InChI that another of the same molecule lacks."""
    lost = stereo_of(asked).items() - stereo_of(found).items()
    return ", ".join(sorted(f"{atoms}{sign}" for (_, _, atoms), sign in lost))


def stereo_of(inchi: str) -> dict[tuple[str, int, str], str]:
    """Return the configurations in an InChI.

    Returns
    -------
    dict
        ``+`` or ``-`` by layer (``b`` of double bonds, ``t`` of centres), number of the component
        and atoms, such as ``("b", 0, "4-3")``. Mirror images have opposite signs for centres.
    """
    layers = {layer[:1]: layer[1:] for layer in inchi.split("/")[1:]}
    inverted = layers.get("m", "")
    signs = {}
    for layer in "bt":
        for k, component in enumerate(layers.get(layer, "").split(";")):
            for atoms in component.split(","):
                if atoms[-1:] in ("+", "-"):
                    turn = layer == "t" and inverted[k : k + 1] == "1"
                    signs[layer, k, atoms[:-1]] = "-+"[(atoms[-1] == "+") ^ turn]
    return signs
