"""What the numbers of an ensemble rest on."""

from __future__ import annotations

from functools import partial
from importlib.metadata import version
from typing import Any, Self

from pydantic import Field, JsonValue, ValidationError, model_validator

from diffrelax.choices import CurvatureLevel
from diffrelax.dft.settings import LEVEL, DFTSettings
from diffrelax.entries import Entries, explain_invalid
from diffrelax.errors import InputError
from diffrelax.levels.level import Level


class LevelSettings(Entries):
    """A level of theory: its name and the settings of its calculator.

    Attributes
    ----------
    name : str
        One of `diffrelax.levels.LEVELS`.
    settings : dict
        Such as ``{"xc": "b3lyp", "basis": "6-31G(2df,p)"}``; those of DFT are completed.
    """

    name: str
    settings: dict[str, JsonValue] = Field(default={})

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, given: Any) -> Any:
        if not isinstance(given, dict) or given.get("name") != "dft":
            return given
        settings = given.get("settings", {})
        try:
            known = DFTSettings.model_validate(settings)
        except ValidationError:  # which `dft` tells
            return given
        others = {key: value for key, value in settings.items() if key not in LEVEL}
        return given | {"settings": known.model_dump(include=set(LEVEL)) | others}

    @classmethod
    def of(cls, level: str | Self) -> Self:
        """Return a level, or that of a name with its default settings."""
        return cls(name=level) if isinstance(level, str) else level

    def dft(self, **more: Any) -> DFTSettings:
        """Return the settings of a relaxation at this level of DFT, with more of them.

        Raises
        ------
        ValueError
            If one is unknown or wrong.
        """
        try:
            return DFTSettings.model_validate({**self.settings, **more})
        except ValidationError as error:
            raise InputError(f"level {self}: {explain_invalid(error)}") from error

    @property
    def level(self) -> Level:
        """The same as a value, such as ``B3LYP/def2-SVP in water``."""
        if self.name == "dft":
            return self.dft().level
        return Level.parse(self.name, strict=False)

    def check_thermo(self, thermo: CurvatureLevel) -> None:
        """Find out whether free energies can be had at this level, if they are asked for.

        Raises
        ------
        ValueError
            If they cannot, or a setting of DFT is wrong.
        """
        if self.name == "dft":
            self.dft(thermo=thermo)
        elif thermo != "none":
            raise InputError(f"level {self.name} has no free energies: use dft")

    def __str__(self) -> str:
        settings = " ".join(f"{key}={value}" for key, value in self.settings.items())
        return f"{self.name} ({settings})" if settings else self.name


class EnsembleProvenance(Entries):
    """How an ensemble was made.

    Attributes
    ----------
    method : str
        Such as ``"conformers"``.
    seed : int
    model, model_sha256 : str
        Name of the model that took part and the sha256 of its weights; empty without one.
    version : str
        Of diffrelax.
    settings : dict
        Of the method, plain values.
    diagnostics : dict
        What the method found out about itself, plain values.
    reweighted_from : tuple of LevelSettings
        Levels that the frames were weighted at before, the first being where they were made.
    notes : tuple of str
        What failed on the way, and what to beware of.
    """

    method: str
    seed: int
    model: str = ""
    model_sha256: str = ""
    version: str = Field(default_factory=partial(version, "diffrelax"))
    settings: dict[str, JsonValue] = Field(default={})
    diagnostics: dict[str, JsonValue] = Field(default={})
    reweighted_from: tuple[LevelSettings, ...] = ()
    notes: tuple[str, ...] = ()
