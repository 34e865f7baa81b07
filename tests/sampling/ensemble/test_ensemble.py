from __future__ import annotations

import h5py
import numpy as np
import pytest
from ase.units import kB

from diffrelax.molecule import Molecule
from diffrelax.sampling.ensemble import (
    Ensemble,
    EnsembleProvenance,
    LevelSettings,
    boltzmann_weights,
)

SUFFIXES = (".h5", ".sdf", ".extxyz")


def ensemble_of(smiles: str, n: int = 4, **changes: object) -> Ensemble:
    rng = np.random.default_rng(0)
    molecule = Molecule.from_smiles(smiles, name=changes.pop("name", ""))
    energies = -100 + 0.03 * rng.random(n)
    fields = {
        "molecule": molecule,
        "positions": molecule.positions + 0.02 * rng.normal(size=(n, molecule.n_atoms, 3)),
        "energies": energies,
        "weights": boltzmann_weights(energies, 298.15),
        "temperature": 298.15,
        "level": LevelSettings(
            name="dft", settings={"xc": "pbe", "grid_level": 3, "density_fit": True}
        ),
        "starts": tuple(f"chain {i}" for i in range(n)),
        "provenance": EnsembleProvenance(
            method="test",
            seed=7,
            model="relax-qm9-1",
            model_sha256="ab" * 32,
            settings={"sigma": 0.03},
            notes=("start 3: 'bond' C1–H2 broke; \\ odd",),
        ),
        "columns": {"step": np.arange(n), "acceptance": rng.random(n)},
    }
    return Ensemble(**(fields | changes))


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    ("smiles", "name"),
    [("CCCCO", "1-butanol, dry"), ("C[C@H](N)C(=O)O", "42"), ("C[NH3+]", ""), ("[O][O]", "T")],
)
def test_an_ensemble_survives_its_file(tmp_path, suffix, smiles, name):
    path = tmp_path / f"ensemble{suffix}"
    before = ensemble_of(smiles, name=name)
    before.write(path)
    after = Ensemble.read(path)
    decimals = {".h5": 15, ".sdf": 4, ".extxyz": 8}[suffix]
    assert np.abs(after.positions - before.positions).max() <= 0.5001 * 10.0**-decimals
    for array in ("energies", "weights"):
        assert np.array_equal(getattr(after, array), getattr(before, array))
    assert list(after.columns) == ["step", "acceptance"]
    assert all(np.array_equal(after.columns[key], before.columns[key]) for key in after.columns)
    assert after.columns["step"].dtype == np.int64
    for same in ("temperature", "level", "starts", "provenance"):
        assert getattr(after, same) == getattr(before, same)
    for same in ("charge", "multiplicity", "name", "smiles", "bonds", "formal_charges"):
        assert getattr(after.molecule, same) == getattr(before.molecule, same)
    assert np.array_equal(after.molecule.numbers, before.molecule.numbers)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_bonds_survive_frames_in_which_they_could_not_be_perceived(tmp_path, suffix):
    molecule = Molecule.from_smiles("O1C2CC1O2")
    hot = molecule.positions * [1.0, 1.0, 1.4]
    assert Molecule.from_atoms(molecule.with_positions(hot).to_atoms()).bonds != molecule.bonds
    ensemble_of("O1C2CC1O2", n=2, positions=np.stack([hot, hot])).write(tmp_path / f"hot{suffix}")
    after = Ensemble.read(tmp_path / f"hot{suffix}").molecule
    assert after.bonds == molecule.bonds
    assert after.smiles == molecule.smiles


def test_atoms_carry_energy_weight_and_start():
    ensemble = ensemble_of("CO")
    frames = ensemble.atoms
    assert [frame.info["start"] for frame in frames] == list(ensemble.starts)
    assert sum(frame.info["weight"] for frame in frames) == pytest.approx(1)
    assert frames[2].info["energy_ev"] == ensemble.energies[2]
    assert np.array_equal(frames[3].positions, ensemble.positions[3])


def test_effective_sample_size_counts_frames_with_weight():
    equal = ensemble_of("O", n=5, weights=np.full(5, 0.2))
    assert equal.effective_sample_size == pytest.approx(5)
    single = ensemble_of("O", n=5, weights=np.eye(5)[1])
    assert single.effective_sample_size == pytest.approx(1)


def test_boltzmann_weights_are_those_of_two_states():
    gap = 0.05
    weights = boltzmann_weights(np.array([-3000.0, -3000.0 + gap]), 300.0, np.array([1.0, 4.0]))
    assert weights[1] / weights[0] == pytest.approx(4 * np.exp(-gap / (kB * 300)), rel=1e-9)
    assert weights.sum() == pytest.approx(1)


def test_harmonic_samples_reweighted_to_another_force_constant_have_its_variance():
    temperature, soft, stiff = 300.0, 1.0, 1.6  # K, eV/Å²
    molecule = Molecule.from_smiles("O")
    rng = np.random.default_rng(1)
    x = rng.normal(scale=np.sqrt(kB * temperature / soft), size=4000)
    before = ensemble_of(
        "O",
        n=len(x),
        positions=np.repeat(molecule.positions[None], len(x), axis=0),
        energies=soft * x**2 / 2,
        weights=np.full(len(x), 1 / len(x)),
        temperature=temperature,
        columns={"x": x},
    )
    after = before.reweighted(stiff * x**2 / 2, LevelSettings(name="stiff"))
    assert after.weights @ x**2 == pytest.approx(kB * temperature / stiff, rel=0.05)
    # Kish's size for Gaussian weights: n ⟨w⟩² / ⟨w²⟩ = n √(1 + 2a) / (1 + a), a = (k' − k) / k
    assert after.effective_sample_size / len(x) == pytest.approx(np.sqrt(2.2) / 1.6, rel=0.03)
    assert after.provenance.reweighted_from == (before.level,)
    back = after.reweighted(before.energies, before.level)
    assert np.allclose(back.weights, before.weights)


def test_frames_that_are_kept_have_their_weights_among_themselves():
    weights = np.array([0.1, 0.4, 0.2, 0.3])
    before = ensemble_of("O", n=4, weights=weights, columns={"step": np.arange(4)})
    after = before.select(np.array([True, False, True, False]))
    assert np.allclose(after.weights, [1 / 3, 2 / 3])
    assert after.columns["step"].tolist() == [0, 2]
    assert after.starts == (before.starts[0], before.starts[2])
    assert np.array_equal(after.energies, before.energies[[0, 2]])
    with pytest.raises(ValueError, match="0 weights"):
        before.select(np.zeros(4, dtype=bool))


def test_reweighting_keeps_degeneracies():
    weights = np.array([0.2, 0.8])
    before = ensemble_of("O", n=2, energies=np.zeros(2), weights=weights)
    assert np.allclose(before.reweighted(np.full(2, -50.0), before.level).weights, weights)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"temperature": 0.0}, "temperature 0.0 K: give a positive"),
        ({"temperature": float("nan")}, "temperature nan K"),
        ({"weights": np.full(4, 0.3)}, "must add up to 1"),
        ({"weights": np.array([-0.5, 0.5, 0.5, 0.5])}, "none negative"),
        ({"energies": np.zeros(3)}, "energies of the shape"),
        ({"energies": np.full(4, np.nan)}, "must be finite"),
        ({"starts": ("a",)}, "1 starts for 4 frames"),
        ({"columns": {"step": np.arange(3)}}, "step of the shape"),
        ({"positions": np.zeros((4, 2, 3))}, "positions of the shape"),
    ],
)
def test_what_does_not_fit_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        ensemble_of("O", **changes)


def test_files_that_hold_no_ensemble_are_named(tmp_path):
    for suffix in SUFFIXES:
        with pytest.raises(FileNotFoundError, match="no such file"):
            Ensemble.read(tmp_path / f"none{suffix}")
        (tmp_path / f"text{suffix}").write_text("nonsense\n")
        with pytest.raises(ValueError, match=f"text{suffix} is not an ensemble"):
            Ensemble.read(tmp_path / f"text{suffix}")
    (tmp_path / "empty.extxyz").touch()
    with pytest.raises(ValueError, match=r"empty\.extxyz is not an ensemble: it is empty"):
        Ensemble.read(tmp_path / "empty.extxyz")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["positions"] = np.zeros((2, 3, 3))
    with pytest.raises(ValueError, match=r"other\.h5 is not an ensemble"):
        Ensemble.read(tmp_path / "other.h5")
    with pytest.raises(ValueError, match="unknown suffix"):
        Ensemble.read(tmp_path / "ensemble.pkl")
    with pytest.raises(ValueError, match="unknown suffix"):
        ensemble_of("O").write(tmp_path / "ensemble.json")


def test_a_file_that_cannot_be_finished_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "ensemble.h5"
    ensemble_of("O", n=2).write(path)
    unknown = {"never": object()}
    monkeypatch.setattr("diffrelax.sampling.ensemble.files._record", lambda ensemble: unknown)
    with pytest.raises(TypeError):
        ensemble_of("O", n=3).write(path)
    monkeypatch.undo()
    assert len(Ensemble.read(path)) == 2
    assert [p.name for p in tmp_path.iterdir()] == ["ensemble.h5"]


def test_a_level_of_dft_is_told_whole():
    whole = LevelSettings(name="dft", settings={"xc": "b3lyp", "basis": "6-31G(2df,p)"})
    assert LevelSettings.of("dft") == LevelSettings(name="dft", settings={"xc": "b3lyp"}) == whole
    assert (
        LevelSettings(name="dft", settings={"xc": "r2scan-3c"}).settings["basis"] == "def2-mtzvpp"
    )
    assert LevelSettings.of("gfn2-xtb").settings == {}
    with pytest.raises(ValueError, match="level dft"):
        LevelSettings(name="dft", settings={"functional": "pbe"}).dft()
