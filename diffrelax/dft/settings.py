"""Settings of DFT relaxations."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from operator import not_
from pathlib import Path
from typing import Any, Self, TypedDict

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)

from diffrelax.choices import DEFAULT_BASIS, CurvatureLevel
from diffrelax.dft.optimizers import OPTIMIZERS, find_optimizer, optimizer_names
from diffrelax.entries import Entries
from diffrelax.errors import InputError
from diffrelax.levels.calculators import check_cheap
from diffrelax.levels.level import Level
from diffrelax.levels.names import is_composite, letters
from diffrelax.levels.profiles import Profile, read_profile

PREDICTS = ("gfn2-xtb", "aimnet2")  # Hessians with calibrated predictions of minima
PYSCF_SETTINGS = ("density_fit", "grid_level")
GAS_CONDITIONS = ("temperature", "pressure")
SPELLINGS = {"ω": "w", "(bj)": "bj", "(0)": "zero"}  # as programs spell them
LEVEL = ("xc", "basis", "solvent")


class Changes(TypedDict, total=False):
    """Settings by name, see `DFTSettings`."""

    xc: str
    basis: str
    fmax: float
    optimizer: str
    hessian: str
    density_fit: bool
    grid_level: int
    max_steps: int
    check_minimum: CurvatureLevel
    solvent: str
    thermo: CurvatureLevel
    temperature: float
    pressure: float
    one_call: bool


class DFTSettings(Entries):
    """Level of theory, optimizer and convergence criterion of a DFT relaxation.

    Parameters
    ----------
    xc, basis, density_fit, grid_level
        See `diffrelax.levels.density_functional.mean_field`. Forces that do not add up to zero
        indicate that the grid is too coarse for the functional; the result notes this. SCAN needs
        a much finer grid than r2SCAN.
    fmax : float
        Convergence threshold of the largest force on an atom, eV/Å. Net translation and rotation,
        which are errors of the integration grid, are removed from the forces.
    optimizer : {"tric", "bfgs", "geometric", "sella"} or one that another package adds
        geomeTRIC in internal coordinates, with `fmax` as its criterion (``"tric"``) or with its own
        five criteria, tightened to `fmax` if necessary (``"geometric"``); BFGS in Cartesian
        coordinates (with a start Hessian, its metric and a trust radius; otherwise ASE's); or
        Sella in internal coordinates.
    hessian : str
        Cheap level of the start Hessian of the optimizer; ``"none"``: the optimizer's own guess.
        AIMNet2's Hessian is closer than GFN2-xTB's to that of a hybrid functional.
    max_steps : int
        Maximum number of optimizer steps; the number of gradient calls is at most one more.
    check_minimum : {"none", "gfn2-xtb", "dft"}
        Whether a converged relaxation must also end without an imaginary frequency.
        ``"gfn2-xtb"`` finds most saddle points, with two DFT gradients along each of these modes of
        GFN2-xTB's Hessian: the softest, those degenerate with it, and imaginary ones. ``"dft"``
        evaluates the DFT Hessian, which takes longer than the relaxation. From a saddle point the
        relaxation continues downhill, with up to `max_steps` more steps.
    thermo : {"none", "gfn2-xtb", "dft"}
        Level of the Hessian for zero-point, thermal and free energies. The end is checked at this
        level as by `check_minimum`, which may not be higher. DFT frequencies from the check replace
        those of GFN2-xTB.
    temperature, pressure : float
        Temperature and pressure of the thermochemistry, K and Pa.
    one_call : bool
        Whether to end after the first gradient call at the minimum predicted with the start
        Hessian, not verified, if nine in ten such minima have no force above `fmax` (see
        `diffrelax.dft.prediction`). Otherwise the relaxation continues as usual.
    solvent : str
        Name or dielectric constant, see `diffrelax.levels.solvents`. Empty: the gas phase.
    calculator : Profile, optional
        Profile of a program to use instead of PySCF. The profile sets functional, basis and
        solvent; settings of PySCF must be left out.
    """

    xc: str = "b3lyp"
    basis: str = DEFAULT_BASIS
    fmax: float = Field(default=0.03, gt=0, allow_inf_nan=False)
    optimizer: str = "tric"
    hessian: str = "gfn2-xtb"
    density_fit: bool = True
    grid_level: int = Field(default=3, ge=0, le=9)
    max_steps: int = Field(default=200, ge=0)
    check_minimum: CurvatureLevel = "none"
    solvent: str = Field(default="", exclude_if=not_)
    thermo: CurvatureLevel = Field(default="none", exclude_if="none".__eq__)
    temperature: float = Field(
        default=298.15, gt=0, allow_inf_nan=False, exclude_if=(298.15).__eq__
    )
    pressure: float = Field(
        default=101_325.0, gt=0, allow_inf_nan=False, exclude_if=(101_325.0).__eq__
    )
    one_call: bool = Field(default=False, exclude_if=not_)
    calculator: Profile | None = Field(default=None, exclude_if=not_)

    @classmethod
    def among(cls, given: Mapping[str, Any]) -> Self:
        """Build settings from those arguments of a function that are settings.

        The calculator may be the path of a profile.
        """
        chosen = {name: given[name] for name in cls.model_fields if name in given}
        if isinstance(path := chosen.get("calculator"), str | os.PathLike):
            chosen["calculator"] = read_profile(Path(path))
        return cls(**chosen)

    @field_validator("hessian")
    @classmethod
    def _is_cheap(cls, hessian: str) -> str:
        if hessian != "none":
            check_cheap(hessian)
        return hessian

    @field_validator("optimizer")
    @classmethod
    def _known(cls, optimizer: str) -> str:
        if optimizer not in OPTIMIZERS and optimizer not in (known := optimizer_names()):
            raise InputError(f"{optimizer!r} is none of {', '.join(known)}")
        return optimizer

    @field_validator("xc", "basis", "solvent")
    @classmethod
    def _plain_name(cls, name: str) -> str:
        plain = _plain(name)
        return DEFAULT_BASIS if letters(plain) == letters(DEFAULT_BASIS) else plain

    @model_validator(mode="before")
    @classmethod
    def _in_one_spelling(cls, values: Any) -> Any:
        """Normalise the names of a level, so that the same level is the same unit of work.

        A whole level in `xc`, such as ``pbe0/def2-svp``, is split.
        """
        if not isinstance(values, dict):
            return values
        if values.get("calculator") is not None:
            return cls._with_profile(values)
        default = {name: cls.model_fields[name].default for name in LEVEL}
        names = {name: values.get(name, default[name]) for name in LEVEL}
        if not all(isinstance(name, str) for name in names.values()) or not names["xc"].strip():
            return values
        given = [names[n] if _plain(names[n]) != _plain(default[n]) else "" for n in LEVEL[1:]]
        level = Level.of(names["xc"], *given)
        basis = level.basis or names["basis"]
        if is_composite(level.method):
            from diffrelax.levels.basis import choose_basis  # imports PySCF
            from diffrelax.levels.functionals import read_functional

            basis = choose_basis(read_functional(level.xc), basis)
        return values | {"xc": level.xc, "basis": basis, "solvent": level.solvent}

    @classmethod
    def _with_profile(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Set the level from the profile; settings of PySCF may only have default values."""
        try:
            profile = Profile.model_validate(values["calculator"])
        except ValidationError:  # is reported later, entry by entry
            return values
        level = {"xc": profile.method, "basis": profile.basis, "solvent": profile.solvent}
        own = {name: cls.model_fields[name].default for name in (*level, *PYSCF_SETTINGS)}
        for name, default in own.items():
            allowed = map(_plain, (default, level.get(name, default)))
            if _plain(values.get(name, default)) not in allowed:
                raise InputError(f"`{name}` is set in the profile: leave it out")
        return values | {"calculator": profile} | level

    @model_validator(mode="after")
    def _check_one_call(self) -> Self:
        if self.one_call and (
            self.hessian not in PREDICTS or not find_optimizer(self.optimizer).newton
        ):
            raise InputError(
                "`one_call` needs a Hessian and a Newton step: use `hessian` gfn2-xtb or "
                "aimnet2, and `optimizer` tric or bfgs"
            )
        if self.one_call and self.checked_at != "none":
            raise InputError(
                "`check_minimum` and `thermo` need a verified minimum: leave out either "
                "them or `one_call`"
            )
        return self

    @model_validator(mode="after")
    def _check_curvature(self) -> Self:
        if (self.check_minimum, self.thermo) == ("dft", "gfn2-xtb"):
            raise InputError(
                "`thermo` gfn2-xtb checks the minimum only along a soft mode: use `thermo` "
                "dft, or leave out `check_minimum`"
            )
        return self

    @model_validator(mode="after")
    def _check_state(self) -> Self:
        own = {name: self.__class__.model_fields[name].default for name in GAS_CONDITIONS}
        if self.thermo == "none" and any(getattr(self, name) != own[name] for name in own):
            raise InputError(f"`{'` and `'.join(own)}` are for free energies: set `thermo`")
        return self

    @model_serializer(mode="wrap")
    def _without_pyscf(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values: dict[str, Any] = serialize(self)
        dropped = PYSCF_SETTINGS if self.calculator else ()
        return {name: value for name, value in values.items() if name not in dropped}

    @property
    def mean_field(self) -> dict[str, Any]:
        """Keyword arguments of `diffrelax.levels.density_functional.mean_field`."""
        return self.model_dump(include={"xc", "basis", "density_fit", "grid_level", "solvent"})

    @property
    def checked_at(self) -> CurvatureLevel:
        """The level at which the end is checked to be a minimum."""
        return self.check_minimum if self.thermo == "none" else self.thermo

    @property
    def level(self) -> Level:
        """The level of theory."""
        level = Level.parse("/".join(filter(None, (self.xc, self.basis))), strict=False)
        return replace(level, solvent=self.solvent)

    @property
    def described(self) -> str:
        """The level, and the program if it is not PySCF, such as ``HF/3-21G by nwchem``."""
        return str(self.level) + (f" by {self.calculator.program}" if self.calculator else "")

    @property
    def hessian_solvent(self) -> str:
        """The solvent of GFN2-xTB's Hessian; empty if only the external program knows it."""
        from diffrelax.levels.solvents import read_solvent  # imports PySCF

        if self.calculator is None or not self.solvent:
            return self.solvent
        try:
            read_solvent(self.solvent)
        except ValueError:
            return ""
        return self.solvent


def _plain(name: Any) -> str:
    plain = str(name).strip().lower()
    for spelt, known in SPELLINGS.items():
        plain = plain.replace(spelt, known)
    return plain
