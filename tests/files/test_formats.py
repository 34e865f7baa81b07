"""Formats: cut from a stream, read back as written, whatever names and properties hold."""

import gzip
import json
import random
import re
import resource
import subprocess
import sys

import numpy as np
import pytest
from rdkit import Chem
from rdkit.Chem.rdDepictor import Compute2DCoords

from diffrelax.files import FORMATS, WRITERS, streams
from diffrelax.files.reading import Record, Rejected, each_record, read_molecules
from diffrelax.files.writing import write_molecules
from diffrelax.molecule import Molecule

ODD = [
    "_JSON {}1",
    "_JSON",
    "$$$$",
    ">  <name>",
    "M  END",
    "line\nfeed\r\nand\x85more\u2028",
    "nul \0 and \x1b[31m",
    "lone \udcff surrogate",
    "a=b c='d\" [e] {f}",
    '"',
    "\\",
    "\\\"'",
    "Properties=species:S:1",
    "1 1",
    "x" * 100_000,
    "\u202eright to left",
    "END",
]


def odd_names(n):
    chance = random.Random(0)
    letters = [*map(chr, range(0x30)), *'=[]{}"\\<>$_JSON,:;|#é\u00a0\u2028\ufeff\U0001f600\udc80']
    return ["".join(chance.choices(letters, k=chance.randint(1, 30))) for _ in range(n)]


@pytest.mark.parametrize("suffix", WRITERS)
def test_no_name_keeps_a_molecule_from_being_written_and_read(tmp_path, suffix):
    methane = Molecule.from_smiles("C")
    names = [*ODD, *odd_names(100)]
    molecules = [
        Molecule(methane.numbers, methane.positions, bonds=methane.bonds, smiles="C", name=name,
                 formal_charges=methane.formal_charges)
        for name in names
    ]  # fmt: skip
    path = tmp_path / f"a{suffix}"
    write_molecules(path, molecules, [{name: name, "tag": name} for name in names])
    if suffix in FORMATS:
        read = read_molecules(path)
        assert [type(one) for one in read] == [Molecule] * len(names)
    if suffix == ".extxyz":
        told = [name.encode(errors="backslashreplace").decode().strip() for name in names]
        assert [a.name for a, b in zip(read, told, strict=True) if b and a.name != b] == []


def test_a_column_that_is_not_there_takes_no_memory(tmp_path):
    path = tmp_path / "bomb.extxyz"
    path.write_text("1\nProperties=species:S:1:pos:R:3:forces:R:999999999\nC 0 0 0\n")
    code = (
        "import resource, sys; from diffrelax.files.reading import read_molecules\n"
        "resource.setrlimit(resource.RLIMIT_DATA, (3 << 30,) * 2)\n"
        "print(read_molecules(sys.argv[1])[0].reason)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, path], capture_output=True, text=True, check=True, timeout=60
    )
    assert "1000000003 columns, the first atom 4: correct one of them" in done.stdout


def test_a_line_without_an_end_is_not_read_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(streams, "LONGEST_LINE", 1000)
    path = tmp_path / "a.smi"
    path.write_text("CO\n" + "C" * 5000 + "\nCC\n")
    good, bad = read_molecules(path)
    assert good.name == "CO"
    assert "cannot be read beyond record 1: it has a line of more than 1,000" in bad.reason


@pytest.mark.parametrize("suffix", [".smi", ".sdf", ".xyz", ".csv"])
def test_records_are_cut_from_a_stream(tmp_path, suffix):
    one = {
        ".smi": "CCO name\n",
        ".sdf": Chem.MolToMolBlock(Molecule.from_smiles("C").to_rdkit()) + "$$$$\n",
        ".xyz": "1\nname=he\nHe 0 0 0\n",
        ".csv": "CCO,name\n",
    }[suffix]
    path = tmp_path / f"a{suffix}.gz"
    header = "smiles,name\n" if suffix == ".csv" else ""
    with gzip.open(path, "wt") as file:
        file.write(header)
        for _ in range(20):
            file.write(one * (1_000_000 // len(one)))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    records = each_record(path)
    for i, record in enumerate(records, start=1):
        assert isinstance(record, Record) and record.source == f"{path}#{i}"
        if i == 20_000:
            break
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000  # KiB


@pytest.mark.parametrize("suffix", [".sdf", ".xyz", ".extxyz", ".pdb"])
@pytest.mark.parametrize("packing", ["", ".gz"])
def test_molecules_come_back_as_they_were_written(tmp_path, suffix, packing):
    smiles = ["CCO", "[NH4+]", "C[N+](=O)[O-]", "[CH3]", "c1ccncc1"]
    molecules = [Molecule.from_smiles(one, name=f"{one} name") for one in smiles]
    path = tmp_path / f"a{suffix}{packing}"
    write_molecules(path, molecules)
    assert (path.read_bytes()[:2] == b"\x1f\x8b") == bool(packing)
    for written, read in zip(molecules, read_molecules(path), strict=True):
        assert np.allclose(read.positions, written.positions, atol=1e-3)
        for field in ("name", "smiles", "charge", "multiplicity", "bonds"):
            assert getattr(read, field) == getattr(written, field)


def test_a_packed_file_is_known_by_what_is_in_it(tmp_path):
    (tmp_path / "a.smi").write_bytes(gzip.compress(b"CCO ethanol\n"))
    assert [one.name for one in read_molecules(str(tmp_path / "a.smi"))] == ["ethanol"]
    (tmp_path / "b.SMI.GZ").write_bytes(b"CCO\n")
    assert [one.name for one in read_molecules(str(tmp_path / "b.SMI.GZ"))] == ["CCO"]
    cut = gzip.compress(b"".join(b"CCO name%d\n" % i for i in range(10_000)))[:-2000]
    (tmp_path / "c.smi.gz").write_bytes(cut)
    *good, bad = each_record(tmp_path / "c.smi.gz")
    assert len(good) > 1000 and isinstance(bad, Rejected)
    assert f"beyond record {len(good)}" in bad.reason


def test_windows_1252_is_read_and_a_nul_costs_its_record_alone(tmp_path):
    (tmp_path / "a.smi").write_bytes(b"CO good\nCCO \xe4thanol\nC\0C\nCC\n")
    read = read_molecules(tmp_path / "a.smi")
    assert [type(one) for one in read] == [Molecule, Molecule, Rejected, Molecule]
    assert read[1].name == "äthanol" and "a NUL byte" in read[2].reason
    (tmp_path / "b.smi").write_text("CCO\n", encoding="utf-16")
    (only,) = read_molecules(tmp_path / "b.smi")
    assert "in UTF-16: save it in UTF-8" in only.reason


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("smiles,name\nCO,methanol\nCC,\n", ["methanol", "CC"]),
        ("ID;Canonical_SMILES\n7;CO\n008;CC\n", ["7", "008"]),
        ("\ufeff\nSMILES\tlogP\nCO\t-0.7\n", ["CO"]),
        ('chembl_id,"SMILES"\nA1,"CO"\n"two\nlines","CC"\n', ["A1", "two\nlines"]),
        ("InChI,Name\nInChI=1S/CH4O/c1-2/h2H\\,1H3,x\n", None),
        ('InChI,Name\n"InChI=1S/CH4O/c1-2/h2H,1H3",x\n', ["x"]),
        ("smiles\n\n,\nCO\n", ["CO"]),
    ],
)
def test_tables_are_read_by_the_names_of_their_columns(tmp_path, text, names):
    path = tmp_path / "a.csv"
    path.write_text(text, encoding="utf-8")
    read = read_molecules(path)
    if names is None:
        assert isinstance(read[0], Rejected)
        return
    assert [one.name for one in read] == names
    assert all(isinstance(one, Molecule) for one in read)


@pytest.mark.parametrize(
    "header",
    ["canonical_smiles,isomeric_smiles", "CanonicalSMILES,IsomericSMILES", "inchi,isosmiles",
     "flat smiles,SMILES", "id,smiles,smiles"],
)  # fmt: skip
def test_of_several_structures_that_with_stereochemistry_is_read(tmp_path, header):
    stereo, flat = "C[C@@H](N)C(=O)O", "CC(N)C(=O)O"
    cells = f"x,{stereo},{flat}" if header.startswith("id") else f"{flat},{stereo}"
    (tmp_path / "a.csv").write_text(f"{header}\n{cells}\n")
    assert read_molecules(tmp_path / "a.csv")[0].smiles == stereo


def test_a_table_may_tell_charge_and_multiplicity(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("smiles,Charge,multiplicity\nO=O,,3\n[NH4+],1,\nCN,1,\nCO,x,\n")
    oxygen, ammonium, *others = read_molecules(path)
    assert (oxygen.multiplicity, ammonium.charge) == (3, 1)
    assert others[0].reason.startswith("the charge is 1, but that of the SMILES is 0")
    assert others[1].reason.startswith("charge")
    assert not next(each_record(path)).properties


@pytest.mark.parametrize("suffix", [".sdf", ".extxyz", ".json"])
def test_isotopes_are_written(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    write_molecules(path, [Molecule.from_smiles("[2H]O[2H]")])
    if suffix == ".json":
        assert sorted(json.loads(path.read_text())[0]["isotopes"]) == [0, 2, 2]
    else:
        assert sorted(read_molecules(path)[0].isotopes) == [0, 2, 2]


@pytest.mark.parametrize("suffix", [".xyz", ".sdf"])
def test_coordinates_are_not_read_as_smiles(tmp_path, suffix):
    whole, path = tmp_path / f"whole{suffix}", tmp_path / "a.smi"
    write_molecules(whole, [Molecule.from_smiles("CCO")])
    path.write_bytes(whole.read_bytes())
    read = read_molecules(path)
    assert len(read) < 4
    assert "not lines of SMILES" in read[-1].reason


def test_the_one_word_of_a_comment_is_a_name(tmp_path):
    path = tmp_path / "a.xyz"
    frames = [f"1\n{comment}\nHe 0 0 0\n" for comment in ("helium", "made by me", "-1.5", "2x")]
    path.write_text("".join(frames))
    assert [one.name for one in read_molecules(path)] == ["helium", "a-2", "a-3", "a-4"]


def test_an_open_quote_in_a_table_costs_its_own_row(tmp_path):
    path, many = tmp_path / "a.csv", 20_000  # more than a cell can hold
    path.write_text(
        'smiles,name,note\n"CC,open\nCO,"open,x\nC,"two\nnames","two\nlines"\n'
        'N,"a ""quoted"" name",y\n'
        f'{"O" * 200_000},long\nCCO,"open too\n' + "O,water,\n" * many + 'CC,last,"open\nC,end,\n'
    )
    records = [*each_record(path)]
    read = [record.read(42) for record in (*records[:6], *records[-3:])]
    assert [one.name for one in read] == [
        "a-1", "a-2", "two\nnames", 'a "quoted" name', "a-5", "a-6", "water", "last", "end",
    ]  # fmt: skip
    assert [i for i, one in enumerate(read) if isinstance(one, Rejected)] == [0, 1, 4, 5]
    assert read[1].reason == "a quote is not closed at the end of the line: close it"
    assert records[2].properties == {"note": "two\nlines"}
    assert len(records) == 6 + many + 2


def test_a_table_without_smiles_says_so(tmp_path):
    (tmp_path / "a.csv").write_text("name,structure\nx,CO\n")
    (bad,) = read_molecules(tmp_path / "a.csv")
    assert "no SMILES column among name, structure" in bad.reason
    (tmp_path / "a.csv").write_text("smiles,name\nC(,bad\nCO\nCC,a,b,c\n")
    bad, short, long = read_molecules(tmp_path / "a.csv")
    assert isinstance(bad, Rejected) and bad.name == "bad"
    assert (short.name, long.name) == ("CO", "a")


def test_inchi_is_read_wherever_a_smiles_is(tmp_path):
    alanine = "InChI=1S/C3H7NO2/c1-2(4)3(5)6/h2H,4H2,1H3,(H,5,6)/t2-/m0/s1"
    (tmp_path / "a.smi").write_text(f"{alanine} alanine\n")
    named, bare, bad = read_molecules([str(tmp_path / "a.smi"), alanine, "InChI=1S/nonsense"])
    assert (named.name, named.smiles) == ("alanine", "C[C@H](N)C(=O)O")
    assert bare.name == alanine
    assert bad.reason == "'InChI=1S/nonsense' is not an InChI: check it"
    (allene,) = read_molecules("InChI=1S/C5H8/c1-3-5-4-2/h3-4H,1-2H3/t5-/m0/s1")
    assert "RDKit cannot read the stereochemistry 5- of this InChI" in allene.reason
    (undefined,) = read_molecules("InChI=1S/C3H7NO2/c1-2(4)3(5)6/h2H,4H2,1H3,(H,5,6)")
    assert isinstance(undefined, Molecule)


ALLENE = """penta-2,3-diene, one end wedged
     2D

  5  4  0  0  1  0            999 V2000
   -2.0000    0.8000    0.0000 C   0  0
   -1.3000    0.0000    0.0000 C   0  0
    0.0000    0.0000    0.0000 C   0  0
    1.3000    0.0000    0.0000 C   0  0
    2.0000    0.8000    0.0000 C   0  0
  2  1  1  0
  2  3  2  0
  3  4  2  0
  4  5  1  {}
M  END
"""


def drawing(smiles):
    mol = Chem.MolFromSmiles(smiles)
    Compute2DCoords(mol)
    Chem.WedgeMolBonds(mol, mol.GetConformer())
    return Chem.MolToMolBlock(mol)


def test_a_drawing_keeps_its_configuration_or_is_rejected(tmp_path):
    alanine, half_known = "C[C@H](N)C(=O)O", "C[C@@H]1CCCC2(O1)CCC[C@@H](C)O2"
    allenes = [ALLENE.format(wedge) for wedge in (1, 6)]
    blocks = [drawing(alanine), drawing(half_known), *allenes]
    (tmp_path / "a.sdf").write_text("".join(f"{block}$$$$\n" for block in blocks))
    kept, chosen, *axial = read_molecules(tmp_path / "a.sdf")
    assert kept.smiles == alanine and "@" in chosen.smiles
    for lost in axial:
        assert lost.reason.startswith("the stereochemistry 5") and "embedded" in lost.reason


@pytest.mark.parametrize("seed", range(4))
def test_a_drawing_may_leave_centres_open(tmp_path, seed):
    asked = "C[C@@H](O)C(=O)C(C)O"
    (tmp_path / "a.sdf").write_text(drawing(asked) + "$$$$\n")
    (read,) = read_molecules(tmp_path / "a.sdf", seed=seed)
    assert read.to_rdkit().HasSubstructMatch(Chem.MolFromSmiles(asked), useChirality=True)


@pytest.mark.parametrize(
    ("smiles", "bond", "marked"),
    [("CC=CC", "  2  3  2  {}", 3), ("FC(C)Cl", "  2  3  1  {}", 4)],
)
def test_what_a_drawing_marks_as_unknown_is_left_open(tmp_path, smiles, bond, marked):
    """By a crossed double bond, or a wavy single one."""
    text = re.sub(bond.format("."), bond.format(marked), drawing(smiles))
    assert bond.format(marked) in text
    (tmp_path / "a.sdf").write_text(f"{text}$$$$\n")
    (read,) = read_molecules(tmp_path / "a.sdf")
    assert read.left_open
    (read,) = read_molecules("InChI=1S/C4H8/c1-3-4-2/h3-4H,1-2H3/b4-3?")
    assert read.left_open


def test_properties_are_told_apart_from_geometry(tmp_path):
    block = Chem.MolToMolBlock(Molecule.from_smiles("C", name="m").to_rdkit())
    data = ">  <pIC50>  (1)\n7.2\n\n> 25 <id>\n0012\n\n>  <lines>\na\nb\n\n>  <none>\n\n"
    (tmp_path / "a.sdf").write_text(f"{block}{data}$$$$\n")
    (record,) = each_record(tmp_path / "a.sdf")
    assert record.properties == {"pIC50": 7.2, "id": "0012", "lines": "a\nb", "none": ""}
    frame = '1\nwords alone name=x dipole="1 2 3" n=4 "IC50 (nM)"=3.5\nHe 0 0 0\n'
    (tmp_path / "a.xyz").write_text(frame)
    (record,) = each_record(tmp_path / "a.xyz")
    assert sorted(record.properties) == ["IC50 (nM)", "dipole", "n", "name"]
    (tmp_path / "a.csv").write_text("smiles,name,logP,empty\nC,m,-0.5,\n")
    (record,) = each_record(tmp_path / "a.csv")
    assert record.properties == {"logP": -0.5}


def test_all_conformers_of_a_file_are_read(tmp_path):
    mol = Molecule.from_smiles("CCCC").to_rdkit()
    with Chem.SDWriter(str(tmp_path / "a.sdf")) as writer:
        for i in range(3):
            mol.SetDoubleProp("energy", i / 10)
            writer.write(mol)
    assert len(read_molecules(tmp_path / "a.sdf")) == 3


def test_pdb_as_other_programs_write_it(tmp_path):
    text = (
        "TITLE     water\n"
        "HETATM    1  O   HOH A   1       0.000   0.000   0.117\n"
        "HETATM    2  H1  HOH A   1       0.000   0.757  -0.469\n"
        "HETATM    3  H2  HOH A   1       0.000  -0.757  -0.469\n"
    )
    (tmp_path / "a.pdb").write_text(text + "END\n")
    (water,) = read_molecules(tmp_path / "a.pdb")
    assert (water.name, water.smiles, water.start) == ("water", "O", "given")
    models = "".join(f"MODEL {i}\n{text}ENDMDL\n" for i in (1, 2))
    (tmp_path / "b.pdb").write_text(models + "CONECT    1    2\nEND\n")
    assert [one.smiles for one in read_molecules(tmp_path / "b.pdb")] == ["O", "O"]
    (tmp_path / "c.pdb").write_text("TITLE     nothing\nEND\n")
    assert "no ATOM or HETATM line" in read_molecules(tmp_path / "c.pdb")[0].reason
