import gzip
from hashlib import sha256

import numpy as np
import published
import pytest
from published import SOURCES, Source, load_published, read_source
from starts import load_starts, save_starts

from diffrelax.data.minima import pack_minima, remainder_of, split_of_constitution
from diffrelax.molecule import Molecule
from diffrelax.molecule.connectivity import constitution_key

# keys of made-up constitutions, by the remainder of their hash
KEYS = {remainder_of(key): key for key in (f"CONSTITUTION{i:02d}" for i in range(100))}


def write(path, frames):
    with gzip.open(path, "wt") as file:
        for name, molecule, key, positions in frames:
            about = f'name="{name}" smiles="{molecule.smiles}" charge={molecule.charge}'
            file.write(
                f"{molecule.n_atoms}\n{about} inchikey={key} Properties=species:S:1:pos:R:3\n"
            )
            for symbol, row in zip(molecule.symbols, positions, strict=True):
                file.write(f"{symbol} {row[0]:.6f} {row[1]:.6f} {row[2]:.6f}\n")
    return sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def molecules():
    return [Molecule.from_smiles(s) for s in ("CCO", "C[NH3+]", "CC(=O)[O-]")]


def source(tmp_path, molecules, remainders, starts=True):
    minima = [
        (f"m{i}", m, KEYS[r], m.positions)
        for i, (m, r) in enumerate(zip(molecules, remainders, strict=True))
    ]
    shaken = [(name, m, key, 1.01 * p) for name, m, key, p in minima[:2]]
    return Source(
        name="made-up",
        level="some level",
        file="minima.extxyz.gz",
        sha256=write(tmp_path / "minima.extxyz.gz", minima),
        origin="nowhere",
        starts="starts.extxyz.gz" if starts else "",
        starts_sha256=write(tmp_path / "starts.extxyz.gz", shaken),
    )


def test_minima_are_read_split_and_paired(tmp_path, molecules):
    minima = read_source(source(tmp_path, molecules, (2, 4, 7)), tmp_path)
    assert [m.start is None for m in minima] == [False, False, True]
    sets = pack_minima(minima, "some level", relax=True)
    assert {name: len(one) for name, one in sets.items()} == {
        "train": 1, "validation": 1, "test": 1,
    }  # fmt: skip
    assert sets["validation"].charge.tolist() == [1]
    assert sets["train"].charge.tolist() == [-1]
    assert sets["test"].levels == ("some level",)
    for one, molecule in zip(("test", "validation", "train"), molecules, strict=True):
        assert sets[one].numbers.tolist() == molecule.numbers.tolist()
        assert sets[one].start_rmsd[0] < 0.01  # they are MMFF94 minima already


def test_starts_that_come_with_the_minima_are_taken_as_they_are(tmp_path, molecules):
    minima = read_source(source(tmp_path, molecules, (7, 8, 9)), tmp_path)
    packed = pack_minima(minima, "some level", relax=False)["train"]
    assert packed.index.tolist() == [0, 1]
    stretched = packed.starts / packed.positions
    assert np.median(stretched) == pytest.approx(1.01, abs=1e-3)


def test_a_sealed_molecule_is_refused(tmp_path, molecules):
    for remainder in (0, 1):
        with pytest.raises(ValueError, match="m1 is sealed"):
            read_source(source(tmp_path, molecules, (7, remainder, 8)), tmp_path)
    assert [split_of_constitution(r, "") for r in (2, 3, 4, 5, 19)] == [
        "test", "test", "validation", "train", "train",
    ]  # fmt: skip


def test_another_file_than_the_published_one_is_refused(tmp_path, molecules):
    made = source(tmp_path, molecules, (7, 8, 9))
    write(tmp_path / made.file, [])
    with pytest.raises(ValueError, match=r"minima.extxyz.gz is another file: its sha256"):
        read_source(made, tmp_path)
    with pytest.raises(ValueError, match="there is no file"):
        read_source(SOURCES[0], tmp_path)


def test_a_molecule_without_bonds_costs_only_itself(tmp_path, molecules):
    broken = molecules[0].with_positions(5 * molecules[0].positions)
    made = source(tmp_path, [broken, *molecules[1:]], (7, 8, 9), starts=False)
    sets = pack_minima(read_source(made, tmp_path), "some level", relax=True)
    assert sets["train"].index.tolist() == [1, 2]


@pytest.mark.parametrize(
    ("sides", "kept"),
    [
        ({}, (0, 1, 2)),
        ({"CCO": {"test"}, "CC(=O)[O-]": {"train"}}, (0, 1, 2)),
        ({"CCO": {"train"}}, (1, 2)),  # a test molecule that QM9 learns
        ({"CC(=O)[O-]": {"train", "sealed"}}, (0, 1)),
        ({"C[NH3+]": {"test"}}, (0, 2)),
    ],
)
def test_what_qm9_has_on_another_side_is_left_out(tmp_path, molecules, sides, kept):
    made = source(tmp_path, molecules, (2, 4, 7))
    sides = {constitution_key(smiles): found for smiles, found in sides.items()}
    packed = published._pack_source(made, tmp_path, lambda: sides)
    assert sorted(i for one in packed.values() for i in one.index.tolist()) == list(kept)


def test_all_sources_are_one_set_that_is_packed_once(tmp_path, molecules, monkeypatch):
    made = source(tmp_path, molecules, (2, 4, 7))
    qm9 = pack_minima(read_source(made, tmp_path), "that of QM9", relax=False)
    monkeypatch.setattr(published, "SOURCES", (made,))
    monkeypatch.setattr(published, "load_qm9", lambda split, cache: qm9.get(split, qm9["test"]))
    monkeypatch.setattr(published, "sides_of_constitutions", dict)
    sets = load_published(tmp_path, tmp_path / "cache")
    assert {split: one.levels for split, one in sets.items()} == dict.fromkeys(
        ("train", "validation", "test"), ("that of QM9", "some level")
    )
    assert sets["validation"].index.tolist() == [0, 1]
    assert sets["validation"].level.tolist() == [0, 1]
    (tmp_path / made.file).unlink()
    again = load_published(tmp_path, tmp_path / "cache")
    assert again["train"].fingerprint == sets["train"].fingerprint


def test_a_minimum_counts_once_with_all_its_starts(tmp_path, molecules, monkeypatch):
    made = source(tmp_path, molecules, (7, 7, 7))
    monkeypatch.setattr(published, "SOURCES", (made,))
    empty = pack_minima(read_source(made, tmp_path), "that of QM9", relax=False)
    monkeypatch.setattr(published, "load_qm9", lambda split, cache: empty["train"])
    monkeypatch.setattr(published, "sides_of_constitutions", dict)
    moved = {2: np.zeros_like(molecules[2].positions)}
    moved[2][0] = 0.1, 0.0, 0.0
    about = {"source": "made-up", "level": "aimnet2"}
    save_starts(tmp_path / "starts" / "made-up-aimnet2-00.npz", about, moved)
    save_starts(tmp_path / "starts" / "other-00.npz", {**about, "source": "other"}, {0: moved[2]})
    found = load_published(tmp_path, tmp_path / "cache", starts=tmp_path / "starts")["train"]
    assert found.start_levels == ("mmff94", "aimnet2")
    assert np.bincount(found.start_level).tolist() == [len(found) - 1, 1]
    assert len(np.unique(found.index)) == len(found) - 1
    (last,) = np.flatnonzero(found.start_level == 1)
    atoms = found.atoms(last)
    np.testing.assert_allclose(found.starts[atoms] - found.positions[atoms], moved[2], atol=1e-6)
    assert found.start_rmsd[last] == pytest.approx(0.1 / molecules[2].n_atoms ** 0.5, rel=1e-3)


def test_a_release_of_labels_without_parts_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(published, "SOURCES", ())
    monkeypatch.setattr(published, "load_qm9", lambda split, cache: None)
    with pytest.raises(ValueError, match="has no parts of labels"):
        load_published(tmp_path, tmp_path / "cache", labels=[tmp_path])


def test_a_damaged_part_of_starts_is_named(tmp_path):
    (tmp_path / "part.npz").write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"part\.npz is damaged, or not a file of starts"):
        list(load_starts(tmp_path, "made-up"))
