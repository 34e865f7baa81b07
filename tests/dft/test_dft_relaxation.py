from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.calculators.calculator import SCFError
from pydantic import ValidationError

from diffrelax.dft import DFTRelaxation, DFTSettings, relax_dft
from diffrelax.dft.descent import minimise, start_hessian
from diffrelax.dft.hessian import positive_hessian, vibrations
from diffrelax.dft.recorder import Recorder
from diffrelax.levels import get_calculator
from diffrelax.levels.density_functional import DensityFunctional
from diffrelax.levels.running import KilledError
from diffrelax.levels.tight_binding import TightBinding, gfn2_hessian
from diffrelax.molecule import Molecule


def relax(smiles: str, **settings: Any) -> DFTRelaxation:
    chosen = {"basis": "sto-3g", "threads": 1, **settings}
    return relax_dft(Molecule.from_smiles(smiles), **chosen)


def test_relaxation_ends_at_a_minimum_and_counts_its_cost() -> None:
    seen: list[tuple[int, float, float]] = []
    result = relax("O=C=O", basis="6-31g", callback=lambda *call: seen.append(call))
    assert (result.converged, result.reason, result.notes) == (True, "", ())
    assert result.molecule.start == "dft"
    assert result.fmax < 0.03 < result.fmaxes[0]
    assert result.energy < result.energies[0]
    assert result.gradient_calls == len(result.energies) == len(result.fmaxes) > 1
    assert result.scf_cycles > 2 * result.gradient_calls
    assert result.trajectory.shape == (result.gradient_calls, 3, 3)
    np.testing.assert_array_equal(result.trajectory[-1], result.molecule.positions)
    assert seen == list(zip(range(1, 100), result.energies, result.fmaxes, strict=False))
    assert result.rms_forces[-1] == pytest.approx(np.sqrt((result.forces**2).sum() / 3))
    assert 0 < result.seconds["hessian"] < result.seconds["total"]
    assert 0 < result.seconds["dft"] < result.seconds["total"]

    atoms = result.molecule.to_atoms()
    atoms.calc = get_calculator("dft", result.molecule, basis="6-31g")
    np.testing.assert_allclose(atoms.get_forces(), result.forces, atol=2e-3)
    assert atoms.get_potential_energy() == pytest.approx(result.energy, abs=1e-4)
    assert np.linalg.norm(result.forces, axis=1).max() == pytest.approx(result.fmax)


def test_hessian_saves_gradient_calls() -> None:
    with_hessian = relax("OO", optimizer="bfgs")
    without = relax("OO", optimizer="bfgs", hessian="none")
    assert without.converged and with_hessian.converged
    assert with_hessian.gradient_calls < without.gradient_calls
    assert without.seconds["hessian"] == 0
    assert with_hessian.energy == pytest.approx(without.energy, abs=2e-3)


def test_geometric_finds_the_same_minimum() -> None:
    tric = relax("C=O", fmax=0.005)
    geometric = relax("C=O", fmax=0.005, optimizer="geometric")
    assert geometric.converged
    assert geometric.fmax < 0.005
    assert geometric.criterion.startswith("geomeTRIC")
    assert geometric.energy == pytest.approx(tric.energy, abs=1e-4)


@pytest.mark.parametrize("smiles", ["[OH]", "[H]"])
def test_radicals_relax(smiles: str) -> None:
    result = relax(smiles)
    assert result.converged
    assert result.molecule.multiplicity == 2
    assert (result.gradient_calls == 1) == (smiles == "[H]")


def test_every_form_of_input_relaxes() -> None:
    cheap: Any = {"xc": "lda,vwn", "basis": "sto-3g", "max_steps": 0}
    smiles, atoms = (relax_dft(one, **cheap) for one in ("O", Molecule.from_smiles("O").to_atoms()))
    assert smiles.energies == pytest.approx(atoms.energies)
    with pytest.raises(ValueError, match="is not a SMILES"):
        relax_dft("no", **cheap)


def test_too_few_steps_are_reported() -> None:
    result = relax("OO", hessian="none", max_steps=1)
    assert not result.converged
    assert result.reason == "not converged in 1 steps"
    assert result.gradient_calls == 2
    assert np.isfinite(result.energy)


def test_an_end_above_an_earlier_geometry_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    soft = np.eye(9)  # eV/Å²; the first step goes too far
    monkeypatch.setattr("diffrelax.dft.cheap_hessian.cheap_hessian", lambda *_: soft)
    result = relax("O", max_steps=1)
    assert result.energy > result.energies[0]
    assert result.reason == (
        "not converged in 1 steps; an earlier geometry has a lower energy than the last"
    )


def test_failed_scf_is_reported(monkeypatch: pytest.MonkeyPatch, optimizer: str) -> None:
    monkeypatch.setattr("pyscf.scf.hf.SCF.max_cycle", 1)
    result = relax("O", optimizer=optimizer)
    assert not result.converged
    assert result.reason.startswith("gradient call 1 failed: the SCF did not converge")
    assert result.gradient_calls == 0
    assert result.trajectory.shape == (0, 3, 3)
    assert result.scf_cycles > 0
    assert result.notes == ()
    assert np.isnan(result.energy) and np.isnan(result.fmax)
    assert result.forces.shape == (3, 3) and np.isnan(result.forces).all()
    np.testing.assert_array_equal(result.molecule.positions, Molecule.from_smiles("O").positions)


def test_what_was_calculated_before_a_failure_is_kept(
    monkeypatch: pytest.MonkeyPatch, optimizer: str
) -> None:
    calculate, seen = DensityFunctional.calculate, []

    def fail_at_the_third(self: DensityFunctional, *arguments: Any) -> None:
        seen.append("forces" in arguments[1])
        if sum(seen) == 3:
            raise SCFError("the SCF did not converge")
        calculate(self, *arguments)

    monkeypatch.setattr(DensityFunctional, "calculate", fail_at_the_third)
    result = relax("OO", xc="lda,vwn", optimizer=optimizer)
    assert not result.converged
    assert result.reason.startswith("gradient call 3 failed: the SCF did not converge")
    assert result.gradient_calls == len(result.trajectory) == 2
    np.testing.assert_array_equal(result.molecule.positions, result.trajectory[-1])
    assert np.linalg.norm(result.forces, axis=1).max() == pytest.approx(result.fmaxes[-1])


def test_an_open_shell_whose_orbitals_were_lost_is_reported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    count, cycles = DensityFunctional._count_cycle, []

    def fail_in_the_second_call(self: DensityFunctional, found: dict[str, Any]) -> None:
        count(self, found)
        cycles.append(found["cycle"])
        if cycles.count(0) == 2:
            raise np.linalg.LinAlgError("a matrix is singular")

    monkeypatch.setattr(DensityFunctional, "_count_cycle", fail_in_the_second_call)
    result = relax("[CH3]", hessian="none")
    assert result.reason == "gradient call 2 failed: a matrix is singular"
    assert result.gradient_calls == 1


def test_level_that_cannot_be_calculated_is_reported(optimizer: Any) -> None:
    helium = Molecule(np.array([2]), np.zeros((1, 3)), multiplicity=3)
    result = relax_dft(helium, basis="sto-3g", threads=1, optimizer=optimizer)
    assert not result.converged
    assert "failed: Failed to assign mo_occ" in result.reason


def test_second_order_scf_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyscf.scf.hf.SCF.max_cycle", 3)
    result = relax("O")
    assert result.converged
    assert result.notes == ("the SCF needed second-order SCF to converge",)


def test_spin_contamination_is_noted(tmp_path: Path) -> None:
    """Unrestricted Hartree-Fock of the allyl radical mixes in a quartet."""
    path = tmp_path / "dft.checkpoint"
    allyl = Molecule.from_smiles("[CH2]C=C")
    for _ in range(2):  # the second time, all is known
        notes = relax_dft(allyl, xc="hf", basis="sto-3g", checkpoint=path, max_steps=1).notes
        assert [note for note in notes if note.startswith("⟨S²⟩ is 0.3")]
    assert not [note for note in relax("[CH3]").notes if note.startswith("⟨S²⟩")]


def test_another_molecule_at_the_end_is_reported() -> None:
    positions = np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 1.2]])
    apart = Molecule(np.array([1, 1]), positions, formal_charges=(0, 0))
    result = relax_dft(apart, basis="sto-3g", threads=1)
    assert not result.converged
    assert result.reason.startswith("identity lost: bond H1–H2 formed (0.7")
    assert result.fmax < 0.03


def test_missing_hessian_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> np.ndarray:
        raise RuntimeError("no parameters for U")

    monkeypatch.setattr(TightBinding, "hessian", fail)
    result = relax("O")
    assert result.converged
    assert "no parameters for U" in result.notes[0]


@pytest.mark.parametrize(
    ("optimizer", "fmax", "floor"), [("tric", 0.03, 0.1), ("bfgs", 0.003, 0.25), ("bfgs", 0.03, 1)]
)
def test_soft_modes_start_from_the_floor_of_the_optimizer(
    monkeypatch: pytest.MonkeyPatch, optimizer: str, fmax: float, floor: float
) -> None:
    monkeypatch.setattr("diffrelax.dft.cheap_hessian.cheap_hessian", lambda *_: np.zeros((9, 9)))
    settings = DFTSettings(optimizer=optimizer, fmax=fmax)
    hessian, _ = start_hessian(Molecule.from_smiles("O"), settings)
    assert hessian is not None
    assert np.linalg.eigvalsh(hessian).min() == pytest.approx(floor)


def test_hessian_that_is_not_installed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diffrelax.levels.aimnet2.find_spec", lambda _: None)
    with pytest.raises(ValueError, match="the weights of aimnet2 are missing: pip install"):
        relax("O", hessian="aimnet2")


def test_any_cheap_level_may_give_the_hessian_to_start_from() -> None:
    plain, guided = (relax("CO", xc="hf", basis="sto-3g", hessian=h) for h in ("none", "mmff94"))
    assert guided.converged and guided.gradient_calls <= plain.gradient_calls
    with pytest.raises(ValueError, match="unknown level of theory 'gfn3': did you mean gfn2-xtb"):
        relax("CO", hessian="gfn3")
    with pytest.raises(ValueError, match="use `hessian` gfn2-xtb or aimnet2"):
        relax("CO", hessian="mmff94", one_call=True)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("Auto3D") is None, reason="needs AcAuto3D")
@pytest.mark.filterwarnings("ignore:`torch.jit.load` is deprecated")
def test_hessian_of_aimnet2_saves_gradient_calls() -> None:
    plain, guided = (relax("CO", basis="6-31g**", hessian=h) for h in ("none", "aimnet2"))
    assert guided.converged and not guided.notes
    dissolved = relax("CO", hessian="aimnet2", solvent="4.7", max_steps=0)
    assert dissolved.notes == ("the aimnet2 Hessian is that of the gas phase",)
    assert guided.gradient_calls < plain.gradient_calls
    assert guided.energy == pytest.approx(plain.energy, abs=1e-3)
    (note,) = relax("[LiH]", hessian="aimnet2", max_steps=0).notes
    assert note.startswith("no aimnet2 Hessian, that of gfn2-xtb instead: aimnet2 was not trained")


def planar_ammonia() -> Molecule:
    angles = np.radians([0, 120, 240])
    positions = np.vstack([np.zeros(3), np.c_[np.cos(angles), np.sin(angles), 0 * angles]])
    return Molecule(np.array([7, 1, 1, 1]), positions)


@pytest.mark.slow
@pytest.mark.parametrize("level", ["gfn2-xtb", "dft"])
def test_a_saddle_point_is_told_and_left(
    level: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    checked = relax("O", check_minimum=level)
    assert checked.converged
    assert checked.lowest_frequency > 1000
    assert checked.seconds["check"] > 0
    ammonia = planar_ammonia()
    settings: Any = {"basis": "6-31g**", "threads": 1, "hessian": "none", "check_minimum": level}
    monkeypatch.setattr("diffrelax.dft.descent.DESCENTS", 0)
    saddle = relax_dft(ammonia, **settings)
    assert saddle.fmax < 0.03
    assert not saddle.converged
    assert saddle.reason.startswith("no minimum: imaginary frequency of ")
    assert saddle.lowest_frequency < -500

    monkeypatch.setattr("diffrelax.dft.descent.DESCENTS", 1)
    path = tmp_path / "ammonia.checkpoint"
    down = relax_dft(ammonia, checkpoint=path, **settings)
    assert down.converged and down.lowest_frequency > 500
    assert down.notes[0].startswith(
        f"displaced from a saddle point after {saddle.gradient_calls} calls"
    )
    assert down.energy < saddle.energy - 0.1
    heights = [np.linalg.det(x[1:] - x[0]) for x in (ammonia.positions, down.molecule.positions)]
    assert abs(heights[0]) < 0.01 < 0.2 < abs(heights[1])
    numbers: list[int] = []
    unchecked = relax_dft(ammonia, checkpoint=path, **settings | {"check_minimum": "none"})
    assert unchecked.gradient_calls == saddle.gradient_calls
    again = relax_dft(
        ammonia, checkpoint=path, callback=lambda number, *_: numbers.append(number), **settings
    )
    assert again.energies == down.energies and not numbers
    monkeypatch.setattr("diffrelax.dft.descent.minimise", lambda *_: "stopped")
    lost = relax_dft(ammonia, checkpoint=path, **settings)
    assert lost.reason == "stopped" and lost.lowest_frequency is None


def test_a_push_off_a_saddle_point_does_not_make_another_molecule() -> None:
    """The start tells what the molecule is, wherever the optimizer goes on from."""
    start, other = map(Molecule.from_smiles, (r"[H]/N=C/F", r"[H]/N=C\F"))
    recorder = Recorder(start, get_calculator("gfn2-xtb", start))
    pushed = start.with_positions(other.positions)
    reason = minimise(recorder, pushed, None, DFTSettings(hessian="none"))
    assert recorder.calls[-1].fmax < 0.03
    assert reason.startswith("identity lost: ") and reason.endswith(" changed from E to Z")


@pytest.mark.slow
def test_dft_decides_whether_the_softest_motion_of_gfn2_xtb_is_downhill(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither is a minimum called none for GFN2-xTB's sake, nor a saddle point a minimum."""
    water = relax("O")
    hessian = gfn2_hessian(water.molecule)
    with monkeypatch.context() as turned:
        turned.setattr(TightBinding, "hessian", lambda *_: -hessian)
        checked = relax("O", check_minimum="gfn2-xtb")
    assert checked.converged and checked.lowest_frequency > 1000
    assert checked.gradient_calls == water.gradient_calls

    settings = {"basis": "6-31g**", "threads": 1, "hessian": "none"}
    ammonia = relax_dft(planar_ammonia(), **settings)
    assert ammonia.converged
    stable = positive_hessian(gfn2_hessian(ammonia.molecule), ammonia.molecule.positions, 0.01)
    assert vibrations(ammonia.molecule, stable)[0][0] > 100
    monkeypatch.setattr(TightBinding, "hessian", lambda *_: stable)
    monkeypatch.setattr("diffrelax.dft.descent.DESCENTS", 0)
    saddle = relax_dft(planar_ammonia(), check_minimum="gfn2-xtb", **settings)
    assert saddle.lowest_frequency < -500
    assert "along a soft motion of gfn2-xtb" in saddle.reason


@pytest.mark.parametrize("level", ["gfn2-xtb", "dft"])
def test_free_energies_are_those_of_the_level_of_the_hessian(level: Any) -> None:
    result = relax("O", basis="6-31g", thermo=level, temperature=400.0, pressure=1e5)
    gas = result.thermochemistry
    assert gas is not None and result.seconds["check"] > 0
    assert (gas.temperature, gas.pressure, gas.symmetry_number) == (400.0, 1e5, 2)
    assert 0.5 < gas.zero_point_energy < 0.6
    assert result.energy + gas.zero_point_energy < gas.enthalpy
    assert gas.gibbs_energy == pytest.approx(gas.enthalpy - 400 * gas.entropy)
    hessian = (
        get_calculator("dft", result.molecule, basis="6-31g").hessian(result.molecule.to_atoms())
        if level == "dft"
        else gfn2_hessian(result.molecule)
    )
    softest, *others = vibrations(result.molecule, hessian)[0]
    measured = softest if level == "dft" else result.lowest_frequency
    assert gas.frequencies == pytest.approx([measured, *others], abs=1.0)


@pytest.mark.slow
def test_degenerate_vibrations_stay_so() -> None:
    """DFT tells both bends of a linear molecule, or GFN2-xTB does."""
    gas = relax("O=C=O", thermo="gfn2-xtb").thermochemistry
    assert gas is not None
    assert gas.frequencies[0] == pytest.approx(gas.frequencies[1], abs=2.0)


def test_a_stiff_vibration_is_as_dft_itself_has_it() -> None:
    both = [relax("[H][H]", thermo=level).thermochemistry for level in ("gfn2-xtb", "dft")]
    cheap, own = (gas.frequencies[0] for gas in both if gas)
    assert cheap == pytest.approx(own, abs=5.0)


def test_without_electrons_of_one_spin_there_is_a_free_energy() -> None:
    ion = Molecule(np.array([1, 1]), np.array([[0, 0, 0], [0, 0, 1.06]]), charge=1, multiplicity=2)
    gas = relax_dft(ion, xc="hf", basis="6-31g", thermo="dft", threads=1).thermochemistry
    assert gas is not None and gas.frequencies[0] == pytest.approx(2300, abs=150)


def test_dft_tells_the_frequencies_that_are_imaginary_for_gfn2_xtb(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own = relax("O", thermo="dft").thermochemistry
    hessian = TightBinding.hessian
    monkeypatch.setattr(TightBinding, "hessian", lambda *given: -hessian(*given))
    gas = relax("O", thermo="gfn2-xtb").thermochemistry
    assert own is not None and gas is not None
    assert gas.frequencies == pytest.approx(own.frequencies, rel=0.05)


def test_an_atom_has_a_free_energy() -> None:
    gas = relax("[H]", thermo="dft").thermochemistry
    assert gas is not None
    assert (gas.frequencies, gas.zero_point_energy) == ((), 0)


@pytest.mark.parametrize(("lowest", "is_minimum"), [(-19.0, True), (-21.0, False)])
def test_an_imaginary_frequency_within_the_noise_is_none(
    monkeypatch: pytest.MonkeyPatch, lowest: float, is_minimum: bool
) -> None:
    frequencies = np.array([lowest, 900.0])
    motions = np.ones((2, 2, 3))
    monkeypatch.setattr("diffrelax.dft.minimum.vibrations", lambda *_: (frequencies, motions))
    monkeypatch.setattr("diffrelax.dft.descent.DESCENTS", 0)
    result = relax("[H][H]", check_minimum="dft")
    assert (result.converged, result.lowest_frequency) == (is_minimum, lowest)


def test_a_grid_that_is_too_coarse_is_noted() -> None:
    result = relax("O", xc="scan", max_steps=0)
    calculator = get_calculator("dft", result.molecule, xc="scan", basis="sto-3g")
    net = np.linalg.norm(calculator.get_forces(result.molecule.to_atoms()).sum(axis=0))
    assert net > 1
    assert result.forces.sum(axis=0) == pytest.approx(0, abs=1e-9)
    assert result.notes == (
        f"the forces add up to {net:.2g} eV/Å, not to zero: integration grid 3 is too coarse for "
        "scan",
    )


def test_an_atom_is_not_checked_to_be_a_minimum() -> None:
    result = relax("[H]", check_minimum="dft")
    assert result.converged
    assert (result.lowest_frequency, result.notes) == (None, ())


def test_check_that_cannot_be_made_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> np.ndarray:
        raise RuntimeError("no second derivatives")

    monkeypatch.setattr("diffrelax.levels.density_functional.DensityFunctional.hessian", fail)
    result = relax("[H][H]", check_minimum="dft")
    assert result.converged
    assert result.lowest_frequency is None
    assert result.notes[0].startswith("not checked to be a minimum")
    without = relax("[H][H]", thermo="dft")
    assert not without.converged and without.thermochemistry is None
    assert without.reason.startswith("no free energy: not checked to be a minimum at dft: no")


def test_a_check_that_was_killed_is_not_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object) -> np.ndarray:
        raise KilledError("orca was killed (SIGKILL), perhaps because it ran out of memory")

    monkeypatch.setattr("diffrelax.levels.density_functional.DensityFunctional.hessian", killed)
    for asked in ({"check_minimum": "dft"}, {"thermo": "dft"}):
        with pytest.raises(KilledError, match="orca was killed"):
            relax("[H][H]", **asked)


def test_a_check_that_free_energies_would_weaken_is_refused() -> None:
    with pytest.raises(ValidationError, match="use `thermo` dft, or leave out `check_minimum`"):
        DFTSettings(check_minimum="dft", thermo="gfn2-xtb")
    assert DFTSettings(check_minimum="gfn2-xtb", thermo="dft").checked_at == "dft"


def test_second_derivatives_that_pyscf_lacks_are_differences_of_forces(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def lacks(*_: object) -> np.ndarray:
        raise NotImplementedError("UKS Hessian for NLC functional")

    analytic = relax("[H][H]", thermo="dft").thermochemistry
    monkeypatch.setattr("diffrelax.levels.density_functional.DensityFunctional.hessian", lacks)
    result = relax("[H][H]", thermo="dft")
    assert result.converged and result.thermochemistry and analytic
    assert result.thermochemistry.frequencies == pytest.approx(analytic.frequencies, rel=2e-3)


def test_interrupt_passes_through(optimizer: str) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        relax("O", optimizer=optimizer, callback=interrupt)


@pytest.mark.parametrize("error", [RuntimeError, ValueError])
def test_an_error_of_the_callback_is_its_own(optimizer: str, error: type[Exception]) -> None:
    def fail(*_: object) -> None:
        raise error("my own")

    with pytest.raises(error, match="my own"):
        relax("O", optimizer=optimizer, callback=fail)


def test_a_level_is_the_same_however_it_is_spelled() -> None:
    one = DFTSettings(xc=" B3LYP", basis="6-31g(2DF,P)", solvent="Water")
    assert one == DFTSettings(solvent="water")
    assert DFTSettings(basis="Def2-SVP") == DFTSettings(basis="def2-svp")


def test_settings_are_kept_frozen_and_checked() -> None:
    result = relax("[H]", fmax=0.05)
    assert result.settings == DFTSettings(basis="sto-3g", fmax=0.05)
    with pytest.raises(ValidationError):
        result.settings.fmax = 1.0
    for wrong in ({"fmax": 0.0}, {"optimizer": "cg"}, {"hessian": "exact"}, {"max_steps": -1}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            relax("O", **wrong)
    with pytest.raises(ValueError, match="unknown functional"):
        relax("O", xc="b4lyp")
