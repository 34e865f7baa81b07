import os
import re
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from rdkit import Chem, rdBase
from source_tree import ROOT

from diffrelax.data import qm9
from diffrelax.molecule.connectivity import constitution_key
from diffrelax.training.geometries import GeometrySet

HEADER = "XYZ_file,Index,SMILES,InChi,N_atoms,Stoichiometry,Elements,XYZ_Ang\n\n"


def embedded(smiles, seed=1):
    from rdkit.Chem import rdDistGeom

    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    rdDistGeom.EmbedMolecule(mol, randomSeed=seed)
    return [a.GetSymbol() for a in mol.GetAtoms()], mol.GetConformer().GetPositions()


def row(index, smiles, elements, positions):
    return qm9._Row(index, smiles, tuple(elements), positions)


def test_split_is_by_index_and_sealed_raises():
    assert [qm9.split_of_index(i) for i in (20, 30, 21, 29, 133_880)] == [
        "test",
        "validation",
        "train",
        "train",
        "test",
    ]
    with pytest.raises(ValueError, match="25 is sealed"):
        qm9.split_of_index(25)


def test_stereochemistry_comes_from_the_coordinates():
    elements, positions = embedded("C[C@H](O)F")
    found = qm9._prepare(row(1, "CC(O)F", elements, positions), "mmff94")
    mirrored = qm9._prepare(row(1, "CC(O)F", elements, positions * [1, 1, -1]), "mmff94")
    assert found.smiles == Chem.CanonSmiles("C[C@H](O)F")
    assert mirrored.smiles == Chem.CanonSmiles("C[C@@H](O)F")


@pytest.mark.parametrize("level", qm9.ONE_IN)
def test_starts_are_superposed_and_measured(level):
    elements, positions = embedded("CCO")
    found = qm9._prepare(row(1, "CCO", elements, positions), level)
    difference = found.starts - found.positions
    assert np.sqrt((difference**2).sum(1).mean()) == pytest.approx(found.start_rmsd)
    assert 0 < found.start_rmsd < 0.5
    assert np.abs(found.starts.mean(0)).max() < 1e-9


def test_rows_in_another_atom_order_or_with_long_bonds_are_left_out():
    elements, positions = embedded("CCO")
    assert qm9._prepare(row(1, "CCO", elements[::-1], positions[::-1]), "uff") is None
    assert qm9._prepare(row(1, "CCO", elements, positions * 2), "uff") is None
    assert qm9._prepare(row(1, "C(", elements, positions), "uff") is None


def test_sealed_rows_are_never_read(tmp_path, monkeypatch):
    elements, positions = embedded("CC(O)F")
    text = HEADER
    for index in (4, 5, 20, 25):
        listed = "[" + ",".join(f"'{e}'" for e in elements) + "]"
        coordinates = str(positions.tolist()).replace(" ", "")
        text += f'"a",{index},"CC(O)F","x",9,"[]","{listed}","{coordinates}"\n'
    folder = tmp_path / "qm9pack" / "data"
    folder.mkdir(parents=True)
    for part in (1, 2, 3):
        (folder / f"qm9_part{part}.csv").write_text(text if part == 1 else HEADER)
    spec = type("Spec", (), {"submodule_search_locations": [str(tmp_path / "qm9pack")]})
    monkeypatch.setattr("diffrelax.extras.find_spec", lambda name: spec)
    read = list(qm9._rows())
    assert [r.index for r in read] == [4, 20]
    assert [r.index for r in qm9._rows(one_in=2)] == [4]
    np.testing.assert_allclose(read[0].positions, positions)
    sides = {constitution_key("C[C@H](O)F"): {"train", "sealed", "test"}}
    assert qm9.sides_of_constitutions() == sides


def test_a_packed_file_with_a_sealed_molecule_is_refused(geometries_with_sealed, tmp_path):
    geometries_with_sealed.save(tmp_path / "qm9-2-uff.npz")
    with pytest.raises(ValueError, match="sealed"):
        qm9.load_qm9("train", ["uff"], tmp_path)


def test_molecules_are_there_once_for_each_level_of_their_starts(geometries, tmp_path):
    few = geometries.select(np.array([0, 2]))
    geometries.save(tmp_path / "qm9-2-mmff94.npz")
    few.save(tmp_path / "qm9-2-uff.npz")
    train = [i for i in geometries.index if i % 20 not in (0, 10)]
    both = qm9.load_qm9("train", ["mmff94", "uff"], tmp_path)
    assert both.index.tolist() == [*train, *(i for i in few.index if i in train)]
    assert both.offsets[-1] == len(both.numbers) == len(both.starts)


@pytest.fixture
def geometries_with_sealed():
    return GeometrySet(
        index=np.array([1, 5]),
        offsets=np.array([0, 1, 2]),
        numbers=np.array([6, 6], dtype=np.uint8),
        positions=np.zeros((2, 3), dtype=np.float32),
        starts=np.zeros((2, 3), dtype=np.float32),
        start_rmsd=np.zeros(2, dtype=np.float32),
        start_torsion=np.zeros(2, dtype=np.float32),
        smiles=np.array([b"C", b"C"]),
    )


def test_unknown_split_and_missing_source_say_what_to_do(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="choose train, validation or test"):
        qm9.load_qm9("sealed", cache=tmp_path)
    monkeypatch.setattr("diffrelax.extras.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install \"diffrelax\[train\]\""):
        list(qm9._rows())


PACKING = """
import signal
from diffrelax.data import qm9
from diffrelax.molecule import Molecule

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
    ethanol = Molecule.from_smiles("CCO")
    one = qm9._Row(1, "CCO", ethanol.symbols, ethanol.positions)
    qm9._rows = lambda one_in: iter([one] * 100_000)
    qm9.pack("mmff94")
"""


def start_packing(folder):
    (folder / "packing.py").write_text(PACKING)
    process = subprocess.Popen(
        [sys.executable, folder / "packing.py"],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stderr.readline() == "packing QM9, mmff94: about 127,190 molecules\n"
    time.sleep(2)
    return process


def test_packing_ends_soon_after_ctrl_c(tmp_path):
    process = start_packing(tmp_path)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode != 0 and errors.endswith("KeyboardInterrupt\n")


def test_a_killed_packing_leaves_no_processes(tmp_path):
    process = start_packing(tmp_path)
    process.kill()
    process.communicate(timeout=120)  # until nobody holds standard error any more


def test_no_molecules_are_no_reason_to_pack(run, monkeypatch):
    monkeypatch.delattr("diffrelax.data.qm9.pack")
    assert run("evaluate", "relax-qm9-2", "-n", 0)[0] == 2


def test_no_example_is_a_sealed_molecule():
    spec = find_spec("qm9pack")
    if spec is None:
        pytest.skip("needs qm9pack")
    sealed = set()
    for part in (1, 2, 3):
        path = Path(spec.submodule_search_locations[0]) / "data" / f"qm9_part{part}.csv"
        with path.open(newline="") as file:
            for line in file:
                _, index, smiles, *_ = f"{line},,".split(",", 3)
                if index.isdigit() and int(index) % 20 == qm9.SEALED_REMAINDER:
                    sealed.add(Chem.CanonSmiles(smiles.strip('"'), useChiral=0))
    assert len(sealed) > 6000
    home = ROOT
    found = {}
    for suffix in ("README.md", "workflows/**/*.smi", "tests/**/*.py"):
        for path in home.glob(suffix):
            for word in set(re.findall(r"[\w@+\-\[\]()=#/\\]+", path.read_text())):
                found.setdefault(word, path)
    with rdBase.BlockLogs():
        molecules = {word: Chem.MolFromSmiles(word) for word in found}
    shown = {
        word: found[word]
        for word, molecule in molecules.items()
        if molecule and Chem.MolToSmiles(molecule, isomericSmiles=False) in sealed
    }
    assert not shown
