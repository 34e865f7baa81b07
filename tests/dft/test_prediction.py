from __future__ import annotations

from pathlib import Path
from typing import Any

import ase
import numpy as np
import pytest
from ase.calculators.calculator import Calculator

from diffrelax.clock import NO_TIME
from diffrelax.dft import DFTRelaxation, DFTSettings, relax_dft
from diffrelax.dft.descent import minimise
from diffrelax.dft.hessian import internal_forces, positive_hessian
from diffrelax.dft.prediction import FORCE_BOUND, LONGEST, predict
from diffrelax.dft.recorder import Call, Recorder
from diffrelax.geometry import superpose
from diffrelax.levels.density_functional import DensityFunctional
from diffrelax.levels.tight_binding import gfn2_hessian
from diffrelax.molecule import Molecule
from diffrelax.results.documents import MinimisationDocument
from diffrelax.results.provenance import Provenance
from diffrelax.results.stored import read_document

HF: dict[str, Any] = {"xc": "hf", "basis": "3-21g", "threads": 1}


class Quadratic(Calculator):
    """A surface whose minimum is known."""

    implemented_properties = ("energy", "forces")

    def __init__(self, minimum: np.ndarray, hessian: np.ndarray) -> None:
        super().__init__()
        self.minimum, self.hessian = minimum, hessian

    def calculate(self, atoms: ase.Atoms, *_: object) -> None:
        step = (atoms.positions - self.minimum).ravel()
        forces = -self.hessian @ step
        energy = -5.0 - 0.5 * step @ forces
        self.results = {"energy": energy, "forces": forces.reshape(-1, 3)}


@pytest.fixture(scope="module")
def methanol() -> tuple[Molecule, np.ndarray, Molecule]:
    """A minimum of a surface, its Hessian, and a start nearby whose forces do not turn it."""
    minimum = Molecule.from_smiles("CO")
    hessian = positive_hessian(gfn2_hessian(minimum), minimum.positions)
    forces = np.random.default_rng(1).normal(scale=0.05, size=minimum.positions.shape)
    shift = np.zeros_like(forces)
    for _ in range(20):
        forces = internal_forces(forces, minimum.positions + shift)
        shift = -np.linalg.solve(hessian, forces.ravel()).reshape(-1, 3)
    return minimum, hessian, minimum.with_positions(minimum.positions + shift)


def call_at(start: Molecule, surface: Quadratic) -> Call:
    atoms = start.to_atoms()
    atoms.calc = surface
    return Call(start, atoms.get_potential_energy(), atoms.get_forces(), NO_TIME)


def test_the_minimum_of_a_quadratic_surface_is_predicted_by_one_call(
    methanol: tuple[Molecule, np.ndarray, Molecule],
) -> None:
    minimum, hessian, start = methanol
    surface = Quadratic(minimum.positions, hessian)
    fall = call_at(start, surface).energy + 5.0
    recorder = Recorder(start, surface, foresee=lambda *known: predict(*known, fmax=np.inf))
    settings = DFTSettings(optimizer="bfgs", fmax=1e-4)
    assert minimise(recorder, start, hessian, settings) == ""
    assert len(recorder.calls) == 1
    prediction = recorder.prediction
    np.testing.assert_allclose(prediction.molecule.positions, minimum.positions, atol=1e-9)
    assert prediction.energy == pytest.approx(-5.0, abs=1e-9)
    assert prediction.fmax_bound == pytest.approx(FORCE_BOUND * np.sqrt(fall))


def test_bounds_hold_where_the_hessian_is_somewhat_off(
    methanol: tuple[Molecule, np.ndarray, Molecule],
) -> None:
    minimum, hessian, start = methanol
    surface = Quadratic(minimum.positions, 1.1 * hessian)
    call = call_at(start, surface)
    step = np.linalg.solve(hessian, call.forces.ravel()).reshape(-1, 3)
    prediction = predict(call, start.positions + step, fmax=np.inf)
    left = call_at(prediction.molecule, surface)
    assert 0 < left.fmax < prediction.fmax_bound
    assert 0 < abs(prediction.energy + 5) < prediction.energy_bound
    _, rmsd = superpose(prediction.molecule.positions, minimum.positions)
    assert 0 < rmsd < prediction.rmsd_bound
    assert prediction.described.startswith(
        "for molecules like QM9's, nine in ten have no force above 0."
    )


def test_what_lies_beyond_the_bounds_is_not_predicted(
    methanol: tuple[Molecule, np.ndarray, Molecule], monkeypatch: pytest.MonkeyPatch
) -> None:
    minimum, hessian, start = methanol
    call = call_at(start, Quadratic(minimum.positions, hessian))
    bound = FORCE_BOUND * np.sqrt(call.energy + 5.0)
    assert predict(call, minimum.positions, fmax=1.01 * bound)
    assert predict(call, minimum.positions, fmax=0.99 * bound) is None
    far = start.positions.copy()
    far[0, 0] += 1.01 * LONGEST
    assert predict(call, far, fmax=np.inf) is None
    monkeypatch.setattr("diffrelax.dft.prediction.identity_change", lambda *_: "bond O2–H6 broke")
    assert predict(call, minimum.positions, fmax=np.inf) is None


@pytest.fixture(scope="module")
def water() -> tuple[Molecule, DFTRelaxation]:
    """A start near a minimum, and the minimum."""
    minimum = relax_dft("O", fmax=1e-3, **HF)
    shift = 0.008 * np.array([[1.0, 0, 0], [0, -1, 0], [0, 1, 0]])
    return minimum.molecule.with_positions(minimum.molecule.positions + shift), minimum


def test_one_call_ends_near_the_minimum_and_says_that_nothing_was_verified(
    water: tuple[Molecule, DFTRelaxation],
) -> None:
    start, minimum = water
    result = relax_dft(start, one_call=True, fmax=0.5, **HF)
    assert (result.converged, result.reason, result.gradient_calls) == (True, "", 1)
    assert result.fmaxes[0] > 0.5 > result.prediction.fmax_bound
    assert result.energy == pytest.approx(minimum.energy, abs=2e-3)
    assert result.energy < result.energies[0]
    assert superpose(result.molecule.positions, minimum.molecule.positions)[1] < 2e-3
    assert np.isnan(result.fmax) and np.isnan(result.forces).all()
    assert result.criterion.endswith("or predicted to be")
    (note,) = result.notes
    assert note.startswith(
        "predicted, not verified: for molecules like QM9's, nine in ten have no force above"
    )

    document = MinimisationDocument.from_dft(start, result, Provenance.here())
    assert (document.state, document.fmax, document.forces) == ("predicted", None, None)
    assert (document.energy, document.gradient_calls) == (result.energy, 1)
    assert document.prediction.rmsd_bound == result.prediction.rmsd_bound
    assert read_document(document.model_dump(mode="json")) == document


def test_a_second_call_is_made_where_a_bound_is_too_large_or_the_end_is_to_be_verified(
    water: tuple[Molecule, DFTRelaxation], tmp_path: Path
) -> None:
    start, _ = water
    plain = relax_dft(start, fmax=0.01, **HF)
    doubtful = relax_dft(start, fmax=0.01, one_call=True, **HF)
    assert doubtful.prediction is None
    assert doubtful.energies == plain.energies

    path = tmp_path / "dft.checkpoint"
    predicted = relax_dft(start, fmax=0.5, one_call=True, checkpoint=path, **HF)
    verified = relax_dft(start, fmax=0.5, checkpoint=path, **HF)
    assert (predicted.gradient_calls, verified.gradient_calls) == (1, 2)
    assert verified.energies[0] == predicted.energies[0]
    np.testing.assert_array_equal(verified.molecule.positions, predicted.molecule.positions)
    again = relax_dft(start, fmax=0.5, one_call=True, checkpoint=path, **HF)
    assert again.prediction is None  # what is known need not be predicted
    assert again.energies == verified.energies


def test_a_killed_prediction_needs_no_second_call(
    water: tuple[Molecule, DFTRelaxation], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, _ = water
    path = tmp_path / "dft.checkpoint"

    def stop(*_: float) -> None:
        raise KeyboardInterrupt

    settings = {"fmax": 0.5, "one_call": True, "checkpoint": path, **HF}
    with pytest.raises(KeyboardInterrupt):
        relax_dft(start, callback=stop, **settings)
    monkeypatch.delattr(DensityFunctional, "calculate")
    result = relax_dft(start, **settings)
    assert (result.converged, result.gradient_calls) == (True, 1)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"hessian": "none"}, "use `hessian` gfn2-xtb or aimnet2"),
        ({"optimizer": "geometric"}, "and `optimizer` tric or bfgs"),
        ({"check_minimum": "dft"}, "need a verified minimum"),
        ({"thermo": "gfn2-xtb"}, "need a verified minimum"),
    ],
)
def test_what_needs_more_than_one_call_is_refused(more: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        relax_dft("O", one_call=True, **more)


def test_where_the_hessian_cannot_be_had_the_end_is_verified(
    water: tuple[Molecule, DFTRelaxation], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no parameters")

    monkeypatch.setattr("diffrelax.levels.tight_binding.TightBinding.hessian", fail)
    start, _ = water
    result = relax_dft(start, one_call=True, fmax=0.5, **HF)
    assert result.converged and result.gradient_calls > 1
    assert "no gfn2-xtb Hessian" in result.notes[0]
