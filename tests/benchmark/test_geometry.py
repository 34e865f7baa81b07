import json
from dataclasses import replace
from math import nan

import numpy as np
import pytest
from rdkit.Chem import rdMolTransforms

from diffrelax.benchmark.geometry import (
    bounds_table,
    evaluate_geometry,
    geometry_record,
    geometry_table,
)
from diffrelax.benchmark.sample import Sample, choose_sample, in_basin, start_from
from diffrelax.diffusion.reading import Calibration, ErrorBound
from diffrelax.geometry import superpose
from diffrelax.molecule import Molecule
from diffrelax.molecule.identity import identity_change
from diffrelax.training.config import TrainingConfig
from diffrelax.training.geometries import GeometrySet


def test_rows_pair_each_method_with_its_own_reference(model, geometries):
    sample = choose_sample(geometries, 6)
    rows = evaluate_geometry(model, sample, levels=("uff",))
    assert [r.method for r in rows] == ["mmff94", "uff", "relax-qm9-1"]
    assert {r.n for r in rows} == {6}
    assert 0.01 < rows[0].median.rmsd < 0.03
    assert rows[1].median.bonds > 2 * rows[0].median.bonds
    for row in rows:
        assert row.low.bonds == min(e.bonds for e in row.errors)  # the exact interval of six
        assert row.low.bonds <= row.median.bonds <= row.high.bonds
        assert (row.milliseconds is None) == (row.method == "mmff94")
    table = geometry_table(rows, sample.start)
    assert len(table.splitlines()) == 5
    record = json.loads(json.dumps(geometry_record(rows, sample, split="test")))
    assert record["n"] == 6
    assert set(record["qm9_indices"]) <= set(range(20, 140, 20))
    assert record["in_basin"] == [True] * 6


def test_a_start_that_has_turned_a_bond_or_moved_far_has_left_the_basin():
    propanol = Molecule.from_smiles("CCCO")
    mol = propanol.to_rdkit()
    conformer = mol.GetConformer()
    hydroxyl = (1, 2, 3, 11)
    torsion = rdMolTransforms.GetDihedralDeg(conformer, *hydroxyl)
    inside = []
    for turn in (0.0, 30.0, 75.0):
        rdMolTransforms.SetDihedralDeg(conformer, *hydroxyl, torsion + turn)
        start = propanol.with_positions(conformer.GetPositions())
        inside.append(in_basin(start, propanol.positions))
    assert superpose(start.positions, propanol.positions)[1] < 0.7
    assert inside == [True, True, False]
    assert not in_basin(propanol.with_positions(1.6 * propanol.positions), propanol.positions)


def test_the_record_tells_which_starts_are_in_the_basin():
    ethanol = Molecule.from_smiles("CCO")
    far = ethanol.with_positions(1.6 * ethanol.positions)
    sample = Sample("mmff94", [far, ethanol], [ethanol.positions] * 2, [20, 40])
    assert geometry_record([], sample)["in_basin"] == [False, True]


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


@pytest.mark.parametrize("start", ["uff", "gfn2-xtb", "embedded"])
def test_other_starts_are_the_same_molecules_near_their_references(geometries, start):
    sample = choose_sample(geometries, 6)
    other = start_from(sample, start)
    assert other.start == start and len(other.indices) >= 5
    for molecule, reference, index in zip(
        other.starts, other.references, other.indices, strict=True
    ):
        known = sample.indices.index(index)
        assert np.array_equal(reference, sample.references[known])
        assert not identity_change(sample.starts[known], molecule.positions)
        assert 0.001 < superpose(molecule.positions, reference)[1] < 0.7


def test_embedded_hydrogens_are_named_as_in_the_reference():
    """Ethane, whose hydrogens an embedding numbers in any order, is staggered in one basin."""
    ethane = Molecule.from_smiles("CC")
    swapped = ethane.positions.copy()
    swapped[[2, 3]] = swapped[[3, 2]]
    swapped[[5, 6]] = swapped[[6, 5]]
    sample = Sample("mmff94", [ethane], [swapped], [20])
    (start,) = start_from(sample, "embedded").starts
    assert superpose(start.positions, swapped)[1] < 0.01


@pytest.mark.parametrize(("smiles", "kept"), [("NN", True), ("C[C@H](N)O", False)])
def test_embeddings_are_mirrored_only_where_that_is_the_same_molecule(smiles, kept):
    molecule = Molecule.from_smiles(smiles)
    image = molecule.with_positions(molecule.positions * [-1, 1, 1])
    sample = Sample("mmff94", [molecule], [image.positions], [20])
    if kept:
        (start,) = start_from(sample, "embedded").starts
        assert superpose(start.positions, image.positions)[1] < 0.01
    else:
        with pytest.raises(ValueError, match="no molecule can be started"):
            start_from(sample, "embedded")


def test_a_minimum_is_compared_with_itself_and_the_bound_is_kept(model, geometries):
    bound = ErrorBound(scale=0.07, exponent=0.0)
    config = model.config.model_copy(
        update={
            "calibrations": {
                model.config.level: Calibration(
                    settled=1e-9, near=9.0, unseen=0.07, after_schedule=bound
                )
            }
        }
    )
    sample = start_from(choose_sample(geometries, 2), "minimum")
    ungated = replace(model, config=config, environments=None)
    rows = evaluate_geometry(ungated, sample, levels=())
    assert rows[0].method == "minimum" and rows[0].median.rmsd < 1e-6
    assert rows[1].error_bounds == pytest.approx([nan, 0.07], nan_ok=True)  # one has no torsion
    assert "| start: DFT minimum |" in geometry_table(rows, sample.start)
    record = geometry_record(rows, sample)
    assert [*record["error_bounds"]] == ["relax-qm9-1"]
    assert record["error_bounds"]["relax-qm9-1"] == pytest.approx([nan, 0.07], nan_ok=True)


def test_a_level_does_not_relax_its_own_geometries(model, geometries):
    sample = start_from(choose_sample(geometries, 2), "uff")
    rows = evaluate_geometry(model, sample, levels=("uff",))
    assert [row.method for row in rows] == ["uff", "relax-qm9-1"]


def test_a_sample_with_no_molecule_left_is_refused(geometries, monkeypatch):
    strict = TrainingConfig(max_start_rmsd=1e-9)
    monkeypatch.setattr("diffrelax.benchmark.sample.TRAINED_ON", strict)
    with pytest.raises(ValueError, match="no molecule can be started from embedded"):
        start_from(choose_sample(geometries, 2), "embedded")


def test_minima_of_a_level_are_compared_with_a_model_that_aims_at_it(several, model, geometries):
    first, second = (replace(geometries, levels=(name,)) for name in ("r2SCAN-3c", "third"))
    both = GeometrySet.join([first, second])
    with pytest.raises(ValueError, match="has minima at r2SCAN-3c, third; choose one"):
        choose_sample(both, 3)
    with pytest.raises(ValueError, match="level fourth: the set has minima at r2SCAN-3c, third"):
        choose_sample(both, 3, level="fourth")
    sample = choose_sample(both, 3, source="mine", level="r2SCAN-3c")
    assert {start.name.split("-")[0] for start in sample.starts} == {"mine"}
    other = "B3LYP/6-31G(2df,p)"
    rows = evaluate_geometry(several, sample, levels=(), model_levels=("r2scan-3c", other))
    assert [row.method for row in rows[1:]] == ["several-1", f"several-1, at {other}"]
    assert evaluate_geometry(several, sample, levels=())[1].method == "several-1"
    assert evaluate_geometry(model, sample, levels=())[1].method == f"relax-qm9-1, at {other}"
    with pytest.raises(ValueError, match="unknown method"):
        evaluate_geometry(several, sample, levels=(), model_levels=("third",))
    nameless = replace(sample, level="")
    two = evaluate_geometry(several, nameless, levels=(), model_levels=("r2scan-3c", other))
    assert len({row.method for row in two}) == 3
    (alone,) = evaluate_geometry(several, nameless, levels=(), model_levels=(other,))[1:]
    assert alone.method == several.name
    record = geometry_record(rows, sample)
    assert record["level"] == "r2SCAN-3c" and len(record["mine_indices"]) == 3
    assert record["heavy_atoms"] == [sum(s.numbers > 1) for s in sample.starts]


def test_bounds_are_counted_by_size(model):
    small, large = (Molecule.from_smiles(s) for s in ("CCO", "CCCCCCCCCCO"))
    sample = Sample("mmff94", [small, large], [m.positions for m in (small, large)], [1, 2])
    rows = evaluate_geometry(model, sample, levels=())
    assert bounds_table(rows, sample) == ""
    row = replace(rows[1], error_bounds=(9.0, 0.0001))
    lines = bounds_table([row], sample).splitlines()[2:]
    assert [line.split(" | ")[1] for line in lines] == ["1 to 9", "10 to 19"]
    assert [line.split(" | ")[-1] for line in lines] == ["100% |", "0% |"]
