import json

import pytest

from diffrelax.benchmark.geometry import (
    choose_sample,
    evaluate_geometry,
    geometry_record,
    geometry_table,
)
from diffrelax.training.errors import superpose


def test_rows_pair_each_method_with_its_own_reference(model, geometries):
    sample = choose_sample(geometries, 5)
    rows = evaluate_geometry(model, sample, levels=("uff",))
    assert [r.method for r in rows] == ["mmff94", "uff", "relax-qm9-1"]
    assert {r.n for r in rows} == {5}
    assert 0.01 < rows[0].median.rmsd < 0.03
    assert rows[1].median.bonds > 2 * rows[0].median.bonds
    for row in rows:
        assert row.low.bonds <= row.median.bonds <= row.high.bonds
        assert (row.milliseconds is None) == (row.method == "mmff94")
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
