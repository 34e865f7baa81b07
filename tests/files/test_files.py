import gzip
import json
import os

import ase
import ase.build
import ase.io
import numpy as np
import pytest
from rdkit import Chem
from rdkit.Chem import rdDepictor

from diffrelax.files import reading
from diffrelax.files.reading import Rejected, each_record, read_molecules, read_one
from diffrelax.files.writing import check_output, write_molecules
from diffrelax.molecule import Molecule
from diffrelax.relaxation import Relaxation

WATER = "O 0.0 0.0 0.117\nH 0.0 0.757 -0.469\nH 0.0 -0.757 -0.469\n"
METHANE = "5\n{}\nC 0 0 0\nH .63 .63 .63\nH -.63 -.63 .63\nH -.63 .63 -.63\nH .63 -.63 -.63\n"


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def reason(path) -> str:
    (result,) = read_molecules(path)
    assert isinstance(result, Rejected)
    return result.reason


def test_a_text_of_several_lines_is_no_molecule() -> None:
    for text in ("CCO\nCCC\n", "CCO\r\nCCC"):
        (result,) = read_molecules(text)
        assert isinstance(result, Rejected) and "several lines" in result.reason
    (molecule,) = read_molecules("CO methanol\n")
    assert molecule.name == "methanol"


def test_workers_change_nothing(tmp_path):
    named = Chem.MolFromSmiles("CCC")
    named.SetProp("_Name", "propane")
    drawing = Chem.MolFromSmiles("CC=O")
    rdDepictor.Compute2DCoords(drawing)
    sdf = write(tmp_path / "a.sdf", Chem.MolToMolBlock(drawing) + "$$$$\ncut\n$$$$\n")
    smi = write(tmp_path / "b.smi", "C[C@H](F)Cl one\nxyz bad\nCCO\n")
    xyz = write(tmp_path / "c.xyz", METHANE.format("charge=0") + "1\n")
    given = [smi, "C1CC1 ring", named, ase.build.molecule("H2O"), sdf, "C(", xyz, "no.sdf", None]
    one, two = (read_molecules(given, seed=7, workers=n) for n in (1, 2))
    assert [type(m) for m in one] == [type(m) for m in two]
    for a, b in zip(one, two, strict=True):
        if isinstance(a, Rejected):
            assert a == b
        else:
            assert (a.name, a.smiles, a.start, a.bonds) == (b.name, b.smiles, b.start, b.bonds)
            assert np.array_equal(a.positions, b.positions)


def test_no_worker_is_an_error():
    with pytest.raises(ValueError, match="0 workers: give 1 or more"):
        read_molecules("C", workers=0)


def test_smi_names_order_and_bad_lines(tmp_path):
    path = write(tmp_path / "a.smi", "# a comment\n\nCCO ethanol\nC1C bad\nC\nCC\ttwo words\n")
    results = read_molecules(path)
    assert [r.name for r in results] == ["ethanol", "bad", "C", "two words"]
    assert [type(r) for r in results] == [Molecule, Rejected, Molecule, Molecule]
    assert results[1].source == f"{path}#2"
    inputs = [str(path), "CCC", str(tmp_path / "missing.sdf")]
    results = read_molecules(inputs)
    assert results[4].name == "CCC"
    assert len(list(each_record(inputs))) == len(results) == 6


def test_xyz_frames_and_their_keys(tmp_path):
    ammonium = Molecule.from_smiles("[NH4+]")
    lines = "\n".join(
        f"{s} {x} {y} {z}"
        for s, (x, y, z) in zip(ammonium.symbols, ammonium.positions, strict=True)
    )
    text = METHANE.format("a comment, nothing else") + METHANE.format("charge=0 name=F")
    path = write(tmp_path / "m.xyz", text + f"\n5\ncharge=1 name=ammonium\n{lines}\n")
    first, second, third = read_molecules(path)
    assert [m.name for m in (first, second, third)] == ["m-1", "F", "ammonium"]
    assert [m.smiles for m in (first, second, third)] == ["C", "C", "[NH4+]"]
    assert (third.charge, third.multiplicity, third.start) == (1, 1, "given")
    assert np.allclose(first.positions[1], 0.63)


@pytest.mark.parametrize(
    ("comment", "charge", "multiplicity"),
    [
        ("smiles=[NH4+]", 1, 1),
        ('smiles="[NH4+]"', 1, 1),
        ("smiles=[H][NH3+]", 1, 1),
        ("Charge=1 Multiplicity=3", 1, 3),
        ("total_charge=1", 1, 1),
        ("1 1", 1, 1),
        ("+1  3", 1, 3),
        ("0 2", 0, 2),
        ("-1 1", -1, 1),
        ("charge: -1, multiplicity: 1", -1, 1),
        ("Charge 1 Multiplicity 3", 1, 3),
        ("water, total charge = -1.0; energy = -40.1", -1, 1),
        ("charge: 1, mult: 3", 1, 3),
        ("charge:1,multiplicity:1", 1, 1),
        ("charge:1;spin_multiplicity:3", 1, 3),
        ("1, 3", 1, 3),
        ("net_charge=1", 1, 1),
        ("4,4'-dimethyl charge=-1", -1, 1),
        ("E=-40.5,charge=-1", -1, 1),
        ("(charge=1)", 1, 1),
        ("[net_charge: 1 mult: 3]", 1, 3),
        ("energy= charge=−1", -1, 1),
        ('charge=1 note="charge: 2"', 1, 1),
        ("total_charge=0 charge=-1", -1, 1),
        ("{charge=-1}", -1, 1),
        ("name='net charge 1 removed' charge=-1", -1, 1),
        ("job-charge-1 E -75.3 charge=-1", -1, 1),
        ("formal_charge=1", 1, 1),
        ("molecular charge: -1", -1, 1),
        ('{"charge": -1, "spin_multiplicity": 1}', -1, 1),
        ('Properties=species:S:1:pos:R:3 "charge_model"=5 charge=1', 1, 1),
    ],
)
def test_xyz_charges_as_others_write_them(tmp_path, comment, charge, multiplicity):
    frame = METHANE.format(comment).replace("C 0 0 0", "N 0 0 0")
    (molecule,) = read_molecules(write(tmp_path / "m.xyz", frame))
    assert (molecule.charge, molecule.multiplicity) == (charge, multiplicity)
    assert molecule.name in ("m", "net charge 1 removed")


@pytest.mark.parametrize(
    ("comment", "charge"),
    [
        ("", 1),
        ("  -12.345", 1),
        ("energy: -5.07 gnorm: 0.0003 xtb: 6.5.1", 1),
        ('name="my ion"', 1),
        ("amine", 1),
        ("charge=-1", -1),
        ("water, total charge = -1.0; energy = -40.1", -1),
        ("-1 1", -1),
        ("2'-amine", 1),
        ("ammonium [opt", 1),
        ("smiles=N/A", 1),
        ("smiles=[NH2][H]", 0),
    ],
)
def test_a_charge_is_given_to_frames_that_tell_none(tmp_path, comment, charge):
    frame = METHANE.format(comment).replace("C 0 0 0", "N 0 0 0")
    if charge == 0:
        frame = frame.replace("5\n", "4\n", 1).rsplit("H", 1)[0]
    (molecule,) = read_molecules(write(tmp_path / "m.xyz", frame), charge=1)
    assert molecule.charge == charge
    assert molecule.name == {'name="my ion"': "my ion", "amine": "amine"}.get(comment, "m")


def test_a_charge_is_given_to_no_smiles_and_no_atom_that_has_one(tmp_path):
    ion = Molecule.from_smiles("[NH4+]")
    write_molecules(tmp_path / "ours.pdb", [ion])
    ours = (tmp_path / "ours.pdb").read_text()
    atoms = "".join(line for line in ours.splitlines(keepends=True) if line.startswith("HETATM"))
    bare = "".join(f"{line[:78].rstrip()}\n" for line in atoms.splitlines())
    write(tmp_path / "atoms.pdb", f"{atoms}END\n")
    write(tmp_path / "bare.pdb", f"{bare}END\n")
    write(tmp_path / "m.smi", "C[O-]\n")
    inputs = [tmp_path / name for name in ("ours.pdb", "atoms.pdb", "m.smi")]
    assert [one.charge for one in read_molecules([*inputs, "C"], charge=2)] == [1, 1, -1, 0]
    zeros = "".join(f"{line[:78].rstrip():<79}0\n" for line in atoms.splitlines())
    write(tmp_path / "zeros.pdb", f"{zeros}END\n")
    for name in ("bare.pdb", "zeros.pdb"):
        (bared,) = read_molecules(tmp_path / name, charge=1)
        assert (bared.charge, bared.smiles) == (1, "[NH4+]")


def test_a_charge_that_nothing_takes_is_an_error(tmp_path):
    sdf = tmp_path / "m.sdf"
    write_molecules(sdf, [Molecule.from_smiles("CO")])
    for given in ("CC(=O)O", sdf):
        with pytest.raises(ValueError, match=r"^the charge -1 is for \.xyz"):
            read_one(given, charge=-1)


def test_frames_that_only_end_are_all_read(tmp_path):
    write_molecules(tmp_path / "m.pdb", [Molecule.from_smiles(s) for s in ("CO", "CC", "C")])
    text = (tmp_path / "m.pdb").read_text()
    lines = [line for line in text.splitlines(keepends=True) if not line.startswith("MODEL")]
    text = "".join(lines)
    for end in ("END", "END\nENDMDL", "ENDMDL       1"):
        ended = write(tmp_path / "ended.pdb", text.replace("ENDMDL", end))
        assert [one.smiles for one in read_molecules(ended)] == ["CO", "CC", "C"]


def test_what_is_too_large_costs_only_itself(tmp_path, monkeypatch):
    """RDKit dies of a SMILES of 30,000 characters, and takes memory for each pair of atoms."""
    lines = write(tmp_path / "a.smi", f"CO a\n{'C' * 30_000} long\nCC b\n")
    a, long, b = read_molecules(lines)
    assert (a.name, long.name, b.name) == ("a", "long", "b")
    assert "a SMILES of 30,000 characters" in long.reason and len(long.source) < 2000
    grid = np.stack(np.meshgrid(*3 * [np.arange(18.0)]), axis=-1).reshape(-1, 3)
    (snapshot,) = read_molecules([ase.Atoms(len(grid) * "H", 3 * grid)])
    assert "5,832 atoms: a molecule may have at most 5,000" in snapshot.reason
    labelled = write(tmp_path / "b.xyz", METHANE.format(f"smiles={'C' * 30_000}"))
    assert "a SMILES of 30,000 characters" in reason(labelled)
    monkeypatch.setattr(reading, "LARGEST_RECORD", 5000)
    bomb = tmp_path / "c.pdb.gz"
    bomb.write_bytes(gzip.compress(b"REMARK\n" * 10_000))
    assert "a record of more than 5,000 characters" in reason(bomb)
    long_list = write(tmp_path / "d.smi", 2000 * "CO\n")
    assert len(list(each_record(long_list))) == 2000


@pytest.mark.parametrize(
    ("name", "text", "kind"),
    [
        ("a.extxyz", "1\nProperties=species:S:1:pos:R:3:move_mask:L:1\nHe 0 0 0 F\n", "FixAtoms"),
        ("a.inp", f"! Opt\n%geom\n Constraints\n {{ C 0 C }}\nend end\n* xyz 0 1\n{WATER}*\n",
         "Constraints"),
        ("a.gjf", f"#p pbe/6-31G opt=modredundant\n\ntitle\n\n0 1\n{WATER}\n1 2 F\n",
         "modredundant"),
    ],
)  # fmt: skip
def test_constraints_in_files_are_refused(tmp_path, name, text, kind):
    assert f"it has constraints ({kind}), but all atoms would move" in reason(
        write(tmp_path / name, text)
    )


def test_what_is_rejected_keeps_its_name():
    atoms = ase.Atoms("H", pbc=True, info={"name": "mine"})
    mol = Chem.MolFromSmarts("[#6]")
    mol.SetProp("_Name", "pattern")
    assert [one.name for one in read_molecules([atoms, mol])] == ["mine", "pattern"]


@pytest.mark.parametrize(
    "smiles",
    [
        "CC[N+]1=C(C=CC=C2N(CC)c3ccccc3S2)Sc2ccccc12",
        "C[N+]1=C(C=CC=C2N(C)c3ccccc3C2(C)C)C(C)(C)c2ccccc12",
        "CN(C)/C=C/C=C/C=[N+](C)C",
    ],
)
def test_cyanines_are_read_as_they_were_written(tmp_path, smiles):
    """In which bonds may be drawn in two ways, whose E and Z differ."""
    dyes = [Molecule.from_smiles(smiles, seed=seed) for seed in range(3)]
    write_molecules(tmp_path / "dyes.extxyz", dyes)
    read = read_molecules(tmp_path / "dyes.extxyz")
    assert [one.smiles for one in read] == [dye.smiles for dye in dyes]


def test_records_of_sdf_that_nothing_parts_are_read(tmp_path):
    block = Chem.MolToMolBlock(Molecule.from_smiles("CO").to_rdkit())
    both = read_molecules(write(tmp_path / "m.mol", block + block))
    assert [one.smiles for one in both] == ["CO", "CO"]
    cut = read_molecules(write(tmp_path / "cut.sdf", f"{block[:200]}\n{block}$$$$\n"))
    assert isinstance(cut[0], Rejected) and cut[1].smiles == "CO"
    kept = write(tmp_path / "one.mol", f"{block}>  <other>\n{block}\n")
    assert read_molecules(kept)[0].smiles == "CO"


def test_a_smiles_of_the_other_enantiomer_is_an_error_in_an_sdf_as_in_a_frame(tmp_path):
    mol = Molecule.from_smiles("C[C@H](N)C(=O)O").to_rdkit()
    mol.SetProp("smiles", "C[C@@H](N)C(=O)O")
    with Chem.SDWriter(str(tmp_path / "m.sdf")) as writer:
        writer.write(mol)
    assert "does not match its positions" in reason(tmp_path / "m.sdf")


def test_atomic_numbers_stand_for_elements(tmp_path):
    numbers = METHANE.format("").replace("C ", "6 ").replace("H ", "1 ")
    assert read_molecules(write(tmp_path / "m.xyz", numbers))[0].smiles == "C"


def test_a_loop_of_links_is_no_missing_file(tmp_path):
    (tmp_path / "a.sdf").symlink_to(tmp_path / "b.sdf")
    (tmp_path / "b.sdf").symlink_to(tmp_path / "a.sdf")
    assert "too many levels of symbolic links" in reason(tmp_path / "a.sdf")


@pytest.mark.parametrize(
    ("name", "text", "smiles"),
    [
        ("a.gjf", f"#p b3lyp/6-31g(d)\n\ntitle\n\n0 1\n{WATER}\n", "O"),
        ("a.com", "#p hf/3-21g\n\ntitle\n\n-1 1\nO 0.0 0.0 0.0\nH 0.0 0.0 0.96\n\n", "[OH-]"),
        ("a.inp", f"! B3LYP def2-SVP\n* xyz 0 1\n{WATER}*\n", "O"),
        ("a.cdxml", Chem.MolToCDXMLBlock(Chem.MolFromSmiles("C[C@H](N)O")), "C[C@H](N)O"),
    ],
)
def test_inputs_of_programs_and_drawings_are_read(tmp_path, name, text, smiles):
    (molecule,) = read_molecules(write(tmp_path / name, text))
    assert molecule.smiles == smiles
    assert isinstance(read_molecules(write(tmp_path / name, "nothing"))[0], Rejected)


def test_isotopes_are_in_the_smiles_of_outputs(tmp_path):
    heavy = Molecule.from_smiles("[2H]C([2H])([2H])O")
    for suffix in (".extxyz", ".sdf", ".json"):
        write_molecules(tmp_path / f"a{suffix}", [heavy])
        assert "[2H]C([2H])([2H])O" in (tmp_path / f"a{suffix}").read_text()
    (read,) = read_molecules(tmp_path / "a.extxyz")
    assert (read.smiles, read.isotopic_smiles) == ("CO", "[2H]C([2H])([2H])O")


def test_a_charge_that_is_only_spoken_of_is_an_error(tmp_path):
    why = reason(write(tmp_path / "m.xyz", METHANE.format("charge of one")))
    assert why == "the charge in the comment 'charge of one' is unclear: write charge=…"
    assert "is unclear: write mult=…" in reason(
        write(tmp_path / "m.xyz", METHANE.format("charge: 0, mult: triplet"))
    )
    quoted = METHANE.format('note="charge: unknown"')
    assert read_molecules(write(tmp_path / "m.xyz", quoted))[0].smiles == "C"


def test_a_charge_that_contradicts_the_smiles_is_an_error(tmp_path):
    frame = METHANE.format("smiles=[NH4+] charge=0").replace("C 0 0 0", "N 0 0 0")
    why = reason(write(tmp_path / "m.xyz", frame))
    assert why == "the charge is 0, but that of the SMILES [NH4+] is 1: correct one of them"


def test_xyz_bad_frames_leave_the_others_alone(tmp_path):
    bad = [
        METHANE.format("").replace("C 0 0 0", "Xx 0 0 0"),
        METHANE.format("").replace("C 0 0 0", "C nan 0 0"),
        METHANE.format("").replace("C 0 0 0", "C .63 .63 .63"),
        METHANE.format("multiplicity=2"),
        METHANE.format("charge=half"),
        METHANE.format("").replace("C 0 0 0", "C zero 0 0"),
        METHANE.format('Lattice="5 0 0 0 5 0 0 0 5"'),
        METHANE.format("= final geometry ="),
        METHANE.format("Properties="),
        METHANE.format("").replace("5\n", "4\n", 1),
        METHANE.format("7").replace("5\n", "6\n", 1),
        "0\n\n",
    ]
    parts = [METHANE.format("")]
    for frame in bad:
        parts += [frame, METHANE.format("")]
    results = read_molecules(write(tmp_path / "m.xyz", "".join(parts) + "5\n\nC 0 0 0\n"))
    kinds = [Molecule, Rejected] * len(bad) + [Molecule, Rejected]
    assert [type(r) for r in results] == kinds
    words = ["Xx", "finite", "coincide", "multiplicity 2", "half", "zero", "periodic"]
    words += ["cannot read", "cannot read", "4 atoms expected, but 5 lines", "6 atoms", "no atoms"]
    for result, word in zip(results[1::2], [*words, "5 atoms expected, but 1 lines"], strict=True):
        assert word in result.reason
    assert results[1].name == "m-2"


def test_a_name_that_looks_like_a_number_keeps_its_text(tmp_path):
    text = METHANE.format("name=000123 charge=0") + METHANE.format('name="1e5"')
    assert [m.name for m in read_molecules(write(tmp_path / "m.xyz", text))] == ["000123", "1e5"]


def test_lines_end_at_line_feeds_only(tmp_path):
    (tmp_path / "m.smi").write_bytes("C one\x0btwo\r\nCC\u2028x\rO".encode())
    assert [r.name for r in read_molecules(tmp_path / "m.smi")] == ["one\x0btwo", "x", "O"]


@pytest.mark.parametrize(
    ("key", "value"), [("multiplicity", "triplet"), ("multiplicity", "1.5"), ("charge", "none")]
)
def test_sdf_properties_that_are_no_numbers(tmp_path, key, value):
    block = Chem.MolToMolBlock(Molecule.from_smiles("C").to_rdkit())
    bad = f"{block}>  <{key}>\n{value}\n\n$$$$\n"
    good = f"{block}>  <multiplicity>\n3.0\n\n$$$$\n"
    first, second = read_molecules(write(tmp_path / "m.sdf", bad + good))
    assert f"{key} " in first.reason
    assert "not an integer" in first.reason
    assert second.multiplicity == 3
    assert isinstance(second.multiplicity, int)


def test_sdf_with_another_charge_than_its_atoms(tmp_path):
    block = Chem.MolToMolBlock(Molecule.from_smiles("C").to_rdkit())
    text = f"{block}>  <charge>\n1\n\n$$$$\n"
    assert "the formal charges add up to 0" in reason(write(tmp_path / "m.sdf", text))


def test_sdf_with_a_truncated_record(tmp_path):
    blocks = [Chem.MolToMolBlock(Molecule.from_smiles(s, name=s).to_rdkit()) for s in ("C", "CCO")]
    cut = "\n".join(blocks[1].splitlines()[:9]) + "\n"
    text = "$$$$\n".join([blocks[0], cut, blocks[1], cut])
    results = read_molecules(write(tmp_path / "m.sdf", text))
    assert [type(r) for r in results] == [Molecule, Rejected, Molecule, Rejected]
    assert [r.name for r in results] == ["C", "CCO", "CCO", "CCO"]
    assert "truncated or damaged" in results[1].reason


def test_sdf_with_an_impossible_valence_says_so(tmp_path):
    mol = Chem.MolFromSmiles("CC(C)(C)(C)C", sanitize=False)
    rdDepictor.Compute2DCoords(mol)
    block = Chem.MolToMolBlock(mol, kekulize=False)
    assert "valence" in reason(write(tmp_path / "m.mol", block))


@pytest.mark.parametrize("v3000", [False, True])
def test_mol_with_coordinates_is_taken_as_it_stands(tmp_path, v3000):
    molecule = Molecule.from_smiles("C[C@H](N)C(=O)O")
    block = Chem.MolToMolBlock(molecule.to_rdkit(), forceV3000=v3000)
    (read,) = read_molecules(write(tmp_path / "alanine.mol", block))
    assert (read.start, read.smiles) == ("given", molecule.smiles)
    assert np.allclose(read.positions, molecule.positions, atol=1e-4)


def test_drawing_without_hydrogens_is_embedded(tmp_path):
    mol = Chem.MolFromSmiles("C[C@H](N)C(=O)O")
    rdDepictor.Compute2DCoords(mol)
    Chem.WedgeMolBonds(mol, mol.GetConformer())
    (read,) = read_molecules(write(tmp_path / "drawing.mol", Chem.MolToMolBlock(mol)))
    assert (read.start, read.smiles, read.name) == ("mmff94", "C[C@H](N)C(=O)O", "drawing")


def test_files_that_cannot_be_read(tmp_path):
    assert "no such file" in reason(tmp_path / "missing.smi")
    assert "unknown suffix" in reason(write(tmp_path / "a.mol3", "CCO"))
    assert "empty" in reason(write(tmp_path / "a.smi", "# nothing\n"))
    assert "empty" in reason(write(tmp_path / "a.sdf", ""))
    assert "number of its atoms" in reason(write(tmp_path / "a.xyz", "C 0 0 0\n"))
    (tmp_path / "folder.sdf").mkdir()
    assert "folder" in reason(tmp_path / "folder.sdf")


def test_text_that_is_meant_as_a_path_says_no_such_file(tmp_path):
    for text in ("molecules.smi", "molecules.mol3", str(tmp_path / "missing")):
        (result,) = read_molecules(text)
        assert "no such file" in result.reason
    (result,) = read_molecules("C(C.Cl")
    assert "no such file" not in result.reason
    (result,) = read_molecules("c1ccc.cc")
    assert result.reason.startswith("'c1ccc.cc' is not a SMILES")
    (result,) = read_molecules(str(write(tmp_path / "a.mol3", "CCO")))
    assert "unknown suffix" in result.reason


@pytest.mark.parametrize(
    "name", ["F", "T", "123", "1e5", "1 2", "a b", 'say "x"', "back\\slash", "[1]", "é", "name=x"]
)
def test_extxyz_keeps_every_name(tmp_path, name):
    molecule = Molecule.from_smiles("F/C=C\\F", name=name)
    write_molecules(tmp_path / "a.extxyz", [molecule])
    (read,) = read_molecules(tmp_path / "a.extxyz")
    assert (read.name, read.smiles) == (name, "F/C=C\\F")
    info = ase.io.read(tmp_path / "a.extxyz").info
    assert (info["name"], info["smiles"]) == (name, "F/C=C\\F")


@pytest.mark.parametrize("comment", ["smiles=C[O-]", "SMILES=C[O-]", 'Smiles="[O-]C"', "charge=-1"])
def test_keys_of_a_frame_are_read_in_any_case(tmp_path, comment):
    atoms = Molecule.from_smiles("C[O-]").to_atoms()
    lines = [
        f"{s} {x} {y} {z}" for s, (x, y, z) in zip(atoms.symbols, atoms.positions, strict=True)
    ]
    for more in ("Name=mine", 'name=mine smiles=""' if "harge" in comment else "NAME=mine"):
        frame = [str(len(atoms)), f"{comment} {more}", *lines]
        (tmp_path / "a.xyz").write_text("\n".join(frame) + "\n")
        (read,) = read_molecules(tmp_path / "a.xyz")
        assert (read.smiles, read.charge, read.name) == ("C[O-]", -1, "mine")


def test_what_ase_writes_of_a_molecule_without_bonds_keeps_its_charge(tmp_path):
    angles = [[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]]
    atoms = ase.Atoms("SiF6", [[0, 0, 0], *(1.7 * np.array(angles))])
    ion = Molecule.from_atoms(atoms, charge=-2)
    assert not ion.bonds
    ase.io.write(tmp_path / "a.extxyz", Relaxation("ion", "refused", "", ion, ion).atoms)
    (read,) = read_molecules(tmp_path / "a.extxyz")
    assert (read.charge, read.name) == (-2, "F6Si")
    assert "reason" not in ase.io.read(tmp_path / "a.extxyz").info


@pytest.mark.parametrize("suffix", [".extxyz", ".sdf", ".xyz"])
def test_write_and_read_back(tmp_path, suffix):
    smiles = ["CCO", "[CH3]", "C[N+](C)(C)C", "c1ccc2[nH]ccc2c1", "C[C@H](F)Cl"]
    molecules = [Molecule.from_smiles(s) for s in smiles]
    molecules.append(Molecule.from_smiles("O=O", multiplicity=3))
    path = tmp_path / f"out{suffix}"
    write_molecules(path, molecules, [{"verdict": "relaxed", "reason": None}] * len(molecules))
    back = read_molecules(path)
    for a, b in zip(molecules, back, strict=True):
        assert (a.name, a.smiles, a.charge, a.multiplicity) == (
            b.name, b.smiles, b.charge, b.multiplicity
        )  # fmt: skip
        assert np.allclose(a.positions, b.positions, atol=1e-4)
        assert a.bonds == b.bonds


def test_infos_are_written(tmp_path):
    molecule = Molecule.from_smiles("C")
    info = {
        "verdict": "fell_back",
        "energy_ev": np.float64(-1.5),
        "excess_ev": None,
        "axis": np.array([1.0, 2.0, 3.0]),
    }
    for suffix in (".extxyz", ".sdf", ".json"):
        write_molecules(tmp_path / f"a{suffix}", [molecule], [info])
    atoms = ase.io.read(tmp_path / "a.extxyz")
    assert (atoms.info["verdict"], atoms.info["energy_ev"]) == ("fell_back", -1.5)
    assert "excess_ev" not in atoms.info
    assert atoms.info["axis"].tolist() == [1.0, 2.0, 3.0]
    mol = next(iter(Chem.SDMolSupplier(str(tmp_path / "a.sdf"))))
    assert mol.GetProp("verdict") == "fell_back"
    (record,) = json.loads((tmp_path / "a.json").read_text())
    assert record["excess_ev"] is None
    assert record["axis"] == [1.0, 2.0, 3.0]
    assert record["symbols"] == ["C", "H", "H", "H", "H"]
    assert np.allclose(record["positions"], molecule.positions)


def test_records_without_bonds(tmp_path):
    mercury = Molecule.from_smiles("C[Hg]C")
    methane = Molecule.from_smiles("C")
    cation = Molecule.from_smiles("[NH4+]")
    bare = [
        Molecule(m.numbers, m.positions, charge=m.charge, name=m.name)
        for m in (mercury, methane, cation, Molecule([11], [(0, 0, 0)], charge=1))
    ]
    write_molecules(tmp_path / "a.sdf", bare)
    first, second, third, fourth = read_molecules(tmp_path / "a.sdf")
    assert [(m.charge, m.smiles) for m in (third, fourth)] == [(1, "[NH4+]"), (1, "")]
    assert (first.formula, first.bonds, first.smiles) == ("C2H6Hg", (), "")
    assert np.allclose(first.positions, mercury.positions, atol=1e-4)
    assert (second.bonds, second.smiles, second.start) == (methane.bonds, "C", "given")


def test_numbers_that_json_lacks_are_null(tmp_path):
    info = {"energy_ev": float("nan"), "forces": np.array([np.inf, 1.0])}
    write_molecules(tmp_path / "a.json", [Molecule.from_smiles("C")], [info])
    (record,) = json.loads((tmp_path / "a.json").read_text(), parse_constant=pytest.fail)
    assert (record["energy_ev"], record["forces"]) == (None, [None, 1.0])


def test_name_that_would_end_an_sdf_record(tmp_path):
    molecule = Molecule.from_smiles("C", name="$$$$ a lot")
    write_molecules(tmp_path / "a.sdf", [molecule, molecule])
    assert [m.name for m in read_molecules(tmp_path / "a.sdf")] == ["$$$$ a lot"] * 2


def test_infos_must_be_as_many_as_molecules(tmp_path):
    with pytest.raises(ValueError, match="shorter"):
        write_molecules(tmp_path / "a.json", [Molecule.from_smiles("C")], [])


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = write(tmp_path / "a.json", "old")
    with pytest.raises(TypeError):
        write_molecules(path, [Molecule.from_smiles("C")], [{"what": object()}])
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.json"]


def test_outputs_are_checked_up_front(tmp_path):
    check_output(tmp_path / "a.extxyz")
    assert os.listdir(tmp_path) == []
    with pytest.raises(ValueError, match="unknown suffix"):
        check_output(tmp_path / "a.mol3")
    with pytest.raises(FileNotFoundError, match="create it"):
        check_output(tmp_path / "missing" / "a.sdf")
    with pytest.raises(OSError, match="is not writable"):
        check_output("/proc/a.sdf")
    (tmp_path / "b.sdf").mkdir()
    with pytest.raises(ValueError, match="folder"):
        check_output(tmp_path / "b.sdf")


def test_extensions_of_a_smiles_belong_to_it(tmp_path):
    path = tmp_path / "a.smi"
    path.write_text("C |^1:0| methyl radical\nC |^1:0|\nC |weird\nC methane\n")
    named, bare, *closed = read_molecules(path)
    assert (named.name, named.multiplicity, named.formula) == ("methyl radical", 2, "CH3")
    assert (bare.name, bare.multiplicity) == ("C |^1:0|", 2)
    assert [(one.name, one.multiplicity) for one in closed] == [("|weird", 1), ("methane", 1)]


def test_what_was_rejected_stays_so_with_its_reason():
    found = read_molecules(["CCO", "C1CC bad"])
    assert read_molecules(found) == found
    assert read_molecules(found[1]) == [found[1]]


def test_what_is_no_molecule_at_all_is_rejected():
    (rejected,) = read_molecules(None)
    assert rejected.reason.startswith("None is not a molecule: give a SMILES")
    (rejected,) = read_molecules(b"CCO")
    assert rejected.reason.startswith("b'CCO' is not a molecule")


@pytest.mark.parametrize("suffix", [".extxyz", ".sdf", ".pdb"])
def test_no_property_takes_the_place_of_what_a_molecule_is(tmp_path, suffix):
    path, own = tmp_path / f"a{suffix}", Molecule.from_smiles("C", name="methane")
    odd = {
        "Charge": 1,
        "Multiplicity": 3,
        "SMILES!": "CC",
        "Name": "x",
        "_Name": "y",
        "<_Name": "z",
    }
    write_molecules(path, [own], [{**odd, "pIC50": 7.5, "PIC50": 8.5}])
    (read,) = read_molecules(path)
    assert (read.name, read.charge, read.multiplicity, read.smiles) == ("methane", 0, 1, "C")
    (record,) = each_record(path)
    assert (record.properties["pIC50"], record.properties["PIC50"]) == (7.5, 8.5)


def test_the_header_that_rdkit_writes_is_no_molecule(tmp_path):
    path = write(tmp_path / "a.smi", "# a comment\nSMILES Name \nCCO ethanol\nC methane\n")
    assert [one.name for one in read_molecules(path)] == ["ethanol", "methane"]
    path = write(tmp_path / "c.smi", "canonical_smiles id\nCCO ethanol\n")
    assert [one.name for one in read_molecules(path)] == ["ethanol"]
    path = write(tmp_path / "b.csv", "ID,Smiles String\n7,CCO\n")
    (molecule,) = read_molecules(path)
    assert (molecule.name, molecule.smiles) == ("7", "CCO")


def test_the_delimiter_of_a_table_is_the_one_that_gives_a_column_of_smiles(tmp_path):
    text = "SMILES\tIUPAC name, systematic\tCAS, no\nCCO\tethanol, abs\t64-17-5\n"
    (molecule,) = read_molecules(write(tmp_path / "t.tsv", text))
    assert (molecule.smiles, molecule.name) == ("CCO", "CCO")
