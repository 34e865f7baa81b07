import json

import numpy as np
import pytest

from diffrelax.benchmark.geometry import (
    choose_sample,
    evaluate_geometry,
    geometry_record,
    geometry_table,
)
from diffrelax.molecule import Molecule
from diffrelax.training.errors import superpose
from diffrelax.training.geometries import GeometrySet

SMILES = ("CCO", "CC=O", "C1CC1", "C#N", "CC(N)=O", "c1ccoc1")


@pytest.fixture(scope="module")
def geometries():
    """Embedded molecules, whose "DFT" geometry is a slightly shaken one."""
    rng = np.random.default_rng(0)
    molecules = [Molecule.from_smiles(s) for s in SMILES]
    sizes = [m.n_atoms for m in molecules]
    starts = [m.positions - m.positions.mean(0) for m in molecules]
    minima = [superpose(p + 0.01 * rng.normal(size=p.shape), p)[0] for p in starts]
    return GeometrySet(
        index=np.arange(20, 20 * 7, 20),
        offsets=np.concatenate([[0], np.cumsum(sizes)]),
        numbers=np.concatenate([m.numbers for m in molecules]).astype(np.uint8),
        positions=np.concatenate(minima).astype(np.float32),
        starts=np.concatenate(starts).astype(np.float32),
        start_rmsd=np.full(6, 0.02, dtype=np.float32),
        start_torsion=np.zeros(6, dtype=np.float32),
        smiles=np.array([m.smiles.encode() for m in molecules]),
    )


def test_rows_pair_each_method_with_its_own_reference(model, geometries):
    sample = choose_sample(geometries, 5)
    rows = evaluate_geometry(model, sample, levels=("uff",))
    assert [r.method for r in rows] == ["mmff94", "uff", "relax-qm9-1"]
    assert {r.n for r in rows} == {5}
    assert 0.01 < rows[0].median.rmsd < 0.03
    assert rows[1].median.bonds > 2 * rows[0].median.bonds
    for row in rows:
        assert row.low.bonds <= row.median.bonds <= row.high.bonds
        assert row.milliseconds > 0 or row.method == "mmff94"
    table = geometry_table(rows)
    assert len(table.splitlines()) == 5
    record = json.loads(json.dumps(geometry_record(rows, sample, split="test")))
    assert record["n"] == 5
    assert set(record["qm9_indices"]) <= set(range(20, 140, 20))


def test_the_sample_is_the_same_each_time_and_larger_ones_contain_it(geometries):
    small, large = choose_sample(geometries, 3), choose_sample(geometries, 6)
    assert small.indices == large.indices[:3]
    for start, reference in zip(large.starts, large.references, strict=True):
        assert start.bonds
        assert superpose(start.positions, reference)[1] < 0.05


@pytest.mark.parametrize("n", [0, -1, 7])
def test_impossible_sizes_are_refused(geometries, n):
    with pytest.raises(ValueError, match="choose 1 to 6"):
        choose_sample(geometries, n)
