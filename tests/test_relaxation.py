import itertools
import re
import threading
from dataclasses import replace

import ase.build
import numpy as np
import pytest
import torch
from ase.units import Bohr
from rdkit import Chem
from rdkit.Chem import rdDistGeom, rdForceFieldHelpers
from rdkit.Chem.rdMolTransforms import GetDihedralDeg
from scipy.spatial.transform import Rotation

import diffrelax as dr
from diffrelax import load_model
from diffrelax.diffusion.reading import Calibration, ErrorBound, relax_by_reading
from diffrelax.diffusion.schedule import RelaxationSchedule
from diffrelax.geometry import superpose
from diffrelax.levels import get_calculator, relax_at_level
from diffrelax.levels.batch import relax_many
from diffrelax.models import batches
from diffrelax.models.batches import choose_schedule
from diffrelax.models.domain import outside_domain
from diffrelax.models.release import Model
from diffrelax.models.symmetry import with_symmetry
from diffrelax.molecule import embedding
from diffrelax.molecule.doubts import odd_reading
from diffrelax.network.config import NetworkConfig
from diffrelax.relaxation import relax_molecules
from diffrelax.training.config import MAX_ATOMS, ModelConfig, build_denoiser


def test_a_force_field_geometry_comes_closer_to_an_independent_minimum(model):
    """GFN2-xTB, another level of theory altogether, finds the relaxed geometries lower."""
    gains = []
    for smiles in ("CC(=O)OC", "C1CC1CO", "CN(C)C=O", "c1ccoc1", "N#CCC=O"):
        result = dr.relax(smiles, model)
        assert result.verdict == "relaxed"
        calculator = get_calculator("gfn2-xtb", result.start)
        energies = []
        for molecule in (result.start, result.molecule):
            atoms = molecule.to_atoms()
            atoms.calc = calculator
            energies.append(atoms.get_potential_energy())
        minimum = relax_at_level(result.molecule, "gfn2-xtb", fmax=0.01).energy
        gains.append((energies[0] - minimum) / (energies[1] - minimum))
    assert np.median(gains) > 2.0


def test_results_are_one_for_each_input_in_their_order(model):
    inputs = ["CCO", "C( smiles", "[Na+]", "CCCCCC", "C"]
    results = dr.relax(inputs, model)
    assert [r.name for r in results] == ["CCO", "smiles", "[Na+]", "CCCCCC", "C"]
    assert [r.verdict for r in results] == ["relaxed", "failed", "refused", "relaxed", "relaxed"]
    assert [r.n_evaluations for r in results] == [5, 0, 0, 5, 5]
    assert results[0].molecule.symbols == ("C", "C", "O", *"HHHHHH")


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def test_no_batch_goes_on_after_an_error_of_the_machine(model, threads, monkeypatch):
    def full(*_: object) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr("diffrelax.models.batches.PAIRS_IN_BATCH", 200)
    monkeypatch.setattr("diffrelax.relaxation._judge", full)
    threads(2)
    others = set(threading.enumerate())
    with pytest.raises(OSError, match="the disk is full") as caught:
        dr.relax(["CCO", "CC(=O)OC", "CCN", "CC#N"], model)
    assert set(threading.enumerate()) <= others, caught


def test_batches_at_once_give_what_they_give_one_by_one(model, threads, monkeypatch):
    monkeypatch.setattr("diffrelax.models.batches.PAIRS_IN_BATCH", 200)
    smiles = ["CCO", "CC(=O)OC", "C", "c1ccoc1", "CCN", "CC#N", "CO", "C1CC1"]
    found = {}
    for n in (1, 3):
        threads(n)
        found[n] = dr.relax(smiles, model)
        assert torch.get_num_threads() == n
        assert all(result.time.processor > 0 for result in found[n])
    for alone, at_once in zip(found[1], found[3], strict=True):
        assert alone.name == at_once.name
        np.testing.assert_array_equal(alone.molecule.positions, at_once.molecule.positions)


def test_an_error_in_one_of_several_batches_is_told(model, threads, monkeypatch):
    def fail(denoiser, numbers, *rest, **options):
        raise ValueError(f"{numbers.shape[1]} atoms")

    monkeypatch.setattr("diffrelax.models.batches.PAIRS_IN_BATCH", 1)
    monkeypatch.setattr("diffrelax.diffusion.reading.relax_positions", fail)
    threads(2)
    with pytest.raises(ValueError, match="9 atoms"):
        dr.relax(["CCO", "C", "CO"], model)
    assert torch.get_num_threads() == 2


def test_an_error_inside_costs_one_molecule_of_a_list(model, monkeypatch):
    def fail(molecules, *arguments):
        sizes.append(len(molecules))
        if any(molecule.name == "CO" for molecule in molecules):
            raise KeyError("odd")
        return whole(molecules, *arguments)

    sizes, whole = [], batches.relax_batch
    monkeypatch.setattr(batches, "relax_batch", fail)
    found = dr.relax(["CCO", "CO", "CC", "C", "O", "N", "CF", "CN"], model)
    assert sum(sizes) == 8 + 8 + 4 + 2  # halves
    assert [one.verdict for one in found if one.name != "CO"] == ["relaxed"] * 7
    assert (found[1].verdict, found[1].reason) == ("failed", "internal error, KeyError: 'odd'")
    with pytest.raises(KeyError, match="odd"):
        dr.relax("CO", model)
    monkeypatch.setattr("diffrelax.relaxation.odd_reading", lambda molecule: {}["missing"])
    assert dr.relax(["C1C", "CC"], model)[1].reason == "internal error, KeyError: 'missing'"


def test_a_text_is_one_molecule_and_a_file_is_a_path(model, tmp_path):
    path = tmp_path / "one.smi"
    path.write_text("CCO ethanol\n")
    assert [one.name for one in dr.relax(path, model)] == ["ethanol"]
    with pytest.raises(ValueError, match=r"one\.smi is a file: use relax\(Path"):
        dr.relax(str(path), model)


def test_one_molecule_gives_one_result_and_raises_if_it_is_bad(model):
    mol = Chem.AddHs(Chem.MolFromSmiles("CO"))
    rdDistGeom.EmbedMolecule(mol, randomSeed=1)
    for one in ("CO", mol, dr.Molecule.from_smiles("CO"), dr.Molecule.from_smiles("CO").to_atoms()):
        assert dr.relax(one, model).verdict == "relaxed"
    with pytest.raises(ValueError, match="None is not a molecule: give a SMILES"):
        dr.relax(None, model)
    with pytest.raises(ValueError, match="is not a SMILES"):
        dr.relax("C(", model)


def test_company_in_the_batch_does_not_matter(model):
    alone = dr.relax("CCO", model).molecule.positions
    crowd = dr.relax(["CCCCCCCC", "CCO", "C"], model)[1].molecule.positions
    np.testing.assert_allclose(alone, crowd, atol=2e-5)


def test_orientation_place_and_order_of_atoms_are_kept(model):
    start = dr.Molecule.from_smiles("CC(=O)N")
    rotation = Rotation.random(random_state=1).as_matrix()
    moved = start.with_positions(start.positions @ rotation.T + [30.0, -5.0, 2.0])
    plain, turned = (dr.relax(m, model).molecule.positions for m in (start, moved))
    np.testing.assert_allclose(turned, plain @ rotation.T + [30.0, -5.0, 2.0], atol=1e-4)
    assert superpose(plain, start.positions)[1] < 0.3
    np.testing.assert_allclose(plain.mean(0), start.positions.mean(0), atol=1e-5)


def test_coordinates_that_are_far_from_a_minimum_are_led_to_the_force_field_first():
    """X-rays have hydrogen atoms too near; embeddings lack a force field."""
    model = dr.load_model("relax-qm9-2")
    known = dr.relax("CC(=O)OCC#N", model)
    xray = known.molecule.positions.copy()
    for i, j, _ in known.molecule.bonds:
        heavy, hydrogen = sorted((i, j), key=lambda k: -known.molecule.numbers[k])
        if known.molecule.numbers[hydrogen] == 1:
            xray[hydrogen] = xray[heavy] + 0.87 * (xray[hydrogen] - xray[heavy])
    result = dr.relax(known.molecule.with_positions(xray), model)
    assert result.verdict == "relaxed"
    assert result.reason == "far from a minimum: relaxed with MMFF94 first"
    np.testing.assert_array_equal(result.start.positions, xray)
    assert superpose(result.molecule.positions, known.molecule.positions)[1] < 0.05


def test_what_mmff94_has_turned_out_of_conjugation_is_turned_back():
    """An amino group beside a nitrogen of its ring, by 60°: 13 kcal/mol by AIMNet2."""
    mol = Chem.AddHs(Chem.MolFromSmiles("Cc1cncnc1N"))
    rdDistGeom.EmbedMolecule(mol, randomSeed=1)
    rdForceFieldHelpers.MMFFOptimizeMolecule(mol, maxIters=5000)
    end = dr.relax(mol, dr.load_model()).molecule.to_rdkit()
    amino = Chem.MolFromSmarts("[#1]-[NH2]-c:[a]")
    turns = [
        [abs(GetDihedralDeg(m.GetConformer(), *ends)) for ends in m.GetSubstructMatches(amino)]
        for m in (mol, end)
    ]
    before, after = (np.mean([min(turn, 180 - turn) for turn in of_one]) for of_one in turns)
    assert before > 45 and after < 10


def test_what_no_force_field_is_needed_for_is_not_led_to_it(calibrated):
    first = dr.relax("CC(=O)OC", calibrated)
    assert not first.reason and "MMFF94" not in dr.relax(first.molecule, calibrated).reason


def test_a_molecule_of_doubtful_spin_has_no_bound():
    result = dr.relax("O=O", dr.load_model("relax-qm9-2"))
    assert "multiplicity" in result.reason and np.isnan(result.error_bound)


def test_coordinates_are_relaxed_from_where_they_stand(model):
    gauche = dr.Molecule.from_smiles("CCCC", seed=1)
    result = dr.relax(gauche.to_atoms(), model)
    assert result.start.start == "given"
    np.testing.assert_allclose(result.start.positions, gauche.positions)


def test_a_noise_level_leaves_out_the_bridge(model):
    start = dr.Molecule.from_smiles("CCO")
    small = dr.relax(start, model, noise_level=0.02)
    assert small.noise_level == 0.02
    assert small.n_evaluations == 2
    high = choose_schedule(model, 0.3).polish
    assert (high[0], high[-1]) == (0.3, model.config.relaxation.polish[-1])
    assert choose_schedule(model, 0.005).polish == (0.005,)
    assert all(0.45 < b / a < 0.8 for a, b in itertools.pairwise(high))
    usual = dr.relax(start, model)
    assert usual.noise_level == model.config.relaxation.bridge[0]
    moves = [np.abs(r.molecule.positions - start.positions).max() for r in (small, usual)]
    assert moves[0] < moves[1]
    for bad in (0.0, -1.0, 1e-9, 5.0, float("nan")):
        with pytest.raises(ValueError, match="noise level"):
            dr.relax(start, model, noise_level=bad)


@pytest.mark.parametrize(
    ("smiles", "reason"),
    [
        ("CCCl", "not trained on Cl"),
        ("CC(=O)[O-]", "charge -1"),
        ("C[CH2]", "multiplicity 2"),
        ("[H][H]", "trained on molecules with"),
        ("FF", "trained on molecules with"),
        ("C.C", "2 fragments"),
        ("OO", "a bond O–O, which the model has not learned"),
        ("CN(F)F", "a bond N–F"),
        ("[He]", "not trained on He"),
    ],
)
def test_molecules_outside_the_domain_come_back_as_they_were(model, smiles, reason):
    result = dr.relax([smiles], model)[0]
    assert result.verdict == "refused"
    assert re.search(reason, result.reason)
    assert (result.molecule.positions == result.start.positions).all()
    assert result.n_evaluations == 0
    assert result.atoms.info["verdict"] == "refused"


def test_atoms_whose_bonds_are_unknown_are_refused(model):
    for smiles, told in (
        ("O.O", "the distances show 2 separate fragments"),
        ("O", "none match its positions"),
    ):
        known = dr.Molecule.from_smiles(smiles)
        unknown = dr.Molecule(known.numbers, known.positions, name="x")
        assert dr.relax(unknown, model).verdict == "refused"
        reason = dr.relax(unknown, model).reason
        assert reason.startswith("no bonds are known: ") and told in reason
    assert dr.relax(ase.Atoms("O"), model).reason == "a single atom has no geometry"
    carbene = ase.build.molecule("CH2_s1A1d")
    assert dr.relax(carbene, model).verdict == "refused"


def test_coordinates_in_bohr_are_told_from_others_without_bonds(model):
    for smiles in ("CC(=O)OC", "O", "c1ccccc1", "CC(F)(F)F"):
        atoms = bare(dr.Molecule.from_smiles(smiles))
        atoms.positions /= Bohr
        (result,) = dr.relax([atoms], model)
        assert result.verdict == "refused"
        assert "seem to be in bohr: multiply them by 0.5292" in result.reason
        atoms.positions *= Bohr
        assert dr.relax(atoms, model).verdict == "relaxed"
        atoms.positions *= 1.5
        assert "bohr" not in dr.relax([atoms], model)[0].reason


def bare(molecule, *without):
    """Coordinates of a molecule alone, without some of its atoms."""
    atoms = ase.Atoms(molecule.numbers, molecule.positions)
    del atoms[list(without)]
    return atoms


@pytest.mark.parametrize(
    ("smiles", "without", "told"),
    [
        ("CCO", (4, 8), r"read as \[CH2\+\]C\[O-\], with separated charges"),
        ("CCC", (3, 7), r"read as C=CC, where C1=C2 is as long as a single bond \(1.5. Å\)"),
        ("CO", (2, 5), r"read as C=O, where C1=O2 is as long as a single bond \(1.4. Å\)"),
        ("CC(=O)OC", (9,), r"multiplicity 2.*read as .*, with unpaired electrons"),
    ],
)
def test_what_lacks_hydrogens_tells_as_what_it_was_read(model, smiles, without, told):
    atoms = bare(dr.Molecule.from_smiles(smiles), *without)
    assert re.search(f"{told}.*: check its hydrogens", dr.relax([atoms], model)[0].reason)


@pytest.mark.parametrize(
    "smiles",
    ["CC(=O)OC", "C[N+](=O)[O-]", "CN=[N+]=[N-]", "[C-]#[N+]C", "C[N+](C)(C)[O-]", "C[NH3+]",
     "CC(=O)[O-]", "C=[N+]=[N-]", "c1cc[n+]([O-])cc1", "CS(=O)(=O)C", "C1=CC=CC=CC=C1", "CNC(=S)C",
     "[C-]#[O+]", "O=Cc1cccs1", "Cc1csc(C(=O)O)n1", "CS/C=C/C=O", "O=C1C=CC(=O)C=C1",
     "NC(=[NH2+])N", "CN(C)C=C[N+](=O)[O-]"],
)  # fmt: skip
def test_of_what_is_read_as_usual_nothing_is_told(smiles):
    molecule = dr.Molecule.from_smiles(smiles)
    read = dr.Molecule.from_atoms(bare(molecule), charge=molecule.charge)
    assert read.smiles == molecule.smiles
    assert odd_reading(read) == ""


def test_stereochemistry_that_was_left_open_is_told():
    model = dr.load_model()
    told = "stereochemistry not specified: chosen as C/C=C\\C"
    assert dr.relax("CC=CC", model).reason == told
    assert dr.relax("C/C=C\\C", model).reason == ""
    told = "chosen as CC=C=C=CC, and the orientation at C2=C3=C4=C5"
    assert told in dr.relax("CC=C=C=CC", model).reason


@pytest.mark.parametrize("formula", ["OO", "FeO"])
def test_more_unpaired_electrons_are_asked_for_where_they_are_likely(formula):
    atoms = ase.Atoms(formula, positions=[[0, 0, 0], [0, 0, 1.3]])
    read = dr.Molecule.from_atoms(atoms)
    assert odd_reading(read).startswith("treated with multiplicity 1: for more unpaired")
    atoms.info["multiplicity"] = 3
    assert "treated with" not in odd_reading(dr.Molecule.from_atoms(atoms))


@pytest.mark.parametrize("smiles", ["C", "FC(F)(F)F"])
def test_a_place_of_high_symmetry_stays_one_however_it_stands(model, smiles):
    """There rounding decided of what the network makes, and bonds differed by up to 0.02 Å."""
    start = dr.Molecule.from_smiles(smiles)
    turns = [np.eye(3), *Rotation.random(3, random_state=0).as_matrix()]
    starts = [start.with_positions(start.positions @ turn, start=start.start) for turn in turns]
    alone = [dr.relax(one, model) for one in starts]
    beside = dr.relax([*starts, dr.Molecule.from_smiles("CCO")], model)[:-1]
    ends = [result.molecule.positions for result in (*alone, *beside)]
    bonds = np.array([[np.linalg.norm(end[i] - end[j]) for i, j, _ in start.bonds] for end in ends])
    assert np.ptp(bonds) < 1e-4
    assert abs(bonds.mean() - {"C": 1.092, "FC(F)(F)F": 1.325}[smiles]) < 0.01  # of B3LYP
    shaken = np.random.default_rng(0).normal(0, 0.04, start.positions.shape)
    far = dr.relax(start.with_positions(start.positions + shaken), model)
    even = [np.linalg.norm(np.subtract(*far.molecule.positions[[i, j]])) for i, j, _ in start.bonds]
    assert np.ptp(even) < 1e-4


def test_what_is_less_symmetric_is_not_made_more_so():
    """The see-saw of SF4 has two kinds of bonds, each of which comes out even."""
    ligands = [[0, 0, 1.64], [0, 0, -1.66], [1.2, 0.98, 0], [1.2, -0.98, 0]]
    bonds = tuple((0, i, 1.0) for i in range(1, 5))
    seesaw = dr.Molecule([16, 9, 9, 9, 9], [[0, 0, 0], *ligands], bonds=bonds)
    end = with_symmetry(seesaw, seesaw.positions)
    lengths = np.linalg.norm(end[1:] - end[0], axis=1)
    np.testing.assert_allclose(lengths, [1.65, 1.65, 1.549, 1.549], atol=1e-3)


def test_the_charge_of_an_ion_is_asked_for():
    read = dr.Molecule.from_atoms(bare(dr.Molecule.from_smiles("C[NH3+]")))
    told = "an odd number of electrons: check its hydrogens and its charge (of .xyz and .pdb files"
    assert odd_reading(read).startswith(told)


def test_the_name_of_a_model_in_place_of_it_is_told():
    with pytest.raises(TypeError, match=r"^'relax-reach-1' is not a model: use load_model"):
        dr.relax("CCO", "relax-reach-1")


def test_a_result_in_place_of_its_molecule_is_told(model):
    result = dr.relax("CCO", model)
    told = r"^.{,200}: a Relaxation is not a molecule: give its \.molecule$"
    with pytest.raises(ValueError, match=told):
        dr.relax(result, model)


def test_a_smiles_that_is_odd_is_not_told_back(model):
    assert "read as" not in dr.relax("C[N+](C)(C)[CH2-]", model).reason


def test_a_start_of_another_kind_is_told(model):
    start = dr.Molecule.from_smiles("CCO")
    other = start.with_positions(start.positions, start="uff")
    said = "its start was relaxed with UFF, but those in training with MMFF94: its error may be"
    assert dr.relax(other, model).reason == f"{said} larger than usual"
    unrelaxed = start.with_positions(start.positions, start="embedded")
    assert "its start is an unrelaxed embedding" in dr.relax(unrelaxed, model).reason
    noise_alone = model.config.relaxation.model_copy(update={"bridge": ()})
    blind = replace(model, config=model.config.model_copy(update={"relaxation": noise_alone}))
    assert dr.relax(other, blind).reason == ""


def test_a_molecule_stays_one_however_it_is_shaken(model):
    start = dr.Molecule.from_smiles("CC(=O)OC")
    away = np.random.default_rng(0).normal(size=start.positions.shape)
    verdicts = []
    for level in (0.1, 0.2, 0.3):
        shaken = start.with_positions(start.positions + level * away)
        verdicts.append(dr.relax(shaken, model, noise_level=level).verdict)
    assert verdicts[0] == "relaxed"
    assert "refused" not in verdicts


@pytest.fixture(scope="module")
def calibrated(model):
    calibration = Calibration(
        settled=0.003,
        near=0.008,
        unseen=0.2,
        after_schedule=ErrorBound(scale=30.0, exponent=1.4),
    )
    return replace(
        model,
        config=model.config.model_copy(update={"calibrations": {model.config.level: calibration}}),
    )


def test_what_is_relaxed_already_is_left_alone(calibrated):
    first = dr.relax("CC(=O)OC", calibrated)
    again = dr.relax(first.molecule, calibrated)
    assert (first.noise_level, first.n_evaluations) == (0.1, 5)  # a force field's: not read
    stretched = first.molecule.with_positions(1.01 * first.start.positions)
    assert dr.relax(stretched, calibrated).n_evaluations == 8
    assert (again.noise_level, again.n_evaluations) == (0.0, 2)
    assert (again.verdict, again.error_bound) == ("relaxed", pytest.approx(0.2))
    assert again.reason == "kept as it is: the model sees nothing to correct"
    np.testing.assert_array_equal(again.molecule.positions, first.molecule.positions)
    shaken = first.molecule.positions
    shaken = shaken + 0.005 * np.random.default_rng(0).normal(size=shaken.shape)
    once = dr.relax(first.molecule.with_positions(shaken), calibrated)
    assert (once.noise_level, once.n_evaluations) == (0.08, 5)
    before, after = (superpose(p, first.molecule.positions)[1]
                     for p in (shaken, once.molecule.positions))  # fmt: skip
    assert after < before / 2


@pytest.mark.parametrize("smiles", ["c1ccccc1", "CC(=O)OC", "CCC#N"])
def test_geometries_that_are_stretched_as_a_whole_are_relaxed_or_refused(smiles):
    model = dr.load_model("relax-qm9-2")
    minimum = dr.relax(smiles, model).molecule
    for factor in (1.03, 1.08, 1.2):
        stretched = minimum.with_positions(factor * minimum.positions)
        result = dr.relax(stretched, model)
        error = superpose(result.molecule.positions, minimum.positions)[1]
        assert result.verdict == "relaxed" and result.noise_level == 0.1
        assert error < min(result.error_bound, 0.03)
    in_bohr = dr.relax(minimum.with_positions(minimum.positions / Bohr), model)
    assert in_bohr.verdict == "fell_back"
    assert in_bohr.reason.endswith("check its coordinates and their unit, Å")


def test_an_error_that_may_be_too_large_falls_back_to_the_start(calibrated, model):
    known = dr.relax("CCCO", calibrated)
    assert 0 < known.error_bound < 0.3
    assert dr.relax("CCCO", calibrated, max_error=known.error_bound * 1.01).verdict == "relaxed"
    strict = dr.relax("CCCO", calibrated, max_error=known.error_bound / 2)
    assert strict.verdict == "fell_back"
    assert f"error bound is {known.error_bound:.3f} Å" in strict.reason
    assert np.isnan(strict.error_bound)
    np.testing.assert_array_equal(strict.molecule.positions, strict.start.positions)
    for wrong in (0.0, float("nan")):
        with pytest.raises(ValueError, match="give a positive number"):
            dr.relax("CCCO", calibrated, max_error=wrong)
    with pytest.raises(ValueError, match=r"relax-qm9-1 has no error bounds at B3LYP.*: leave"):
        dr.relax("CCCO", model, max_error=0.1)
    with pytest.raises(ValueError, match="given noise level"):
        dr.relax("CCCO", calibrated, max_error=0.1, noise_level=0.03)


def test_a_bound_that_reaches_other_minima_is_told(calibrated):
    wild = calibrated.config.calibrations[calibrated.config.level].model_copy(
        update={"after_schedule": ErrorBound(scale=1e4, exponent=1.4)}
    )
    config = calibrated.config.model_copy(update={"calibrations": {calibrated.config.level: wild}})
    result = dr.relax("CCCO", replace(calibrated, config=config))
    assert result.error_bound > 0.7 and result.verdict == "relaxed"
    assert result.reason.endswith("it may be another conformer")
    rigid = dr.relax("c1ccccc1", replace(calibrated, config=config))
    assert rigid.error_bound > 0.7 and not rigid.reason


def test_there_is_no_bound_without_torsions(calibrated):
    results = dr.relax(["C", "O=C=O", "CO"], calibrated)
    assert [np.isnan(result.error_bound) for result in results] == [True, True, False]
    assert {result.verdict for result in results} == {"relaxed"}


def test_linear_and_tiny_molecules_are_relaxed(model):
    for smiles in ("C#CC#N", "C#C", "O=C=O", "O", "N"):
        result = dr.relax([smiles], model)[0]
        assert result.verdict == "relaxed", result.reason
        assert not outside_domain(result.molecule, model)


def test_a_large_molecule_that_is_left_alone_is_told_of_too(calibrated):
    calm = calibrated.config.calibrations[calibrated.config.level].model_copy(
        update={"settled": 1.0, "near": 1.0}
    )
    config = calibrated.config.model_copy(update={"calibrations": {calibrated.config.level: calm}})
    dodecane = dr.Molecule.from_smiles("CCCCCCCCCCCC")
    given = dodecane.with_positions(dodecane.positions)
    result = dr.relax(given, replace(calibrated, config=config))
    assert result.noise_level == 0
    assert result.reason == (
        "12 heavy atoms, 38 in total: extrapolated, trained on at most 9 and 29; the error "
        "bound is not calibrated for this; kept as it is: the model sees nothing to correct"
    )


def test_what_is_too_large_for_the_model_is_not_embedded(model, monkeypatch):
    chain = dr.Molecule.from_smiles("C" * 36)
    monkeypatch.setattr(embedding, "_embed_once", lambda *_: pytest.fail("it is embedded"))
    given, smiles = dr.relax([chain, "C" * 36], model)
    assert given.verdict == "refused"
    assert smiles.verdict == "failed"
    assert smiles.reason == f"110 atoms: not embedded, because at most {MAX_ATOMS} are used here"


def test_a_model_of_large_molecules_covers_them(model):
    chain = dr.Molecule.from_smiles("C" * 36)
    assert "used beyond 100" in outside_domain(chain, model)
    large = model.config.model_copy(update={"largest": 110})
    assert not outside_domain(chain, replace(model, config=large))


def test_larger_molecules_than_in_training_say_so(model):
    nonane, chain, acetanilide = dr.relax(["CCCCCCCCC", "CCCCCCCCCC", "CC(=O)Nc1ccccc1"], model)
    assert {r.verdict for r in (nonane, chain, acetanilide)} == {"relaxed"}
    assert nonane.reason == ""  # 9 heavy atoms and 29 atoms, as the largest of QM9
    assert chain.reason == "10 heavy atoms, 32 in total: extrapolated, trained on at most 9 and 29"
    assert acetanilide.reason.startswith("10 heavy atoms, 19 in total: extrapolated")


def test_a_bound_that_is_not_calibrated_for_the_size_says_so(calibrated):
    uncalibrated = "; the error bound is not calibrated for this"
    small, nicotine = dr.relax(["CCCCCCCCC", "CN1CCCC1c1cccnc1"], calibrated)
    assert small.reason == ""
    assert nicotine.error_bound > 0 and nicotine.reason.endswith(uncalibrated)
    unbounded = dr.relax("CN1CCCC1c1cccnc1", calibrated, noise_level=0.03)
    assert unbounded.reason == nicotine.reason.removesuffix(uncalibrated)


def test_hydrogens_alone_may_be_more_than_in_training(model):
    few = replace(model, config=model.config.model_copy(update={"largest": 8}))
    reason = dr.relax("CCO", few).reason
    assert reason == "3 heavy atoms, 9 in total: extrapolated, trained on at most 9 and 8"


def test_a_result_that_is_another_molecule_falls_back(model, calibrated, monkeypatch):
    def tear(denoiser, numbers, positions, *rest):
        moved = positions.clone()
        moved[:, -1] += 3.0
        return moved

    monkeypatch.setattr("diffrelax.diffusion.reading.relax_positions", tear)
    result = dr.relax("CCO", model)
    assert result.verdict == "fell_back"
    assert "broke" in result.reason
    assert (result.molecule.positions == result.start.positions).all()

    def lose(denoiser, numbers, positions, *rest):
        return positions * float("nan")

    monkeypatch.setattr("diffrelax.diffusion.reading.relax_positions", lose)
    result = dr.relax("CCO", model)
    assert result.verdict == "fell_back"
    assert "not finite" in result.reason

    def tear_by_reading(denoiser, numbers, positions, routes, calibration, *rest):
        read = relax_by_reading(denoiser, numbers, positions, routes, calibration, *rest)
        return replace(read, positions=tear(denoiser, numbers, positions))

    monkeypatch.setattr("diffrelax.models.batches.relax_by_reading", tear_by_reading)
    result = dr.relax("CCO", calibrated)
    assert (result.verdict, result.n_evaluations) == ("fell_back", 5)
    assert np.isnan(result.error_bound)


def test_a_failed_input_has_no_atoms(model):
    with pytest.raises(ValueError, match="no geometry"):
        _ = dr.relax(["C("], model)[0].atoms


def test_the_same_seed_gives_the_same_geometry(model):
    first, second, other = (dr.relax("CCCCO", model, seed=s).molecule.positions for s in (1, 1, 2))
    assert (first == second).all()
    assert np.abs(first - other).max() > 1e-3


def test_bonds_that_make_no_structure_are_refused_and_cost_no_other_molecule(model):
    nitromethane = dr.Molecule.from_smiles("C[N+](=O)[O-]")
    bonds = tuple(b._replace(order=1.5) if b.order == 2 else b for b in nitromethane.bonds)
    wrong = replace(nitromethane, bonds=bonds)
    plain = replace(wrong, bonds=tuple(map(tuple, nitromethane.bonds)))
    refused, *relaxed = dr.relax([wrong, plain, "CO"], model)
    assert refused.verdict == "refused"
    assert "RDKit cannot make a structure from its bonds" in refused.reason
    assert [result.verdict for result in relaxed] == ["relaxed", "relaxed"]


def test_at_a_level_that_was_not_learned_the_nearest_is_taken_with_a_warning(model):
    own = dr.relax("CCO", model, level=model.config.level)
    with pytest.warns(UserWarning, match=r"has not learned r2SCAN-3c: .* differ in functional"):
        nearest = dr.relax("CCO", model, level="r2SCAN-3c")
    assert nearest.level == model.config.level
    np.testing.assert_array_equal(nearest.molecule.positions, own.molecule.positions)
    with pytest.raises(ValueError, match="unknown method 'b3lpy': did you mean B3LYP"):
        dr.relax("CCO", model, level="b3lpy/def2-svp")


def test_the_level_decides_where_a_model_of_several_leads(model):
    network = NetworkConfig(levels=("first", "second"), channels=8, layers=1)
    config = model.config.model_copy(update={"network": network, "level": "first"})
    torch.manual_seed(0)
    denoiser = build_denoiser(config)
    torch.nn.init.normal_(denoiser.network.readout.weight, std=0.1)
    several = replace(model, config=config, denoiser=denoiser.requires_grad_(False))
    start = dr.Molecule.from_smiles("CCO")
    default, first, second = (
        relax_molecules([start], several, level=level, noise_level=0.01)[0].molecule.positions
        for level in (None, "first", "second")
    )
    assert np.array_equal(default, first)
    assert np.abs(second - first).max() > 1e-5
    with pytest.raises(ValueError, match="unknown method"):
        relax_molecules([start], several, level="third")


def test_a_level_without_a_calibration_has_no_bound_and_says_so(several, calibrated):
    (calibration,) = calibrated.config.calibrations.values()
    config = several.config.model_copy(update={"calibrations": {"r2SCAN-3c": calibration}})
    model = replace(several, config=config)
    bounded = dr.relax("CCO", model, level="r2SCAN-3c")
    assert bounded.error_bound > 0 and bounded.reason == ""
    bare = dr.relax("CCO", model, level="B3LYP/6-31G(2df,p)")
    assert np.isnan(bare.error_bound)
    assert bare.reason == ("no error bound at B3LYP/6-31G(2df,p): too few molecules for validation")
    with pytest.raises(ValueError, match=r"no error bounds at B3LYP/6-31G\(2df,p\): leave"):
        dr.relax("CCO", model, level="B3LYP/6-31G(2df,p)", max_error=0.1)


def test_the_calibration_of_an_older_release_is_that_of_its_level():
    config = dr.load_model("relax-qm9-2").config
    assert list(config.calibrations) == [config.level] == ["B3LYP/6-31G(2df,p)"]


def test_a_model_that_generates_relaxes_from_a_noise_level_alone():
    model = dr.load_model("generate-qm9-2")
    with pytest.raises(ValueError, match="generate-qm9-2 generates molecules"):
        dr.relax("CCO", model)
    assert dr.relax("CCO", model, noise_level=0.07).verdict == "relaxed"


REBONDED = (
    "[O-]c1ccc([O-])cc1",
    "[O-]c1c2ccccc2c([O-])c2ccccc12",
    "C1(=C2C=CC=C2)C=CC=C1",
    "C1=NC=CC1=C1C=CC=N1",
    "C1=CC2=CC=CC2=C1",
    "C1=CC=CC(=C2C=CC=CC=C2)C=C1",
    "S=C1C=CC=C1",
    "CN1C=CC(=C2C=CN(C)C=C2)C=C1",
)


@pytest.mark.parametrize("smiles", REBONDED)
def test_double_bonds_that_went_astray_fall_back(smiles):
    """All atoms are of known kinds; the number of electrons decides where double bonds are."""
    result = dr.relax(smiles, load_model(), fast=True)
    assert result.verdict == "fell_back"
    assert re.search(r"GFN2-xTB finds the end \d+\.\d kcal/mol above the start$", result.reason)
    assert np.isnan(result.error_bound)


def test_double_bonds_of_known_molecules_cost_no_second_opinion(monkeypatch):
    monkeypatch.setattr("diffrelax.judgement.rise", lambda *_: {}["asked"])
    for smiles in ("O=C(O)c1ccccc1", "CC(=O)Nc1ccc(O)cc1", "C=CC=CC(=O)OC", "c1ccc2[nH]ccc2c1"):
        assert dr.relax(smiles, load_model(), fast=True).verdict == "relaxed"


@pytest.fixture
def from_aimnet2():
    """A model without training that knows AIMNet2's minima as starts."""
    as_it_is = RelaxationSchedule(bridge=(), polish=())
    config = ModelConfig(
        name="any",
        level="wB97M-D3/def2-TZVPP",
        network=NetworkConfig(
            levels=("wB97M-D3/def2-TZVPP", "r2SCAN-3c"), starts=("mmff94", "aimnet2"), channels=8,
            products=8, sent=8, sent_tensors=8, layers=1,
        ),
        relaxations={"aimnet2": as_it_is},
    )  # fmt: skip
    return Model(config, build_denoiser(config).eval().requires_grad_(False), "0" * 64, 1)


def test_an_embedding_is_taken_to_the_best_start_that_the_model_knows(from_aimnet2):
    result = dr.relax("CCO", from_aimnet2)
    embedded = dr.Molecule.from_smiles("CCO")
    (minimum,) = relax_many([embedded], "aimnet2", fmax=0.01)
    assert result.verdict == "relaxed" and result.n_evaluations == 0
    np.testing.assert_allclose(result.molecule.positions, minimum.positions, atol=1e-4)
    assert result.start.start == result.molecule.start == "aimnet2"
    assert not result.reason
    fast = dr.relax("CCO", from_aimnet2, fast=True)
    assert fast.start.start == "mmff94" and fast.n_evaluations == 5
    bench = dr.relax("CCO", from_aimnet2, noise_level=0.02)
    assert bench.start.start == "mmff94" and bench.noise_level == 0.02


def test_coordinates_that_are_at_no_minimum_are_taken_to_the_best_start(from_aimnet2):
    calibration = Calibration(
        settled=1e-6, near=1e-3, after_schedule=ErrorBound(scale=1.0, exponent=1.0),
        unseen=ErrorBound(scale=1.0, exponent=0.0),
        after_starts={"aimnet2": ErrorBound(scale=1.0, exponent=0.0)},
    )  # fmt: skip
    config = from_aimnet2.config.model_copy(
        update={"calibrations": {from_aimnet2.config.level: calibration}}
    )
    model = replace(from_aimnet2, config=config)
    given = dr.Molecule.from_smiles("CCO")
    given = given.with_positions(1.02 * given.positions)
    result = dr.relax(given, model)
    (minimum,) = relax_many([given], "aimnet2", fmax=0.01)
    np.testing.assert_allclose(result.molecule.positions, minimum.positions, atol=1e-3)
    assert result.start is given and "relaxed with AIMNet2 first" in result.reason


def test_a_molecule_at_the_best_start_is_not_taken_there_again(from_aimnet2, monkeypatch):
    there = dr.relax("CCO", from_aimnet2).start
    monkeypatch.setattr("diffrelax.models.starts.relax_many", None)
    np.testing.assert_allclose(dr.relax(there, from_aimnet2).start.positions, there.positions)


def test_what_the_best_level_does_not_cover_begins_at_the_force_field(from_aimnet2, monkeypatch):
    monkeypatch.setattr("diffrelax.levels.aimnet2.ELEMENTS", (1, 6))
    hexane, ethanol = dr.relax(["CCCCCC", "CCO"], from_aimnet2)
    assert (hexane.start.start, ethanol.start.start) == ("aimnet2", "mmff94")
    assert (hexane.n_evaluations, ethanol.n_evaluations) == (0, 5)


def test_without_the_weights_of_the_best_start_the_next_one_is_taken(from_aimnet2, monkeypatch):
    monkeypatch.setattr("diffrelax.levels.aimnet2.find_spec", lambda package: None)
    with pytest.warns(UserWarning, match="weights of aimnet2 are missing.*start at MMFF94"):
        result = dr.relax("CCO", from_aimnet2)
    assert (result.verdict, result.start.start) == ("relaxed", "mmff94")
