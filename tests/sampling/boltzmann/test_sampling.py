from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from diffrelax import Ensemble, sample_boltzmann
from diffrelax.levels import Surface, get_calculator
from diffrelax.molecule import Molecule
from diffrelax.sampling.boltzmann import moves, reweight, sampling
from diffrelax.sampling.boltzmann.chains import Chains
from diffrelax.sampling.boltzmann.mixtures import keep
from diffrelax.sampling.boltzmann.remembered import ENERGY, surface_at
from diffrelax.sampling.ensemble import LevelSettings
from diffrelax.store import Store


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """Few steps: what is tested here does not depend on their number."""
    for name, steps in {"TUNING": 6, "REFINING": 1, "WALK": 3, "WALK_TUNING": 2}.items():
        monkeypatch.setattr(moves, name, steps)
    monkeypatch.setattr(sampling, "THIN", 2)


@pytest.fixture
def samples():
    return sample_boltzmann("CCO", 15, n_chains=3)


def test_samples_have_their_energies_chains_and_equal_weights(samples):
    calculator = get_calculator("mmff94", samples.molecule)
    for atoms, energy in zip(samples.atoms, samples.energies, strict=True):
        atoms.calc = calculator
        assert atoms.get_potential_energy() == pytest.approx(energy)
    assert samples.columns["chain"].tolist() == [0, 1, 2] * 5
    assert samples.columns["draw"].tolist() == np.repeat(range(5), 3).tolist()
    assert samples.starts[:3] == ("chain 0", "chain 1", "chain 2")
    np.testing.assert_allclose(samples.weights, 1 / 15)
    assert (samples.temperature, samples.level.name) == (300.0, "mmff94")


def test_the_provenance_says_what_was_done_and_what_it_cost(samples):
    provenance = samples.provenance
    assert set(provenance.settings["kernels"]) == {"surrogate walk", "shaped step", "torsion jump"}
    known = provenance.diagnostics
    assert known["changed"] == 0
    names = {"energy", "cos H4–C1–C2–O3", "sin H4–C1–C2–O3", "cos C1–C2–O3–H9", "sin C1–C2–O3–H9"}
    for key in ("rhat", "ess", "autocorrelation"):
        assert set(known[key]) == names
    for name in names:  # in steps, of which there are two from draw to draw
        assert known["autocorrelation"][name] == pytest.approx(2 * 15 / known["ess"][name])
    assert all(0 <= share <= 1 for share in known["acceptance"].values())
    assert known["energy_calls"] == 3 * (1 + 9 + 5 * 2)
    assert known["tuning"]["energy_calls"] == 3 * (1 + 9)


@pytest.mark.parametrize("smiles", ["C[NH3+]", "CS"])
def test_the_level_alone_limits_what_is_sampled(smiles):
    assert len(sample_boltzmann(smiles, n=8, n_chains=2)) == 8


def test_few_samples_are_not_called_converged(samples):
    assert samples.provenance.diagnostics["converged"] is False
    assert "effective sample size" in samples.provenance.diagnostics["doubts"]


def test_the_same_seed_gives_the_same_samples(samples):
    n, n_chains, seed = map(np.int64, (15, 3, 42))
    again = sample_boltzmann("CCO", n, n_chains=n_chains, seed=seed)
    np.testing.assert_array_equal(again.positions, samples.positions)
    other = sample_boltzmann("CCO", 15, n_chains=3, seed=1)
    assert not np.allclose(other.positions, samples.positions)


def test_samples_come_back_from_a_file(samples, tmp_path):
    samples.write(tmp_path / "samples.h5")
    back = Ensemble.read(tmp_path / "samples.h5")
    np.testing.assert_array_equal(back.positions, samples.positions)
    assert back.provenance == samples.provenance


def test_stereochemistry_that_was_left_open_is_told():
    (told, *_) = sample_boltzmann("FC=CF", 8, n_chains=2).provenance.notes
    assert told.startswith("stereochemistry not specified: chosen as F/C=C")


def test_a_molecule_without_a_bond_to_turn_is_sampled_and_says_so():
    found = sample_boltzmann("C=O", 8, n_chains=2)
    assert set(found.provenance.settings["kernels"]) == {"surrogate walk", "shaped step"}
    assert any(note.startswith("no rotatable bond") for note in found.provenance.notes)


def test_an_interrupt_keeps_what_has_been_drawn(monkeypatch):
    energies = Surface.energies

    def interrupted(self, positions):
        if self.n_calls >= 2 * (1 + 9 + 7 * 2 + 1):
            raise KeyboardInterrupt
        return energies(self, positions)

    monkeypatch.setattr(Surface, "energies", interrupted)
    found = sample_boltzmann("CO", 40, n_chains=2)
    assert len(found) == 14
    assert found.provenance.diagnostics["interrupted"]
    assert "interrupted: 7 of 20 samples of each chain were drawn" in found.provenance.notes


def test_an_interrupt_after_a_draw_or_two_keeps_them(monkeypatch):
    energies = Surface.energies

    def interrupted(self, positions):
        if self.n_calls >= limit:
            raise KeyboardInterrupt
        return energies(self, positions)

    monkeypatch.setattr(Surface, "energies", interrupted)
    limit = 2 * (1 + 9 + 2 * 2 + 1)
    found = sample_boltzmann("CO", 40, n_chains=2)
    known = found.provenance.diagnostics
    assert (len(found), known["converged"], known["ess"]["energy"]) == (4, False, None)
    assert known["doubts"] == "2 draws of each chain are too few to judge convergence"


def test_an_interrupt_before_the_first_draw_is_an_interrupt():
    def states():
        yield Chains(np.zeros((1, 1, 3)), np.zeros(1))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        keep(states(), 2)
    assert len(keep(states(), 1)) == 1


def test_energies_that_a_level_could_not_tell_are_told_and_asked_for_again(monkeypatch, tmp_path):
    energies, asked = Surface._energy, []

    def fail(self, geometry):
        asked.append(1)
        return np.inf if broken and len(asked) % 4 == 0 else energies(self, geometry)

    monkeypatch.setattr(Surface, "_energy", fail)
    call = {"n": 8, "n_chains": 2, "level": "gfn2-xtb", "checkpoint": tmp_path / "some.units"}
    broken = True
    first = sample_boltzmann("CO", **call).provenance
    lost = first.diagnostics["failed_energy_calls"]
    assert lost == len(asked) // 4 > 0
    (note,) = (note for note in first.notes if "no energy" in note)
    share = f"{lost / first.diagnostics['energy_calls']:.0%}"
    assert note.startswith(f"level gfn2-xtb had no energy for {share} of the proposed geometries")
    broken = False
    asked.clear()
    again = sample_boltzmann("CO", **call).provenance
    assert len(asked) >= 1 and again.diagnostics["failed_energy_calls"] == 0
    assert not any("no energy" in note for note in again.notes)


def test_each_energy_is_kept_as_it_comes_and_found_but_for_rounding(monkeypatch, tmp_path):
    molecule = Molecule.from_smiles("CCO")
    rng = np.random.default_rng(0)
    positions = molecule.positions + 0.01 * rng.normal(size=(5, *molecule.positions.shape))
    energies, asked = Surface._energy, []

    def interrupted(self, geometry):
        asked.append(1)
        if len(asked) == 4:
            raise KeyboardInterrupt
        return energies(self, geometry)

    monkeypatch.setattr(Surface, "_energy", interrupted)
    level, path = LevelSettings(name="gfn2-xtb"), tmp_path / "some.units"
    with pytest.raises(KeyboardInterrupt), surface_at(molecule, level, path) as surface:
        surface.energies(positions)
    with surface_at(molecule, level, path) as surface:
        again = surface.energies(positions + 1e-12)
    assert len(asked) == 4 + 2
    whole = Surface(molecule, "gfn2-xtb").energies(positions)
    np.testing.assert_allclose(again, whole, rtol=0, atol=1e-8)


def test_a_kill_loses_the_energies_of_a_second_at_most(monkeypatch, tmp_path):
    now, methanol = [0.0], Molecule.from_smiles("CO")
    monkeypatch.setattr("diffrelax.store.monotonic", lambda: now[0])
    path = tmp_path / "some.units"
    with surface_at(methanol, LevelSettings(name="mmff94"), path) as surface:
        for i in range(5):
            surface.energies(methanol.positions[None] + 0.01 * i)
            now[0] += 0.4
        assert sum(1 for _ in Store(path).each(ENERGY)) == 4


def test_a_whole_temperature_is_the_same_as_a_decimal_one(tmp_path):
    call = {"n": 8, "n_chains": 2, "checkpoint": tmp_path / "some.units"}
    first, second = (sample_boltzmann("CO", temperature=t, **call) for t in (300.0, 300))
    np.testing.assert_array_equal(first.positions, second.positions)


def test_reweighting_goes_to_the_other_level_and_tells_what_is_left(samples):
    there = reweight(samples, "uff")
    surface = Surface(samples.molecule, "uff")
    np.testing.assert_allclose(there.energies, surface.energies(samples.positions))
    assert there.weights.std() > 0
    assert there.provenance.reweighted_from == (samples.level,)
    lowest = min(samples.provenance.diagnostics["ess"].values())
    left = there.provenance.diagnostics["reweighted_ess"]
    assert left == pytest.approx(lowest * there.effective_sample_size / 15)
    assert any("effective sample size at uff is" in note for note in there.provenance.notes)
    same = reweight(samples, "mmff94")
    assert same.provenance.diagnostics["reweighted_ess"] == pytest.approx(lowest)
    twice = reweight(there, "uff")
    assert twice.provenance.diagnostics["reweighted_ess"] == pytest.approx(left)


def test_conformers_cannot_be_reweighted(samples):
    provenance = samples.provenance.model_copy(update={"method": "conformers"})
    with pytest.raises(ValueError, match="'conformers' are not canonical"):
        reweight(replace(samples, provenance=provenance), "uff")


def test_samples_without_an_energy_are_left_out_and_counted(samples, monkeypatch):
    class Failing(Surface):
        def energies(self, positions):
            lost = (positions == samples.positions[3]).all(axis=(1, 2))
            return np.where(lost, np.inf, super().energies(positions))

    kept = (samples.positions != samples.positions[3]).any(axis=(1, 2))  # rejected moves repeat it
    told = f"no energy for {(~kept).sum()} of 15 samples"
    monkeypatch.setattr("diffrelax.sampling.boltzmann.remembered.Surface", Failing)
    with pytest.raises(RuntimeError, match=told):
        reweight(samples, "uff")
    monkeypatch.setattr("diffrelax.sampling.boltzmann.reweighting.MOST_LOST", 0.9)
    there = reweight(samples, "uff")
    assert f"{told}, which are left out" in "".join(there.provenance.notes)
    np.testing.assert_array_equal(there.positions, samples.positions[kept])


@pytest.mark.parametrize(
    ("molecule", "options", "message"),
    [
        ("CCO", {"temperature": 0.0}, "0.0 K: give a positive number of kelvin"),
        ("CCO", {"temperature": -5.0}, "-5.0 K: give a positive number of kelvin"),
        ("CCO", {"n": 39}, "draw at least 40 samples, 4 of each of 10 chains"),
        ("CCO", {"n_chains": 1}, "1 chains: use at least 2"),
        ("CCO", {"level": "am1"}, "unknown level of theory 'am1'"),
        ("C(", {}, "C("),
        ("CC.O", {}, "2 fragments, which would drift apart: sample each one"),
        ("[He]", {}, "a single atom has no geometry to sample"),
    ],
)
def test_bad_input_says_what_to_do(molecule, options, message):
    with pytest.raises(ValueError) as error:
        sample_boltzmann(molecule, **options)
    assert message in str(error.value)


def test_a_level_that_is_not_installed_says_what_to_install(monkeypatch):
    monkeypatch.setattr("diffrelax.levels.aimnet2.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="weights of aimnet2 are missing"):
        sample_boltzmann("CCO", level="aimnet2")


def test_what_judges_samples_is_asked_for_before_any_is_drawn(monkeypatch):
    monkeypatch.setattr("diffrelax.extras.find_spec", lambda name: None)
    monkeypatch.delattr("diffrelax.sampling.boltzmann.sampling.embed_starts")
    with pytest.raises(ValueError, match=r'pip install "diffrelax\[sampling\]"'):
        sample_boltzmann("CCO")


def test_chains_that_start_alike_say_so(monkeypatch):
    def fail(*_):
        raise ValueError("no embedding")

    monkeypatch.setattr(sampling, "embed_again", fail)
    found = sample_boltzmann("CO", 8, n_chains=2)
    assert "1 of 2 chains share their start" in found.provenance.notes[0]


def test_samples_of_another_molecule_are_counted_and_cast_doubt(monkeypatch):
    seen = iter(["", "bond C1–H4 broke (1.91 Å); bond O2–H4 formed (1.02 Å)"] * 4)
    monkeypatch.setattr(sampling, "identity_change", lambda *_: next(seen))
    found = sample_boltzmann("CO", 8, n_chains=2).provenance
    assert found.diagnostics["changed"] == 4 and not found.diagnostics["converged"]
    assert found.diagnostics["doubts"].endswith("50% of the samples are a different molecule")
    note = "4 of 8 samples are a different molecule: bond C1–H4 broke"
    assert note in found.notes
