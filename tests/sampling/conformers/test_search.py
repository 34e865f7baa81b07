from __future__ import annotations

from math import inf

import numpy as np
import pytest
from tqdm import tqdm

from diffrelax.models.release import Model
from diffrelax.molecule import Molecule
from diffrelax.molecule.reembedding import embed_again
from diffrelax.molecule.torsions import Rotors, torsion_angles
from diffrelax.sampling.conformers import (
    Conformer,
    Funnel,
    find_conformers,
    merge,
    sort_out,
)
from diffrelax.sampling.conformers.search import PROBE, Found, _Search
from diffrelax.sampling.conformers.steps import Steps
from diffrelax.sampling.conformers.wells import other_wells, telling_torsions
from diffrelax.sampling.ensemble import LevelSettings
from diffrelax.store import Store
from diffrelax.units import KCAL_PER_MOL

MMFF94, GFN2 = LevelSettings(name="mmff94"), LevelSettings(name="gfn2-xtb")
MODEL_LEVEL = "B3LYP/6-31G(2df,p)"


def search_of(molecule: Molecule, model: Model, n: int, window: float = 1.0) -> _Search:
    surface = Funnel(MMFF94, Store(None), window)
    steps = Steps(molecule, model, MODEL_LEVEL, MMFF94, surface.store, "step")
    return _Search(steps, n, surface, 42, 1, tqdm(disable=True))


def find(
    molecule: Molecule,
    model: Model,
    n: int,
    level: LevelSettings = MMFF94,
    window: float = 10,
    seed: int = 42,
) -> Found:
    surface = Funnel(level, Store(None), window)
    return find_conformers(molecule, model, n, surface=surface, model_level=MODEL_LEVEL, seed=seed)


@pytest.mark.parametrize(
    ("smiles", "turns"),
    [
        ("CC", {}),
        ("CCCC", {(1, 2): [120, 240]}),
        ("CC(C)(C)CC", {(1, 4): []}),  # tert-butyl
        ("CCO", {(1, 2): [120, 240]}),
        ("CC(=O)O", {(1, 3): [180]}),
        ("CC(=O)NC", {(1, 3): [180]}),
        ("CCC=C", {(1, 2): [60, 120, 180, 240, 300]}),
        ("CCc1ccccc1", {(1, 2): [60, 120]}),  # a half turn of phenyl changes nothing
        ("CCC#CCC", {}),
    ],
)
def test_wells_are_those_of_the_chemistry(smiles: str, turns: dict) -> None:
    molecule = Molecule.from_smiles(smiles)
    rotors = Rotors.of(molecule)
    found = {
        (int(j), int(k)): np.degrees(angles).round().astype(int).tolist()
        for (j, k), angles in zip(rotors.bonds, other_wells(molecule, rotors), strict=True)
    }
    assert {bond: found[bond] for bond in turns} == turns
    methyls = [angles for bond, angles in found.items() if bond not in turns]
    if smiles != "CCC#CCC":  # whose linear chain has no wells of its own, but is asked
        assert not any(methyls)


@pytest.mark.parametrize(
    ("smiles", "ring", "handed"),
    [
        ("CCCC", [], []),
        ("CNCC", [], [1]),
        ("CC(C)CO", [], [1]),
        ("CC(=O)NCC", [], []),  # N is planar
        ("NC1CCC1", [(1, 2), (1, 4), (2, 3), (3, 4)], [0, 1]),
    ],
)
def test_rings_and_pyramids_tell_wells_apart(smiles: str, ring: list, handed: list) -> None:
    molecule = Molecule.from_smiles(smiles)
    rotors = Rotors.of(molecule)
    wells = other_wells(molecule, rotors)
    turned = sum(len(turns) > 0 for turns in wells)
    found = telling_torsions(molecule, rotors, wells)[turned:]
    assert [tuple(quad[1:3]) for quad in found[: len(ring)].tolist()] == ring
    assert found[len(ring) :, 1].tolist() == handed


@pytest.mark.parametrize("smiles", ["OCC1CCCCC1", "C1CCCCC1CO", "CNCCO"])
def test_rotamers_of_one_ring_or_amine_are_not_those_of_another(model, smiles: str) -> None:
    molecule = Molecule.from_smiles(smiles)
    starts = [Conformer(f"etkdg {i}", embed_again(molecule, 42 + i)) for i in range(4)]

    funnel = Funnel(MMFF94, Store(None))

    def turned_from(starts: list[Conformer]) -> list[Conformer]:
        search = search_of(molecule, model, 200, 8)
        for start in starts:
            search.settle([start])
            while turned := search.turn():
                search.settle(turned)
        minima, _ = sort_out(search.found, funnel.finish(search.found))
        return merge(minima)

    apart = merge(one for start in starts for one in turned_from([start]))
    assert len(turned_from(starts)) == len(apart)


def test_embeddings_go_on_until_one_is_low(model, monkeypatch) -> None:
    search = search_of(Molecule.from_smiles("CCO"), model, 9)
    embed, asked = search.embed, []
    monkeypatch.setattr(search, "embed", lambda n: asked.append(n) or embed(n) * (len(asked) > 2))
    assert search.probe() and len(asked) == 3


@pytest.mark.parametrize(("n", "embedded"), [(100, 50), (122, PROBE)])
def test_half_are_embeddings_where_wells_combine_to_too_many(model, n: int, embedded: int) -> None:
    search = search_of(Molecule.from_smiles("CCOCCOCC"), model, n)
    assert search.n_combined == 243
    search.probe()
    assert search.n_embedded == embedded


def test_each_combination_of_wells_is_reached_from_one_embedding(model, monkeypatch) -> None:
    monkeypatch.setattr("diffrelax.sampling.conformers.search.PROBE", 1)
    ether = Molecule.from_smiles("CCOCCC")
    found = find(ether, model, 200)
    chain = np.array([[0, 1, 2, 3], [1, 2, 3, 4], [2, 3, 4, 5]])
    angles = torsion_angles(np.array([one.molecule.positions for one in found.conformers]), chain)
    wells = np.where(abs(angles) > 2 * np.pi / 3, 0, np.sign(angles)).astype(int)
    seen = {tuple(sign * well) for well in wells.T for sign in (1, -1)}
    clash = {(x, s, -s) for x in (-1, 0, 1) for s in (-1, 1)} | {
        (s, -s, x) for x in (-1, 0, 1) for s in (-1, 1)
    }  # gauche turns of opposite sense, the ends of the chain in one place
    assert len(seen - clash) == 27 - len(clash)
    assert {"etkdg", "turned"} <= {one.start.split()[0] for one in found.conformers}


def test_all_that_was_tried_is_accounted_for(model) -> None:
    found = find(Molecule.from_smiles("CCOCCCOC=O"), model, 20, GFN2, 6)
    assert found.counts["relaxed"] == 20
    assert not found.unseen.is_small(len(found.conformers))
    assert len(merge(found.conformers)) == len(found.conformers) <= 20
    energies = [one.energy for one in found.conformers]
    assert energies == sorted(energies)
    assert len({one.start for one in found.conformers}) == len(found.conformers)


def test_conformers_that_crystals_lack_are_started_from(model) -> None:
    imidate = Molecule.from_smiles("[H]/N=C/OC(C)(C)CO")
    found = find(imidate, model, 100, GFN2, 6)
    torsions = [
        np.degrees(torsion_angles(one.molecule.positions, np.array([[2, 3, 4, 7]])))[0]
        for one in found.conformers
    ]  # about O–C, ETKDGv3 knows gauche only
    assert min(map(abs, torsions)) < 90 < 150 < max(map(abs, torsions))


def test_the_geometry_that_is_given_is_the_first_start(model) -> None:
    given = Molecule.from_atoms(Molecule.from_smiles("CCCO").to_atoms())
    found = find(given, model, 1, GFN2, 6)
    assert found.conformers[0].start == "given"
    relaxed = given.with_positions(given.positions, start="diffusion")
    found = find(relaxed, model, 1, GFN2, 6)
    assert found.conformers[0].start == "given"
    with pytest.raises(ValueError, match=r"seed 2147483000 with n = 1000: use a smaller one"):
        find(given, model, 1000, GFN2, 1, seed=2147483000)


def test_fresh_embeddings_find_the_rings_that_no_turn_does(model) -> None:
    cyclohexane = Molecule.from_smiles("C1CCCCC1")
    found = find(cyclohexane, model, 20, GFN2, 8)
    gap = (found.conformers[1].energy - found.conformers[0].energy) / KCAL_PER_MOL
    assert len(found.conformers) == 2  # chair and twist-boat
    assert 4 < gap < 8


@pytest.mark.parametrize("smiles", ["CNCC", "CC(C)CO"])
def test_a_turn_the_other_way_is_no_mirror_image_where_atoms_are_pyramids(
    model, monkeypatch, smiles: str
) -> None:
    """One end of the bond keeps its handedness, be the molecule chiral or not."""
    monkeypatch.setattr("diffrelax.sampling.conformers.search.PROBE", 1)
    molecule = Molecule.from_smiles(smiles, seed=2)
    found = find(molecule, model, 50)
    assert len(found.conformers) == {"CNCC": 3, "CC(C)CO": 5}[smiles]


def test_what_is_new_beyond_n_is_not_called_known_and_leaves_the_search_open(model) -> None:
    found = find(Molecule.from_smiles("CCOCCC"), model, 3)
    assert found.counts["relaxed"] == 3
    assert found.counts["beyond_n"] > 0
    assert found.notes[-1] == "the search ended at n = 3: increase n to find more"
    assert not any(
        "increase n" in note for note in find(found.conformers[0].molecule, model, 500).notes
    )


def test_a_probe_with_nothing_low_says_nothing_of_what_is_unseen(model, monkeypatch) -> None:
    search = search_of(Molecule.from_smiles("CCO"), model, 9)
    monkeypatch.setattr(search, "embed", lambda _: [])
    assert not search.probe()
    assert search.unseen().most(0) == inf


def test_a_given_geometry_that_no_force_field_ranks_does_not_let_high_ones_pass(model) -> None:
    given = Molecule.from_atoms(Molecule.from_smiles("CCO").to_atoms())
    search = search_of(given, model, 9)
    stretched = Conformer("stretched", given.with_positions(given.positions * 1.15))
    search.settle(search.embed(PROBE))
    relaxed = search.counts["relaxed"]
    search.settle([stretched])
    assert (search.counts["high"], search.counts["relaxed"]) == (1, relaxed)


def test_a_geometry_without_a_finite_energy_ends_no_search(model, monkeypatch) -> None:
    search = search_of(Molecule.from_smiles("CCO"), model, 9)
    monkeypatch.setattr(search.steps._atoms, "get_potential_energy", lambda: float("nan"))
    search.settle(search.embed(1))
    assert not search.found
    assert search.notes == ["etkdg 0: no energy: the energy is not finite"]


@pytest.mark.parametrize(
    ("smiles", "same"),
    [
        ("COCCO", True),
        ("CC[C@@H](C)O", False),
        ("C[C@H](O)[C@@H](C)O", False),  # meso: its atoms change their configurations
        ("CCC=C=CCC", False),
    ],
)
def test_mirror_images_are_one_well_if_each_atom_is_as_before(model, smiles: str, same) -> None:
    molecule = Molecule.from_smiles(smiles)
    search = search_of(molecule, model, 9)
    turned = search.rotors.turn(molecule.positions[None], np.array([0]), np.array([0.9]))[0]
    assert search.visit(turned)
    assert not search.visit(turned)
    assert search.visit(turned * [-1, 1, 1]) is not same


def test_a_well_that_the_force_field_does_not_have_is_tried(model) -> None:
    """Without charges, MMFF94 turns one C–O bond of this dimethoxymethane to trans."""
    acetal = Molecule.from_smiles("COCOC")
    found = find(acetal, model, 99, GFN2, 6)
    chain = np.array([[0, 1, 2, 3], [1, 2, 3, 4]])
    pairs = [torsion_angles(one.molecule.positions, chain) for one in found.conformers]
    assert any(a * b < 0 and max(abs(a), abs(b)) < 2 for a, b in pairs)


def test_atoms_that_a_turn_brings_to_one_place_cost_only_that_turn(model, monkeypatch) -> None:
    search = search_of(Molecule.from_smiles("CCO"), model, 9)
    search.settle(search.embed(1))
    monkeypatch.setattr(
        search.force_field, "minimise_held", lambda positions, *_: np.zeros_like(positions)
    )
    assert search.turn() == []
    assert all("coincide" in note for note in search.notes) and search.notes


def test_an_error_inside_a_force_field_costs_only_that_turn(model, monkeypatch) -> None:
    search = search_of(Molecule.from_smiles("CCCO"), model, 9)
    search.settle(search.embed(1))
    minimise, calls = search.force_field.minimise_held, []

    def fails_at_first(*given: object) -> np.ndarray:
        calls.append(given)
        if len(calls) == 1:
            raise RuntimeError("bad direction in linearSearch")
        return minimise(*given)

    monkeypatch.setattr(search.force_field, "minimise_held", fails_at_first)
    assert search.turn()
    assert search.notes == ["turned from etkdg 0: RuntimeError: bad direction in linearSearch"]
