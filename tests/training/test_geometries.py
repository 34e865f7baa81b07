from dataclasses import replace
from io import BytesIO
from zipfile import ZipFile

import numpy as np
import pytest
import torch

from diffrelax.training.config import TrainingConfig
from diffrelax.training.geometries import GeometrySet, collate
from diffrelax.training.order import epoch_batches


def test_select_and_save_keep_molecules_whole(geometries, tmp_path):
    chosen = geometries.select(np.array([7, 0, 5]))
    assert list(chosen.index) == [7, 0, 5]
    assert list(chosen.sizes) == [9, 5, 3]
    assert (chosen.positions[chosen.atoms(1)] == geometries.positions[geometries.atoms(0)]).all()
    chosen.save(tmp_path / "deep" / "set.npz")
    again = GeometrySet.load(tmp_path / "deep" / "set.npz")
    assert (again.positions == chosen.positions).all()
    assert list(again.smiles) == list(chosen.smiles)
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["set.npz"]


def test_heavy_atoms_are_counted_molecule_by_molecule(geometries):
    heavy = [np.count_nonzero(geometries.numbers[geometries.atoms(i)] > 1)
             for i in range(len(geometries))]  # fmt: skip
    assert geometries.heavy_sizes.tolist() == heavy


def test_selecting_nothing_gives_an_empty_set(geometries):
    assert len(geometries.select(np.array([], dtype=int))) == 0


def test_collate_pads_and_replaces_unusable_starts(geometries):
    usable = np.ones(len(geometries), dtype=bool)
    usable[2] = False
    batch = collate(geometries, np.array([2, 7]), usable)
    assert batch.numbers.shape == (2, 9)
    assert batch.numbers[0].tolist() == [8, 1, 1, 0, 0, 0, 0, 0, 0]
    assert batch.positions[0, 3:].abs().max() == 0
    assert torch.equal(batch.starts[0], batch.positions[0])
    assert not torch.equal(batch.starts[1], batch.positions[1])
    assert batch.has_start.tolist() == [False, True]


def test_an_epoch_visits_each_molecule_once_in_an_order_of_its_own():
    sizes = np.random.default_rng(0).integers(3, 30, size=1003)
    one = np.zeros(1003, dtype=int)
    epochs = [epoch_batches(sizes, one, 10, 1.0, seed=1, epoch=e) for e in (0, 0, 1)]
    seen = np.concatenate(epochs[0])
    assert len(set(seen)) == len(seen) == 1003
    assert all((a == b).all() for a, b in zip(epochs[0], epochs[1], strict=True))
    assert not np.array_equal(np.concatenate(epochs[0]), np.concatenate(epochs[2]))


def test_batches_hold_molecules_of_like_size_and_about_as_many_atoms_each():
    sizes = np.random.default_rng(0).integers(3, 90, size=6400)
    batches = epoch_batches(sizes, np.zeros(6400, dtype=int), 10, 1.0, seed=1, epoch=0)
    padding = sum(sizes[b].max() * len(b) for b in batches) / sizes.sum()
    assert padding < 1.05
    atoms = np.array([sizes[b].sum() for b in batches])
    assert np.abs(atoms / (10 * sizes.mean()) - 1).max() < 0.25
    means = [sizes[b].mean() for b in batches]
    assert np.corrcoef(means[:-1], means[1:])[0, 1] == pytest.approx(0, abs=0.15)


@pytest.mark.parametrize(("balance", "share"), [(1.0, 0.99), (0.5, 0.909), (0.0, 0.5)])
def test_levels_of_theory_are_seen_in_proportion_to_a_power_of_their_size(balance, share):
    level = np.repeat([0, 1], [9900, 100])
    batches = epoch_batches(np.full(10_000, 5), level, 10, balance, seed=0, epoch=0)
    seen = np.concatenate(batches)
    assert len(seen) == 10_000
    assert (level[seen] == 0).mean() == pytest.approx(share, abs=1e-3)
    for one in (0, 1):
        times = np.bincount(seen[level[seen] == one], minlength=10_000)[level == one]
        assert times.max() - times.min() <= 1


def test_levels_are_joined_by_name_and_counted_as_the_network_counts_them(geometries, tmp_path):
    first = replace(geometries, levels=("a",))
    ions = np.ones(len(geometries), dtype=np.int8)
    joined = GeometrySet.join([first, replace(geometries, levels=("b",), charge=ions)])
    joined.save(tmp_path / "set.npz")
    known = GeometrySet.load(tmp_path / "set.npz").known_as(("c", "b", "a"))
    n = len(geometries)
    assert known.level.tolist() == n * [2] + n * [1]
    batch = collate(known, np.array([0, n]), np.ones(2 * n, dtype=bool))
    assert batch.context.level.tolist() == [2, 1]
    assert batch.context.charge.tolist() == [0, 1]
    with pytest.raises(ValueError, match="levels of theory b, which the network lacks"):
        joined.known_as(("a",))


def test_basin_is_bounded_by_both_measures(geometries):
    geometries.start_torsion[3] = 50.0
    moved = geometries.start_rmsd, geometries.start_torsion
    assert TrainingConfig(max_start_rmsd=0.1, max_start_torsion=60).in_basin(*moved).all()
    assert not TrainingConfig(max_start_rmsd=0.01, max_start_torsion=60).in_basin(*moved).any()
    turned = ~TrainingConfig(max_start_rmsd=0.1, max_start_torsion=10).in_basin(*moved)
    assert np.flatnonzero(turned).tolist() == [3]


def announcing_much() -> bytes:
    """Return a file of an array whose header announces eight terabytes."""
    header, file = BytesIO(), BytesIO()
    shape = {"descr": "<f8", "fortran_order": False, "shape": (10**12,)}
    np.lib.format.write_array_header_1_0(header, shape)
    with ZipFile(file, "w") as packed:
        packed.writestr("numbers.npy", header.getvalue())
    return file.getvalue()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut", announcing_much()])
def test_a_damaged_file_says_so(tmp_path, content):
    path = tmp_path / "set.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="is damaged, or not a packed set"):
        GeometrySet.load(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"level": np.ones(40, dtype=int)}, "a level of theory without a name"),
        ({"charge": np.zeros(7, dtype=int)}, "charge has 7 entries, not 40"),
        ({"numbers": np.ones(3, dtype=int)}, "numbers has 3 entries, not "),
        ({"offsets": np.arange(40)}, "offsets has 40 entries, not 41"),
        ({"positions": np.nan}, "positions are not finite"),
    ],
)
def test_arrays_that_do_not_belong_together(geometries, tmp_path, changes, message):
    if changes.get("positions") is not None:
        changes = {"positions": np.full_like(geometries.positions, np.nan)}
    replace(geometries, **changes).save(tmp_path / "set.npz")
    with pytest.raises(ValueError, match=f"is damaged, or not a packed set: .*{message}"):
        GeometrySet.load(tmp_path / "set.npz")


def test_the_fingerprint_names_molecules_and_their_order(geometries):
    same = geometries.select(np.arange(len(geometries)))
    other = geometries.select(np.arange(len(geometries))[::-1])
    assert same.fingerprint == geometries.fingerprint != other.fingerprint
