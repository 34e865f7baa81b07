"""InChI: molecules that it names alone, and what it leaves open."""

import pytest
from rdkit import Chem

from diffrelax.molecule.inchi import read_inchi, stereo_of


def inchi(smiles: str) -> str:
    return Chem.MolToInchi(Chem.MolFromSmiles(smiles))


@pytest.mark.parametrize(
    "smiles",
    [
        "CNC(C)=O",
        "NC(N)=O",
        "CC(=O)Nc1ccc(O)cc1",
        "CCC1(CC)C(=O)NC(=O)NC1=O",
        "C[C@H](N)C(=O)N[C@@H](C)C(=O)O",
        "CC1(C)S[C@@H]2[C@H](NC(=O)Cc3ccccc3)C(=O)N2[C@H]1C(=O)O",
        "NC(=O)N/N=C/c1ccccc1",
        "OC1=CCCC1",
        "COP(=O)([O-])OC",
        "O=c1cccc[nH]1",
        "O=c1cc[nH]cc1",
        "Nc1ccccn1",
        "OC[C@H]1O[C@H](C[C@@H]1O)n1ccc(=O)[nH]c1=O",
        "Nc1ncnc2c1ncn2[C@@H]1O[C@H](CO)[C@@H](O)[C@H]1O",
        "CC(=O)[O-]",
        "C[NH3+]",
        "[NH3+]Cc1ccc([N+](=O)[O-])cc1",
        "N#CC[NH3+]",
        "[OH-]",
        "C[n+]1ccccc1",
        "CNS(=O)(=O)c1ccccc1",
        "CP(N)(=O)O",
        "CS(N)=O",
    ],
)
def test_what_an_inchi_names_alone_comes_back(smiles: str) -> None:
    assert Chem.MolToSmiles(read_inchi(inchi(smiles))) == Chem.CanonSmiles(smiles)


@pytest.mark.parametrize(
    ("smiles", "named"),
    [
        ("Cc1c[nH]cn1", "Cc1c[nH]cn1 or Cc1cnc[nH]1"),
        ("CN=C(N)N", "CN=C(N)N or CNC(=N)N"),
        ("CCOP(=O)(S)OCC", ""),
        ("CS(=O)(=O)S", ""),
        ("CNS(C)(=N)=O", ""),
    ],
)
def test_of_several_tautomers_none_is_taken(smiles: str, named: str) -> None:
    with pytest.raises(ValueError, match="where its mobile hydrogens are") as error:
        read_inchi(inchi(smiles))
    assert str(error.value).endswith(f"such as {named}" if named else "give a SMILES")


@pytest.mark.parametrize("smiles", ["CN1CC[NH2+]CC1C(N)=O", "NCC[NH3+]", "OC(=O)CC(=O)[O-]"])
def test_of_several_ions_none_is_taken(smiles: str) -> None:
    with pytest.raises(ValueError, match="which atom has gained or lost a proton"):
        read_inchi(inchi(smiles))


@pytest.mark.parametrize("smiles", ["Oc1ccccn1", "O=c1cccc[nH]1", "Cc1c[nH]cn1"])
def test_an_inchi_with_fixed_hydrogens_names_one_tautomer(smiles: str) -> None:
    fixed = Chem.MolToInchi(Chem.MolFromSmiles(smiles), options="/FixedH")
    assert "/f" in fixed
    assert Chem.MolToSmiles(read_inchi(fixed)) == Chem.CanonSmiles(smiles)


def test_what_rdkit_reads_with_another_charge_is_refused() -> None:
    anion = "InChI=1S/C2H4NO2/c1-2(4)3-5/h1H3,(H-,3,4,5)/q-1"
    with pytest.raises(ValueError, match="which has a different formula or charge: give a SMILES"):
        read_inchi(anion)


def test_isotopes_are_kept_or_refused() -> None:
    chloride = read_inchi(inchi("[2H]C([2H])([2H])Cl"))
    assert Chem.MolToSmiles(chloride) == "[2H]C([2H])([2H])Cl"
    with pytest.raises(ValueError, match=r"with isotopes .* give a SMILES"):
        read_inchi(inchi("[2H]C([2H])([2H])C(=O)O"))


def test_mirror_images_have_opposite_centres_and_the_same_double_bonds() -> None:
    right, left = (stereo_of(inchi(f"C/C=C/[C@{turn}H](O)F")) for turn in ("", "@"))
    assert right.keys() == left.keys() == {("b", 0, "3-2"), ("t", 0, "4")}
    assert right["b", 0, "3-2"] == left["b", 0, "3-2"] == "+"
    assert {right["t", 0, "4"], left["t", 0, "4"]} == {"+", "-"}
