import csv
from contextlib import suppress
from dataclasses import replace

import numpy as np
import published
import pytest
import typer
from labels import Part

from diffrelax.cli import minima as commands
from diffrelax.data.minima import Minimum, pack_minima
from diffrelax.geometry import superpose
from diffrelax.molecule import Molecule
from diffrelax.molecule.connectivity import constitution_key

SMILES = ("CCO", "C[NH3+]", "CC(=O)[O-]", "OC[C@H](F)Cl")


def minimum(smiles, remainder, seed=42):
    molecule = Molecule.from_smiles(smiles, seed=seed)
    return Minimum(
        place=0,
        name=smiles,
        smiles=smiles,
        remainder=remainder,
        charge=molecule.charge,
        numbers=molecule.numbers,
        positions=1.001 * molecule.positions + [5.0, -80.0, 3.0],
        seed=seed,
    )


@pytest.fixture
def part():
    minima = [minimum(s, r, seed=40 + r) for s, r in zip(SMILES, (2, 4, 7, 19), strict=True)]
    about = {"level": "some level", "licence": "Ångström's own"}
    return Part(about, minima, np.array([-1.5, 2.0, 3.0, -40_000.12345]), np.full(4, 0.01))


def test_a_part_comes_back_as_it_was_to_a_twentieth_of_a_milliangstrom(part, tmp_path):
    part.save(tmp_path / "part-00.npz")
    again = Part.load(tmp_path / "part-00.npz")
    assert again.about == part.about
    np.testing.assert_array_equal(again.energies, part.energies)
    np.testing.assert_allclose(again.fmax, part.fmax, rtol=1e-3)
    for i, (one, other) in enumerate(zip(part.minima, again.minima, strict=True)):
        centred = one.positions - one.positions.mean(0)
        np.testing.assert_allclose(other.positions, centred, atol=0.51e-4)
        np.testing.assert_array_equal(other.numbers, one.numbers)
        assert (other.smiles, other.charge, other.remainder, other.seed, other.place) == (
            one.smiles, one.charge, one.remainder, one.seed, i,
        )  # fmt: skip


def test_starts_are_embedded_again(part, tmp_path):
    part.save(tmp_path / "part-00.npz")
    minima = Part.load(tmp_path / "part-00.npz").minima
    sets = pack_minima(minima, "some level", relax=False)
    assert {name: len(one) for name, one in sets.items()} == {
        "train": 2, "validation": 1, "test": 1,
    }  # fmt: skip
    stretched = sets["train"].positions / sets["train"].starts
    assert np.median(stretched) == pytest.approx(1.001, abs=1e-4)
    assert sets["validation"].charge.tolist() == [1]
    other = replace(part, minima=[m._replace(smiles="CCCCC") for m in part.minima])
    assert pack_minima(other.minima, "some level", relax=False) == {}


def test_sealed_and_boundless_molecules_are_not_written(part, tmp_path):
    sealed = [*part.minima[:3], part.minima[3]._replace(remainder=1)]
    with pytest.raises(ValueError, match=r"OC\[C@H\]\(F\)Cl is sealed"):
        replace(part, minima=sealed).save(tmp_path / "x.npz")
    far = [*part.minima[:3], part.minima[3]._replace(positions=900 * part.minima[3].positions)]
    with pytest.raises(ValueError, match="larger than coordinates can tell"):
        replace(part, minima=far).save(tmp_path / "x.npz")
    assert not list(tmp_path.iterdir())


def test_damaged_parts_are_refused(part, tmp_path):
    path = tmp_path / "part-00.npz"
    part.save(path)
    data = path.read_bytes()
    arrays = dict(np.load(path))
    pickled = np.array([{"a": 1}], dtype=object)
    for damage in (data[: len(data) // 2], b"", data[:200] + b"xx" + data[202:]):
        path.write_bytes(damage)
        with pytest.raises(ValueError, match="damaged, or not part of a release"):
            Part.load(path)
    for change in ({"seed": pickled}, {"n_atoms": arrays["n_atoms"] + 1}, {"about": "{"}):
        np.savez(path, **arrays | change)
        with pytest.raises(ValueError, match="damaged, or not part of a release"):
            Part.load(path)


def test_parts_are_read_with_the_published_sets(part, tmp_path, monkeypatch):
    part.save(tmp_path / "labels" / "part-00.npz")
    qm9 = pack_minima(part.minima, "that of QM9", relax=False)
    monkeypatch.setattr(published, "SOURCES", ())
    monkeypatch.setattr(published, "load_qm9", lambda split, cache: qm9[split])
    monkeypatch.setattr(published, "sides_of_constitutions", dict)
    cache = tmp_path / "cache"
    for _ in range(2):  # packed, and found packed
        sets = published.load_published(tmp_path, cache, labels=[tmp_path / "labels"])
        assert sets["train"].levels == ("that of QM9", "some level")
        assert sets["train"].level.tolist() == [0, 0, 1, 1]
        monkeypatch.setattr(published, "pack_minima", None)
    assert len(published.load_published(tmp_path, cache)["train"]) == 2


def test_what_qm9_has_on_another_side_is_in_no_labels(part, tmp_path):
    part.save(tmp_path / "part-00.npz")
    learned = next(m for m in part.minima if m.split == "test")
    sides = {constitution_key(learned.smiles): {"train"}}
    kept = published._pack_part(tmp_path / "part-00.npz", lambda: sides)
    assert sorted(kept) == ["train", "validation"]


def test_what_the_command_makes_is_packed_in_parts_each_minimum_once(tmp_path, monkeypatch, capsys):
    import pack_labels

    monkeypatch.setattr(pack_labels, "ENOUGH", 1)
    monkeypatch.setitem(pack_labels.METHODS, "mmff94", {"level": "MMFF94"})
    monkeypatch.setitem(pack_labels.METHODS, "uff", {"level": "UFF"})
    release = tmp_path / "release"
    release.mkdir()
    ions = ["C[NH3+] x", "[nonsense y"]  # remainders of the first two: 2 to 19
    more = ["COC z"]

    def make(smiles, level="mmff94", name="labels.jsonl"):
        with suppress(typer.Exit):  # one is no molecule
            commands.minima(smiles, tmp_path / name, level=level, seed=7)
        pack_labels.main(release, [tmp_path / name])

    make(ions)
    make([*ions, *more])
    make([*ions, *more])
    with pytest.raises(SystemExit, match="minima of MMFF94 and UFF: a release has one level"):
        make(more, "uff", "other.jsonl")
    assert "0 new minima" in capsys.readouterr().out
    parts = [Part.load(path) for path in sorted(release.glob("*.npz"))]
    assert [[m.smiles for m in one.minima] for one in parts] == [["C[NH3+]"], ["COC"]]
    assert [one.about["dropped"] for one in parts] == [{"is not a SMILES": 1}, {}]
    assert {m.seed for one in parts for m in one.minima} == {7}
    start = Molecule.from_smiles("COC", seed=7).positions
    assert superpose(parts[1].minima[0].positions, start)[1] < 1e-3
    rows = list(csv.DictReader((release / "parts.csv").open()))
    assert [(row["part"], row["minima"], row["charged"]) for row in rows] == [
        ("part-00.npz", "1", "1"), ("part-01.npz", "1", "0"),
    ]  # fmt: skip
