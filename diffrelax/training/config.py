"""Configuration of a model and of its training, as read from ``config.yaml``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from diffrelax.diffusion.denoiser import Denoiser, DenoiserConfig
from diffrelax.diffusion.joint import GenerationConfig, JointDenoiser
from diffrelax.diffusion.reading import Calibration
from diffrelax.diffusion.schedule import RelaxationSchedule
from diffrelax.entries import Entries, read_validated
from diffrelax.errors import InputError
from diffrelax.network.config import NetworkConfig
from diffrelax.training.learned import Learned

QM9_BONDS = ((1, 6), (1, 7), (1, 8), (6, 6), (6, 7), (6, 8), (6, 9), (7, 7), (7, 8))
MAX_ATOMS = 100
StartLevel = Literal["mmff94", "uff", "gfn2-xtb", "aimnet2"]
FREE_ENTRIES = (
    "steps",
    "cooldown",
    "checkpoints",
    "log_every",
    "validate_every",
    "save_every",
    "validation_molecules",
)


class TrainingConfig(Entries):
    """How a model is trained.

    Attributes
    ----------
    data : str
        Set of minima: ``qm9``, the name of a file next to ``config.yaml``, or the name of a folder
        there that contains the packed sets ``train.npz`` and ``validation.npz``.
    charge : int, optional
        Charge of the minima in a file that does not specify it. Default: 0.
    starts : tuple of {"mmff94", "uff", "gfn2-xtb"}
        Levels of theory whose minima are the starts of the bridge, without repeats; ``gfn2-xtb``,
        which is available for a part of QM9 only, must be last.
    base : str, optional
        Model to start from: a released model, the folder of a model or a file of weights. A
        relative path starts at the folder of ``config.yaml``.
    learn : {"all", "level"}
        Train all weights, or only those that distinguish the levels of theory, so that nothing
        changes at levels that are not in the data.
    seed : int
        Random seed for the initial weights, the order of the data and the noise.
    batch_size : int
        Average number of molecules per step; all batches have about the same number of atoms.
    balance : float
        Levels of theory are sampled in proportion to the number of their geometries to this power,
        where a minimum is counted once for each of its starts.
    steps : int
        Number of training steps.
    warmup, cooldown : int
        Steps over which the learning rate rises from zero at the beginning, and falls to zero at
        the end; at most ``steps``.
    optimizer : {"adamw", "muon"}
        AdamW (Loshchilov and Hutter 2019), or Muon for the matrices of the layers.
    learning_rate, weight_decay : float
        Settings of either optimizer.
    ema : float
        Decay of the moving average of the weights. The averaged weights are released.
    clip : float
        Maximum norm of the gradient.
    bridge_fraction : float
        Fraction of a batch that is displaced along the bridge instead of by Gaussian noise.
    bridge_full : float
        Fraction of the bridge examples at its far end, the force-field geometry.
    bridge_noise : float
        Gaussian noise on the bridge, relative to its noise level.
    max_start_rmsd : float, Å
    max_start_torsion : float, degrees
        Starts further than this from their minimum have left its basin and are not used.
    pair_weight : float
        Weight of the loss of pair distances.
    precision : {"float32", "bfloat16"}
        Precision of the matrix products.
    checkpoints : int
        Number of checkpoints, each at twice as many steps as the one before.
    log_every, validate_every, save_every : int
        Steps between rows of ``training.csv``, between validations, and between saved states.
    validation_molecules : int
        Number of validation molecules to relax for each level of theory.
    """

    data: str = "qm9"
    charge: int | None = Field(default=None, exclude_if=lambda charge: charge is None)
    starts: tuple[StartLevel, ...] = Field(default=("mmff94",), min_length=1)
    base: str | None = None
    learn: Literal["all", "level"] = Field(default="all", exclude_if="all".__eq__)
    seed: int = Field(default=42, ge=0, lt=2**32)
    batch_size: int = Field(default=64, gt=0)
    balance: float = Field(default=1.0, ge=0, le=1)
    steps: int = Field(default=65_536, gt=0)
    warmup: int = Field(default=500, gt=0)
    cooldown: int = Field(default=24_576, gt=0)
    optimizer: Literal["adamw", "muon"] = Field(default="adamw", exclude_if="adamw".__eq__)
    learning_rate: float = Field(default=2e-3, gt=0, allow_inf_nan=False)
    weight_decay: float = Field(default=0.01, ge=0, allow_inf_nan=False)
    ema: float = Field(default=0.999, ge=0, lt=1)
    clip: float = Field(default=1.0, gt=0)
    bridge_fraction: float = Field(default=0.5, ge=0, le=1)
    bridge_full: float = Field(default=0.5, ge=0, le=1)
    bridge_noise: float = Field(default=0.05, ge=0, allow_inf_nan=False)
    max_start_rmsd: float = Field(default=0.7, gt=0)
    max_start_torsion: float = Field(default=60.0, gt=0)
    pair_weight: float = Field(default=2.0, ge=0, allow_inf_nan=False)
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    checkpoints: int = Field(default=8, ge=0)
    log_every: int = Field(default=256, gt=0)
    validate_every: int = Field(default=2048, gt=0)
    save_every: int = Field(default=1024, gt=0)
    validation_molecules: int = Field(default=256, gt=0)

    @field_validator("starts")
    @classmethod
    def _check_starts(cls, starts: tuple[StartLevel, ...]) -> tuple[StartLevel, ...]:
        if len(set(starts)) < len(starts) or "gfn2-xtb" in starts[:-1]:
            raise InputError("levels of starts must be unique, gfn2-xtb last")
        return starts

    def in_basin(self, rmsd: Any, torsion: Any) -> Any:
        """Return whether starts with these deviations, Å and degrees, lie in the minimum's basin.

        The deviations are numbers or arrays of the same shape.
        """
        return (rmsd <= self.max_start_rmsd) & (torsion <= self.max_start_torsion)

    def learning_rate_at(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0: warm-up, constant, decay to zero."""
        rising = min(1.0, (step + 1) / min(self.warmup, self.steps))
        falling = min(1.0, (self.steps - step) / min(self.cooldown, self.steps))
        return self.learning_rate * rising * falling

    def checkpoint_steps(self) -> list[int]:
        """Return the steps of the checkpoints in ascending order; the last is the final step."""
        return [self.steps >> i for i in reversed(range(self.checkpoints)) if self.steps >> i]


class ModelConfig(Entries):
    """Configuration of a model: name, network, training, coverage and relaxation.

    Attributes
    ----------
    name : str
        Name and release, such as ``relax-qm9-1``.
    level : str
        Level of theory of the training minima; if there are several, the default one.
    largest : int
        Number of atoms of the largest training molecule.
    most_heavy : int
        Largest number of heavy atoms in a training molecule. For a packed set, this and ``largest``
        may exclude its few largest molecules; the model warns that it extrapolates beyond them.
    limit : int
        Largest number of atoms, including hydrogens, that the model is used for; above ``largest``
        with a caution.
    bonds : tuple of (int, int)
        Pairs of atomic numbers, the smaller first, that are bonded in the training molecules.
    rare : int
        Atomic environments found in fewer training molecules than this are reported, and no error
        bound is given; chosen on validation molecules.
    learned : dict of str to Learned
        Coverage of the training at each level of theory; set by the training, empty if unknown.
    relaxations : dict of str to RelaxationSchedule
        Schedules for the starts of the network other than the first, which uses ``relaxation``.
    calibrations : dict of str to Calibration
        Calibration at each level of theory with enough validation molecules; set at the end of
        training.
    generation : GenerationConfig, optional
        Only for a model that generates molecules: it denoises the elements too and has no bridge.
    """

    name: str
    level: str
    largest: int = Field(default=29, gt=0)
    most_heavy: int = Field(default=9, gt=0)
    limit: int = Field(default=MAX_ATOMS, gt=0)
    bonds: tuple[tuple[int, int], ...] = QM9_BONDS
    rare: int = Field(default=5, gt=0)
    learned: dict[str, Learned] = Field(default_factory=dict)
    network: NetworkConfig = NetworkConfig()
    denoiser: DenoiserConfig = DenoiserConfig()
    training: TrainingConfig = TrainingConfig()
    relaxation: RelaxationSchedule = RelaxationSchedule()
    relaxations: dict[str, RelaxationSchedule] = Field(
        default_factory=dict, exclude_if=lambda known: not known
    )
    calibrations: dict[str, Calibration] = Field(default_factory=dict)
    generation: GenerationConfig | None = None

    @model_validator(mode="before")
    @classmethod
    def _of_one_level(cls, entries: Any) -> Any:
        """Convert the single calibration of older models with one level of theory."""
        if not isinstance(entries, dict) or "calibration" not in entries:
            return entries
        entries = dict(entries)
        if one := entries.pop("calibration"):
            entries["calibrations"] = {entries.get("level"): one}
        return entries

    @model_validator(mode="after")
    def _check_level(self) -> ModelConfig:
        if self.network.levels and self.level not in self.network.levels:
            known = ", ".join(self.network.levels)
            raise InputError(f"the level {self.level!r} is not one of network.levels: {known}")
        return self

    @model_validator(mode="after")
    def _check_schedule(self) -> ModelConfig:
        low, high, bridge = (
            getattr(self.denoiser, name) for name in ("sigma_min", "sigma_max", "sigma_bridge")
        )
        if self.relaxation.bridge and self.relaxation.bridge[0] != bridge:
            raise InputError(f"relaxation.bridge must start at denoiser.sigma_bridge, {bridge:g} Å")
        polish = self.relaxation.polish
        if not polish or not low <= polish[-1] <= polish[0] <= high:
            raise InputError(
                f"relaxation.polish must be from sigma_min to sigma_max, {low:g} to {high:g} Å"
            )
        return self

    @model_validator(mode="after")
    def _check_learn(self) -> ModelConfig:
        if self.training.learn == "level" and not (self.training.base and self.network.levels):
            raise InputError("training.learn: level needs training.base and network.levels")
        return self

    @model_validator(mode="after")
    def _check_generation(self) -> ModelConfig:
        lowest = self.denoiser.sigma_min
        if self.generation and not self.generation.settle_at > lowest:
            raise InputError(f"generation.settle_at must be above sigma_min, {lowest:g} Å")
        return self

    def schedule(self, start: str) -> RelaxationSchedule:
        """Return the relaxation schedule for a start at a level of theory."""
        return self.relaxations.get(start, self.relaxation)

    @property
    def levels(self) -> tuple[str, ...]:
        """Levels of theory that the model has learned."""
        known = self.network.levels or (self.level,)
        return tuple(level for level in known if level in self.learned or not self.learned)

    @property
    def elements(self) -> tuple[int, ...]:
        """Atomic numbers that the model has learned."""
        seen = {z for one in self.learned.values() for z in one.elements}
        return tuple(z for z in self.network.elements if z in seen or not seen)

    @property
    def charges(self) -> tuple[int, ...]:
        """Total charges that the model has learned."""
        seen = {q for one in self.learned.values() for q in one.charges}
        return tuple(q for q in self.network.charges if q in seen or not seen)

    def run(self) -> dict[str, Any]:
        """Return the entries that identify a training run, as a flat dict of plain values.

        Relaxation schedules, logging intervals and the length of the run are left out.
        """
        network, denoiser, training = (
            {f"{room}.{key}": value for key, value in entries.items()}
            for room, entries in self.model_dump(mode="json").items()
            if room in ("network", "denoiser", "training")
        )
        generation = {}
        if self.generation:
            generation["generation.element_scale"] = self.generation.element_scale
        free = {f"training.{key}" for key in FREE_ENTRIES}
        entries = network | denoiser | training | generation
        return {k: v for k, v in entries.items() if k not in free}

    @classmethod
    def read(cls, path: Path) -> ModelConfig:
        """Read a configuration file.

        Raises
        ------
        ValueError
            If the file is missing, is not YAML, or has an unknown or invalid entry.
        """
        return read_validated(path, cls, "model configuration", "name: my-model-1")


def build_denoiser(config: ModelConfig) -> Denoiser:
    """Build the denoiser of a model, with random weights."""
    if config.generation:
        return JointDenoiser(config.network, config.denoiser, config.generation)
    return Denoiser(config.network, config.denoiser)
