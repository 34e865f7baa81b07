from __future__ import annotations

from dataclasses import fields, replace
from math import inf

import numpy as np
import pytest
from ase.units import Hartree, kB, kcal, mol
from kept import kinds
from odd_work import Deadly
from rdkit.Chem import rdForceFieldHelpers, rdMolTransforms

from diffrelax.dft import relax_dft
from diffrelax.errors import InputError
from diffrelax.geometry import superpose
from diffrelax.levels import get_calculator, relax_at_level
from diffrelax.levels.batch import relax_many
from diffrelax.models.release import load_model
from diffrelax.molecule import Molecule
from diffrelax.molecule.comparison import heavy_atom_rmsd
from diffrelax.molecule.identity import identity_change
from diffrelax.molecule.symmetry import find_symmetry
from diffrelax.relaxation import relax_molecules
from diffrelax.sampling.conformers import (
    Conformer,
    Funnel,
    find_starts,
    merge,
    sample_conformers,
    sort_out,
    steps,
    weigh,
)
from diffrelax.sampling.conformers import funnel as funnel_module
from diffrelax.sampling.conformers.minima import _without_known, choose_level, choose_surface
from diffrelax.sampling.conformers.search import COUNTED, Found
from diffrelax.sampling.conformers.unseen import Unseen
from diffrelax.sampling.ensemble import Ensemble, EnsembleProvenance, LevelSettings
from diffrelax.store import Store
from diffrelax.units import KCAL_PER_MOL

TEMPERATURE = 298.15
MMFF94 = LevelSettings(name="mmff94")
DFT = LevelSettings(name="dft", settings={"xc": "hf", "basis": "sto-3g"})
PROVENANCE = EnsembleProvenance(method="test", seed=0)


def rotamer(molecule: Molecule, torsions: dict[tuple[int, ...], float]) -> Molecule:
    rdkit = molecule.to_rdkit()
    for atoms, degrees in torsions.items():
        rdMolTransforms.SetDihedralDeg(rdkit.GetConformer(), *atoms, degrees)
    turned = molecule.with_positions(rdkit.GetConformer().GetPositions())
    relaxed = relax_at_level(turned, "mmff94", fmax=0.01)
    assert relaxed.converged
    return molecule.with_positions(relaxed.positions)


def mirrored(molecule: Molecule) -> Molecule:
    return molecule.with_positions(molecule.positions * [1, 1, -1])


def test_trans_trans_pentane_counts_a_quarter_of_trans_gauche() -> None:
    pentane = Molecule.from_smiles("CCCCC")
    first, second = (0, 1, 2, 3), (1, 2, 3, 4)
    minima = [
        Conformer("tt", rotamer(pentane, {first: 180, second: 180}), energy=-1.0),
        Conformer("tg", rotamer(pentane, {first: 180, second: 60}), energy=-1.0),
        Conformer("g-t", rotamer(pentane, {first: -60, second: 180}), energy=-1.0),
    ]
    ensemble = weigh(minima, Funnel(MMFF94, Store(None)), PROVENANCE)
    assert ensemble.starts == ("tt", "tg")
    assert ensemble.columns["n_starts"].tolist() == [1, 2]
    assert ensemble.weights == pytest.approx([0.2, 0.8])


@pytest.mark.parametrize("free", [False, True])
def test_gauche_2_hexyne_counts_twice_however_its_methyl_group_stands(free: bool) -> None:
    """As 1-pentyne does: the methyl group on the alkyne turns freely."""
    hexyne = Molecule.from_smiles("CC#CCCC")
    minima = []
    for angle, methyl in ((180, 20), (60, 75)):
        atoms = rotamer(hexyne, {(2, 3, 4, 5): angle}).to_atoms()
        turned = atoms.copy()
        turned.rotate(methyl, atoms.positions[1] - atoms.positions[0], center=atoms.positions[0])
        near = (atoms.numbers == 1) & (atoms.get_all_distances()[0] < 1.2)
        atoms.positions[near] = turned.positions[near]
        one = hexyne.with_positions(atoms.positions)
        within = kB * TEMPERATURE * np.log(find_symmetry(one).number)  # has its part in G
        minima.append(Conformer(str(angle), one, energy=-1.0, free_energy=-1.0 + within))
    level, thermo = (DFT, "gfn2-xtb") if free else (MMFF94, "none")
    funnel = Funnel(level, Store(None), thermo=thermo, temperature=TEMPERATURE)
    ensemble = weigh(minima, funnel, PROVENANCE)
    assert ensemble.columns["mirror_images"].tolist() == [1, 2]
    assert ensemble.weights == pytest.approx([1 / 3, 2 / 3])


def test_what_is_told_of_several_conformers_is_in_the_notes_once() -> None:
    butane = Molecule.from_smiles("CCCC")
    minima = [
        Conformer(str(turn), rotamer(butane, {(0, 1, 2, 3): turn}), energy=-1.0, notes=("beware",))
        for turn in (180, 60)
    ]
    ensemble = weigh(minima, Funnel(MMFF94, Store(None)), PROVENANCE)
    assert ensemble.provenance.notes[-1] == "180, 60: beware"


@pytest.mark.parametrize("temperature", [TEMPERATURE, 600.0])
def test_butane_is_trans_and_twice_gauche(model, temperature: float) -> None:
    ensemble = sample_conformers("CCCC", model, 12, level="mmff94", temperature=temperature)
    assert ensemble.columns["symmetry_number"].tolist() == [2, 2]
    assert ensemble.columns["mirror_images"].tolist() == [1, 2]
    diagnostics = ensemble.provenance.diagnostics
    assert ensemble.columns["n_starts"].sum() == diagnostics["tried"]
    assert diagnostics["new"] < diagnostics["landings"]
    gap = ensemble.energies[1] - ensemble.energies[0]
    assert gap * mol / kcal == pytest.approx(0.78, abs=0.05)  # MMFF94, Halgren 1996, part V
    ratio = ensemble.weights[1] / ensemble.weights[0]
    assert ratio == pytest.approx(2 * np.exp(-gap / (kB * temperature)))


def test_conformers_are_minima_in_order_and_the_molecule_asked_for(model) -> None:
    alcohol = Molecule.from_smiles("C[C@H](O)CC")
    ensemble = sample_conformers(alcohol, model, 16, level="gfn2-xtb")
    assert (np.diff(ensemble.energies) > 0).all()
    assert (ensemble.columns["mirror_images"] == 1).all()  # the mirror image is another molecule
    assert len(ensemble) > 3
    for molecule, energy in zip(ensemble.molecules, ensemble.energies, strict=True):
        assert identity_change(alcohol, molecule.positions) == ""
        again = relax_at_level(molecule, "gfn2-xtb", fmax=0.012)
        assert again.n_calls == 1
        assert again.energy == pytest.approx(energy, abs=1e-5)
    rmsds = [
        heavy_atom_rmsd(a, b, polar_hydrogens=True)
        for i, a in enumerate(ensemble.molecules)
        for b in ensemble.molecules[:i]
    ]
    assert min(rmsds) > 0.1


def test_mirror_images_are_one_conformer_unless_they_are_two_molecules() -> None:
    butane = rotamer(Molecule.from_smiles("CCCC"), {(0, 1, 2, 3): 60})
    twins = [Conformer("g+", butane, 0.0), Conformer("g-", mirrored(butane), 0.0)]
    assert [(one.start, one.n_starts) for one in merge(twins)] == [("g+", 2)]
    chiral = Molecule.from_smiles("C[C@H](F)O")
    pair = [Conformer("r", chiral, 0.0), Conformer("s", mirrored(chiral), 0.0)]
    assert len(merge(pair)) == 2


def test_energy_tells_apart_what_heavy_atoms_do_not() -> None:
    ethanol = Molecule.from_smiles("CCO")
    pair = [Conformer("a", ethanol, 0.0), Conformer("b", ethanol, 0.2 * kcal / mol)]
    assert len(merge(pair)) == 2
    assert len(merge([pair[0], replace(pair[1], energy=0.05 * kcal / mol)])) == 1


def test_the_same_seed_gives_the_same_conformers(model) -> None:
    one, two = (sample_conformers("CCO", model, 12, level="mmff94", seed=7) for _ in range(2))
    assert np.array_equal(one.positions, two.positions)
    assert one.starts == two.starts


def test_workers_give_the_same_conformers(model) -> None:
    one, two = (sample_conformers("CCOC=O", model, workers=workers) for workers in (1, 2))
    assert len(one) > 1
    assert np.array_equal(one.positions, two.positions)
    assert one.energies.tolist() == two.energies.tolist()
    assert one.provenance == two.provenance


def test_a_lost_worker_costs_its_conformer() -> None:
    ethanol = Molecule.from_smiles("CCO")
    deadly = Deadly(**{f.name: getattr(ethanol, f.name) for f in fields(ethanol)})
    starts = [Conformer(n, deadly if n == "dies" else ethanol, 0.0) for n in ("a", "dies", "b")]
    reached, notes = sort_out(starts, Funnel(MMFF94, Store(None)).approach(starts, workers=2))
    assert [one.start for one in reached] == ["a", "b"]
    assert notes == [
        "dies, 0.0 kcal/mol above the lowest, failed: the process that worked on it crashed"
    ]


@pytest.mark.parametrize(
    ("level", "learned"),
    [
        (
            LevelSettings(name="dft", settings={"xc": "b3lyp", "basis": "def2-svp"}),
            "B3LYP/6-31G(2df,p)",
        ),
        (LevelSettings(name="dft", settings={"xc": "pbe", "basis": "def2-svp"}), "r2SCAN-3c"),
        (MMFF94, "r2SCAN-3c"),
    ],
)
def test_the_model_takes_the_nearest_level(
    several, monkeypatch, level: LevelSettings, learned: str
) -> None:
    taken = []

    def relax(molecules, model, level, **more):
        taken.append(level)
        return relax_molecules(molecules, model, level=level, **more)

    for room in ("steps", "minima"):
        monkeypatch.setattr(f"diffrelax.sampling.conformers.{room}.relax_molecules", relax)
    funnel = Funnel(level, Store(None))
    _, method = find_starts(Molecule.from_smiles("CCO"), several, 4, funnel, seed=42)
    assert {*taken} == {method.settings["model_level"]} == {learned}
    assert f"relaxes to minima of {learned}" in method.notes[1]


def test_what_the_model_has_not_learned_at_its_level_is_told() -> None:
    level = LevelSettings(name="dft", settings={"xc": "b3lyp", "basis": "def2-svp"})
    ion = Molecule.from_smiles("C[NH3+]")
    _, method = find_starts(ion, load_model(), 4, Funnel(level, Store(None)), seed=42)
    assert "at B3LYP/def2-SVP the model has learned charge +1 only at other levels" in method.notes


def found_of(conformers, lost=()) -> Found:
    before = {one.start: one.molecule for one in conformers}
    return Found(conformers, before, list(lost), Unseen(0, 0), dict.fromkeys(COUNTED, 0), [])


def test_dft_gets_one_start_for_each_minimum_of_the_surface(model, monkeypatch) -> None:
    butane = Molecule.from_smiles("CCCC")
    turned = []
    for degrees in (50, 65, 80, 165, 180):
        rdkit = butane.to_rdkit()
        rdMolTransforms.SetDihedralDeg(rdkit.GetConformer(), 0, 1, 2, 3, float(degrees))
        turned.append(butane.with_positions(rdkit.GetConformer().GetPositions()))
    atoms = butane.to_atoms()
    atoms.calc = get_calculator("gfn2-xtb", butane)
    found = []
    for i, one in enumerate(turned):
        atoms.positions = one.positions
        found.append(Conformer(f"turned {i}", one, atoms.get_potential_energy()))
    monkeypatch.setattr(
        "diffrelax.sampling.conformers.minima.find_conformers", lambda *_, **__: found_of(found)
    )
    funnel = Funnel(DFT, Store(None), 6.0)
    starts, _ = find_starts(butane, model, 9, funnel, surface="gfn2-xtb", seed=42)
    assert [one.n_starts for one in starts] == [2, 3]  # trans, the lower, and gauche
    assert all(one.molecule.start == "diffusion" for one in starts)


def test_minima_of_aimnet2_are_moved_to_dft_as_relax_moves_them() -> None:
    glycol, model = Molecule.from_smiles("OCCO"), load_model()
    level = LevelSettings(name="dft", settings={"xc": "b3lyp", "basis": "def2-svp"})
    starts, _ = find_starts(glycol, model, 4, Funnel(level, Store(None)), seed=42)
    back = relax_many([one.molecule for one in starts], "aimnet2", fmax=0.002)
    minima = [glycol.with_positions(one.positions, "aimnet2") for one in back]
    for one, moved in zip(starts, relax_molecules(minima, model, level=level.level), strict=True):
        assert superpose(one.molecule.positions, moved.molecule.positions)[1] < 0.01


def test_what_the_surface_makes_more_symmetric_goes_on_as_it_was_too() -> None:
    """Hydrogen peroxide is flat by GFN2-xTB alone, and DFT would not leave that saddle."""
    peroxide = Molecule.from_smiles("OO")
    funnel = Funnel(DFT, Store(None))
    starts, method = find_starts(peroxide, load_model(), 4, funnel, surface="gfn2-xtb", seed=42)
    flat, bent = (abs(one.molecule.to_atoms().get_dihedral(2, 0, 1, 3) - 180) for one in starts)
    assert flat < 5 and bent > 40
    assert "1 became more symmetric, and are also kept as they were" in method.notes[-1]


def test_what_the_surface_makes_another_molecule_is_left_to_dft() -> None:
    """In the gas phase, the proton of glycine goes over."""
    zwitterion = Molecule.from_smiles("[NH3+]CC(=O)[O-]")
    start = Conformer("given", zwitterion, 0.0)
    funnel = Funnel(LevelSettings(name="gfn2-xtb"), Store(None), 6.0)
    _, reason = funnel.approach([start])[0]
    assert "broke" in reason
    neutral = Conformer("etkdg 1", Molecule.from_smiles("NCC(=O)O"), 0.0)
    found = found_of([neutral], [(start, reason)])
    (low, lost), message = _without_known([neutral], found, funnel, 1, False)
    assert (low.start, low.molecule.start, lost) == ("etkdg 1", "gfn2-xtb", start)
    assert message == (
        "of 2 geometries, 1 lead to low, distinct minima of gfn2-xtb, and 1 to none: these "
        "are relaxed at the level itself"
    )


@pytest.mark.parametrize(
    ("smiles", "level", "surface"),
    [
        ("CCO", "aimnet2", "aimnet2"),
        ("C[Se]C", "aimnet2", "aimnet2"),
        ("C[CH2]", "gfn2-xtb", "gfn2-xtb"),  # a radical
        ("[Li]CC", "gfn2-xtb", "gfn2-xtb"),
    ],
)
def test_aimnet2_is_the_default_where_it_covers_a_molecule(smiles, level, surface) -> None:
    molecule = Molecule.from_smiles(smiles)
    assert choose_level("auto", molecule).name == level
    assert choose_surface("auto", DFT, molecule).name == surface


def test_the_surface_of_dft_in_a_solvent_is_gfn2_xtb_in_it() -> None:
    water = LevelSettings(name="dft", settings={**DFT.settings, "solvent": "water"})
    surface = choose_surface("auto", water, Molecule.from_smiles("CCO"))
    assert str(surface).startswith("gfn2-xtb (solvation=")
    with pytest.raises(ValueError, match="'dft' is not a cheap level"):
        choose_surface("dft", DFT, Molecule.from_smiles("CCO"))


def test_a_rigid_molecule_has_one_conformer(model, tmp_path) -> None:
    n, seed = np.int64(8), np.int64(42)
    ensemble = sample_conformers(
        "C1CC1", model, n, level="mmff94", seed=seed, checkpoint=str(tmp_path / "some.units")
    )
    assert len(ensemble) == 1
    assert ensemble.weights.tolist() == [1.0]
    assert ensemble.provenance.notes[0].endswith("and 1 were relaxed, to 1 distinct ones")
    assert ensemble.provenance.notes[-1].startswith(
        "found 1 within 6 kcal/mol of the lowest, of an estimated 1 (95%)"
    )


def test_hexane_has_its_dozen_conformers_within_the_window(model) -> None:
    ensemble = sample_conformers("CCCCCC", model, level="gfn2-xtb", window=8)
    assert len(ensemble) >= 12  # of 27 wells, where mirror images and both directions are one
    above = (ensemble.energies - ensemble.energies[0]) * mol / kcal
    assert above.max() <= 8


def test_a_well_that_is_there_with_charges_alone_is_found(model) -> None:
    ensemble = sample_conformers("N=CC(O)C#N", model, level="gfn2-xtb")
    assert len(ensemble) == 4


def test_a_salt_bridge_is_not_high_though_it_is_so_without_charges() -> None:
    ion = "[NH3+]CCCC(=O)[O-]"
    lowest = inf
    for seed in range(8):
        mol = Molecule.from_smiles(ion, seed=seed).to_rdkit()
        field = rdForceFieldHelpers.MMFFGetMoleculeForceField(
            mol, rdForceFieldHelpers.MMFFGetMoleculeProperties(mol)
        )
        field.Minimize(maxIts=5000)
        lowest = min(lowest, field.CalcEnergy())
    found = sample_conformers(ion, load_model(), level="mmff94", window=4)
    assert found.energies[0] / KCAL_PER_MOL < lowest + 0.01


def test_how_a_trifluoromethyl_group_stands_makes_no_conformers() -> None:
    """On benzene it turns freely, and each of its angles would be another minimum."""
    found = sample_conformers("FC(F)(F)c1ccccc1", load_model("relax-qm9-2"), level="gfn2-xtb")
    assert len(found) == 1
    assert found.columns["symmetry_number"].tolist() == [2]
    assert found.columns["mirror_images"].tolist() == [1]


def test_that_a_rotor_along_a_chain_turns_freely_is_told(model) -> None:
    found = sample_conformers("OCC#CCO", model, 9, level="mmff94", window=0.1)
    notes = found.provenance.notes
    assert any("C2 and C5 rotate almost freely about the chain between" in one for one in notes)


def test_what_is_above_the_window_is_left_out_and_counted(model) -> None:
    whole, part = (
        sample_conformers("CCCC", model, level="mmff94", window=window) for window in (6, 0.5)
    )
    assert (len(whole), len(part)) == (2, 1)
    left_out = "1 minima are more than 0.5 kcal/mol above the lowest and were left out"
    assert left_out in part.provenance.notes
    assert part.weights.tolist() == [1.0]
    lower = sample_conformers("CCCC", model, level="mmff94", window=0.1)
    assert len(lower) == 1


@pytest.mark.parametrize("inside", [False, True])
def test_a_conformer_that_fails_costs_only_itself(model, monkeypatch, inside) -> None:
    relax, calls = relax_at_level, []

    def fail_once(molecule, level, **settings):
        calls.append(level)
        relaxed = relax(molecule, level, **settings)
        if len(calls) > 1:
            return relaxed
        if inside:
            raise InputError("the SCF fell over")
        return replace(relaxed, reason="the SCF fell over")

    monkeypatch.setattr(funnel_module, "relax_at_level", fail_once)
    ensemble = sample_conformers("CCCC", model, 8, level="mmff94")
    assert len(ensemble) == 1
    lost = "1 reached no minimum of mmff94, such as etkdg 0: the SCF fell over"
    assert lost in ensemble.provenance.notes


def test_a_program_that_failed_is_tried_again_from_its_folder(model, monkeypatch, tmp_path) -> None:
    def fail(molecule, level, **settings):
        return replace(
            relax_at_level(molecule, level, **settings), energy=float("nan"), reason="killed"
        )

    call = {"level": "mmff94", "checkpoint": tmp_path / "some.units"}
    with monkeypatch.context() as patch:
        patch.setattr(funnel_module, "relax_at_level", fail)
        with pytest.raises(RuntimeError, match="killed"):
            sample_conformers("CO", model, 2, **call)
    assert len(sample_conformers("CO", model, 2, **call)) == 1


def test_conformers_of_an_allene_keep_its_configuration(model) -> None:
    molecule = Molecule.from_smiles("CC=C=CC")
    ensemble = sample_conformers(molecule, model, 8, level="gfn2-xtb")
    assert len(ensemble) == 1
    assert identity_change(molecule, ensemble.positions[0]) == ""
    with pytest.raises(RuntimeError, match="became parallel"):
        sample_conformers(molecule, model, 8, level="mmff94")


def test_no_minimum_at_all_is_an_error(model, monkeypatch) -> None:
    def fail(molecule, level, **settings):
        return replace(relax_at_level(molecule, level, **settings), reason="the SCF fell over")

    monkeypatch.setattr(funnel_module, "relax_at_level", fail)
    with pytest.raises(RuntimeError, match="CO: no start reaches a minimum at level mmff94"):
        sample_conformers("CO", model, 2, level="mmff94")


def test_a_search_goes_on_from_its_folder(model, monkeypatch, tmp_path) -> None:
    relax, calls = relax_at_level, []

    def interrupted(molecule, level, **settings):
        calls.append(level)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return relax(molecule, level, **settings)

    monkeypatch.setattr(funnel_module, "relax_at_level", interrupted)
    call = {"level": "mmff94", "checkpoint": tmp_path / "some.units"}
    with pytest.raises(KeyboardInterrupt):
        sample_conformers("CCCC", model, 8, **call)
    ensemble = sample_conformers("CCCC", model, 8, **call)
    n_calls = len(calls)
    fresh = sample_conformers("CCCC", model, 8, level="mmff94")
    assert n_calls - 1 == len(calls) - n_calls  # what was done was not done again
    assert np.array_equal(ensemble.positions, fresh.positions)
    assert np.array_equal(ensemble.weights, fresh.weights)


def test_a_search_goes_on_from_its_last_step(model, monkeypatch, tmp_path) -> None:
    embed, calls, ends_at = steps.embed_again, [], [20]

    def counted(molecule, seed, method):
        calls.append(seed)
        if len(calls) == ends_at[0]:
            raise KeyboardInterrupt
        return embed(molecule, seed, method)

    monkeypatch.setattr(steps, "embed_again", counted)
    path = tmp_path / "some.units"
    with pytest.raises(KeyboardInterrupt):
        sample_conformers("CCCO", model, level="mmff94", checkpoint=path)
    found = sample_conformers("CCCO", model, level="mmff94", checkpoint=path)
    asked = len(calls) - 1
    assert calls[19] == calls[20] and len({*calls}) == asked
    assert kinds(path).keys() == {"unit"}  # the steps of a finished search are dropped
    ends_at[0] = 0
    fresh = sample_conformers("CCCO", model, level="mmff94")
    assert np.array_equal(found.positions, fresh.positions)
    assert found.provenance == fresh.provenance
    assert len(calls) - 1 - asked == asked


def test_a_search_that_is_finished_is_not_made_again(model, monkeypatch, tmp_path) -> None:
    """Or rounding on another processor would let relaxations begin from other geometries."""
    checkpoint = tmp_path / "some.units"
    first = sample_conformers(
        Molecule.from_smiles("CCCC", name="a"), model, 8, level="mmff94", checkpoint=checkpoint
    )
    monkeypatch.setattr("diffrelax.sampling.conformers.minima.find_conformers", None)
    again = sample_conformers(
        Molecule.from_smiles("CCCC", name="b"), model, 8, level="mmff94", checkpoint=checkpoint
    )
    assert np.array_equal(first.positions, again.positions)
    assert first.provenance == again.provenance
    assert (first.molecule.name, again.molecule.name) == ("a", "b")


def test_dft_conformers_have_the_settings_of_their_level(model) -> None:
    ensemble = sample_conformers("CO", model, 1, level=DFT)
    assert str(ensemble.level) == "dft (xc=hf basis=sto-3g)"
    assert ensemble.energies[0] == pytest.approx(-113.549 * Hartree, rel=1e-5)


@pytest.mark.slow
def test_free_energies_weigh_conformers_of_dft(model, monkeypatch) -> None:
    relax, done = funnel_module.relax_with, []

    def watched(molecule, settings, **more):
        done.append(relax(molecule, settings, **more))
        return done[-1]

    monkeypatch.setattr(funnel_module, "relax_with", watched)
    ensemble = sample_conformers("CCO", model, level=DFT, thermo="gfn2-xtb", temperature=400)
    images, gas = (
        ensemble.columns[name] for name in ("mirror_images", "gibbs_energy_quasi_harmonic_ev")
    )
    assert sorted(images) == [1, 2]  # trans and gauche
    ratio = images[1] / images[0] * np.exp(-(gas[1] - gas[0]) / (kB * 400))
    assert ensemble.weights[1] / ensemble.weights[0] == pytest.approx(ratio)
    again = relax_dft(
        ensemble.molecules[1], **DFT.settings, fmax=0.01, thermo="gfn2-xtb", temperature=400
    )
    assert again.thermochemistry.gibbs_energy_quasi_harmonic == pytest.approx(gas[1], abs=2e-3)
    near = [one for one in done if one.settings.one_call]
    assert near and all(one.settings.thermo == "gfn2-xtb" for one in done if one not in near)


def test_a_free_energy_at_another_temperature_repeats_no_call(tmp_path, monkeypatch) -> None:
    relax, done = funnel_module.relax_with, []

    def watched(molecule, settings, *, store):
        calls = []
        relaxed = relax(molecule, settings, store=store, callback=lambda *call: calls.append(call))
        done.append((len(calls), relaxed.notes))
        return relaxed

    monkeypatch.setattr(funnel_module, "relax_with", watched)
    water, folder = Conformer("own", Molecule.from_smiles("O")), Store.in_folder(tmp_path)
    ((plain, _),) = Funnel(DFT, folder).finish([water])
    ((cold, _),) = Funnel(DFT, folder, thermo="gfn2-xtb", temperature=200).finish([water])
    ((hot, _),) = Funnel(DFT, folder, thermo="gfn2-xtb", temperature=400.0).finish([water])
    assert [calls > 0 for calls, _ in done] == [True, False, False]
    assert plain.free_energy is None and plain.energy == cold.energy == hot.energy
    assert hot.free_energy < cold.free_energy


@pytest.mark.slow
def test_what_is_told_of_an_end_or_lost_is_in_the_notes(model, monkeypatch) -> None:
    relax = funnel_module.relax_with

    def told(molecule, settings, *, store):
        relaxed = relax(molecule, settings, store=store)
        if settings.thermo != "none":
            kept.append(relaxed)
        reason = "no free energy" if len(kept) == 1 else ""
        return replace(relaxed, reason=reason, notes=("a coarse grid",))

    kept = []
    monkeypatch.setattr(funnel_module, "relax_with", told)
    ensemble = sample_conformers("CCO", model, level=DFT, thermo="gfn2-xtb")
    assert len(ensemble) == 1
    notes = ensemble.provenance.notes
    assert any(note.endswith("above the lowest, failed: no free energy") for note in notes)
    assert f"{ensemble.starts[0]}: a coarse grid" in notes


@pytest.mark.slow
def test_of_what_dft_has_seen_once_it_relaxes_only_what_is_low(model, monkeypatch) -> None:
    relax, asked = funnel_module.relax_with, []

    def watched(molecule, settings, **more):
        asked.append(settings.one_call)
        return relax(molecule, settings, **more)

    monkeypatch.setattr(funnel_module, "relax_with", watched)
    ensemble = sample_conformers("OCCF", model, level=DFT, window=0.01)
    assert len(ensemble) == 1
    assert asked.count(True) > asked.count(False) == 1


@pytest.mark.parametrize("suffix", [".sdf", ".extxyz", ".h5"])
def test_conformers_survive_their_file(model, tmp_path, suffix) -> None:
    before = sample_conformers("CCO", model, 8, level="mmff94")
    before.write(tmp_path / f"ensemble{suffix}")
    after = Ensemble.read(tmp_path / f"ensemble{suffix}")
    assert np.array_equal(after.weights, before.weights)
    assert np.allclose(after.positions, before.positions, atol=1e-4)
    assert after.provenance == before.provenance
    assert after.starts == before.starts
    assert all(np.array_equal(after.columns[k], before.columns[k]) for k in before.columns)


@pytest.mark.parametrize(
    ("smiles", "changes", "message"),
    [
        ("CCO", {"temperature": 0.0}, "temperature 0.0 K: give a positive"),
        ("CCO", {"temperature": -5.0}, "temperature -5.0 K"),
        ("CCO", {"n": 0}, "n = 0: give 1"),
        ("CCO", {"window": 0.0}, "window 0.0 kcal/mol: give a positive number"),
        ("CCO", {"seed": -1}, "seed"),
        ("CCO", {"thermo": "dft"}, "level mmff94 has no free energies: use dft"),
        ("CCO", {"level": "dft", "thermo": "gfn2"}, "level dft .*: thermo: .*'gfn2-xtb' or 'dft'"),
        ("CCO", {"level": "am1"}, "unknown level of theory 'am1': choose one of"),
        ("CC[NH3+]", {}, r"CC\[NH3\+\]: charge \+1"),
        ("CCS", {}, "CCS: the model was not trained on S"),
        ("O.O", {}, "2 fragments"),
        ("CC(O", {}, "is not a SMILES"),
        (["CCO", "CCN"], {}, "has 2 molecules: give one"),
    ],
)
def test_bad_input_is_refused(model, smiles, changes, message) -> None:
    with pytest.raises(ValueError, match=message):
        sample_conformers(smiles, model, **{"n": 2, "level": "mmff94"} | changes)


def test_a_level_that_is_not_installed_says_what_to_install(model, monkeypatch) -> None:
    monkeypatch.setattr("diffrelax.levels.aimnet2.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="weights of aimnet2 are missing"):
        sample_conformers("CCO", model, level="aimnet2")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ValueError, match="gfn-ff needs the program xtb"):
        sample_conformers("CCO", model, level="gfn-ff")
