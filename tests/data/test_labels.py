import csv
import json
from dataclasses import replace

import numpy as np
import pytest

from diffrelax.data import published
from diffrelax.data.labels import Part
from diffrelax.data.minima import Minimum, pack_minima
from diffrelax.molecule import Molecule

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
        with pytest.raises(ValueError, match="damaged or no part of a release"):
            Part.load(path)
    for change in ({"seed": pickled}, {"n_atoms": arrays["n_atoms"] + 1}, {"about": "{"}):
        np.savez(path, **arrays | change)
        with pytest.raises(ValueError, match="damaged or no part of a release"):
            Part.load(path)


def test_parts_are_read_with_the_published_sets(part, tmp_path, monkeypatch):
    part.save(tmp_path / "labels" / "part-00.npz")
    qm9 = pack_minima(part.minima, "that of QM9", relax=False)
    monkeypatch.setattr(published, "SOURCES", ())
    monkeypatch.setattr(published, "load_qm9", lambda split, cache: qm9[split])
    cache = tmp_path / "cache"
    for _ in range(2):  # packed, and found packed
        sets = published.load_published(tmp_path, cache, labels=tmp_path / "labels")
        assert sets["train"].levels == ("that of QM9", "some level")
        assert sets["train"].level.tolist() == [0, 0, 1, 1]
        monkeypatch.setattr(published, "pack_minima", None)
    assert len(published.load_published(tmp_path, cache)["train"]) == 2


def test_finished_chunks_become_parts(tmp_path, monkeypatch):
    import pack_labels

    chunks, release, table = tmp_path / "chunks", tmp_path / "release", tmp_path / "list.tsv"
    chunks.mkdir()
    release.mkdir()
    made = [minimum(s, r) for s, r in zip(SMILES, (2, 4, 7, 19), strict=True)]
    lines = [f"{i}\t{m.smiles}\t42\tKEY{i}\t{m.remainder}\n" for i, m in enumerate(made)]
    table.write_text("".join(lines))
    monkeypatch.setattr(pack_labels, "CHUNK", 2)
    monkeypatch.setattr(pack_labels, "ENOUGH", 1)

    def finish(name, rows, failures):
        kept = [made[i] for i in rows]
        np.savez(
            chunks / name,
            row=np.array(rows),
            offsets=np.cumsum([0] + [len(m.numbers) for m in kept]),
            numbers=np.concatenate([m.numbers for m in kept]),
            positions=np.concatenate([m.positions for m in kept]).astype(np.float32),
            charge=np.array([m.charge for m in kept]),
            energy=np.arange(len(kept)),
            fmax=np.full(len(kept), 0.01),
            failures=np.array(json.dumps(failures)),
        )

    finish("0000.npz", [1, 0], [[0, "start uff"]])
    pack_labels.main(chunks, table, release)
    finish("0001.npz", [3], [[0, "identity: bond C1–H2 broke"]])
    pack_labels.main(chunks, table, release)
    pack_labels.main(chunks, table, release)
    parts = [Part.load(path) for path in sorted(release.glob("*.npz"))]
    assert [[m.smiles for m in one.minima] for one in parts] == [["C[NH3+]", "CCO"], [SMILES[3]]]
    assert [one.about["dropped"] for one in parts] == [{}, {"identity": 1}]
    rows = list(csv.DictReader((release / "parts.csv").open()))
    assert [(row["part"], row["minima"], row["charged"]) for row in rows] == [
        ("part-00.npz", "2", "1"), ("part-01.npz", "1", "0"),
    ]  # fmt: skip
