"""Flow files (``flow.yaml``)."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any

from jobflow import Flow
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    field_validator,
)

from diffrelax.dft import DFTSettings
from diffrelax.entries import Entries, read_entries, wrong_with
from diffrelax.errors import InputError
from diffrelax.files import check_charge
from diffrelax.files.reading import is_path
from diffrelax.flows.batches import DiffusionRelaxMaker
from diffrelax.flows.levels import DFTRelaxMaker, ForceFieldRelaxMaker, MoleculeMaker
from diffrelax.flows.relax import RelaxFlowMaker
from diffrelax.flows.resources import StageResources
from diffrelax.flows.stores import MONGODB, PROJECT
from diffrelax.levels.profiles import read_profile
from diffrelax.molecule.embedding import check_seed


class CheapLevel(Entries):
    """A force field, GFN2-xTB or the like.

    Attributes
    ----------
    level : str
        One of `diffrelax.levels.LEVELS`.
    fmax : float, eV/Å
    max_steps : int
    """

    level: str
    fmax: float = Field(default=0.03, gt=0, allow_inf_nan=False)
    max_steps: int = Field(default=500, ge=0)

    @property
    def described(self) -> str:
        """The level."""
        return self.level


def _kind(value: Any) -> str:
    if isinstance(value, dict):
        return "cheap" if "level" in value else "dft"
    return "cheap" if isinstance(value, CheapLevel) else "dft"


def _without_name(value: Any) -> Any:
    """Leave out ``level: dft``, which is the default."""
    if isinstance(value, dict) and value.get("level") == "dft":
        return {key: entry for key, entry in value.items() if key != "level"}
    return value


LEVEL_KINDS: dict[str, type[Entries]] = {"dft": DFTSettings, "cheap": CheapLevel}
MinimiseLevel = Annotated[
    Annotated[DFTSettings, Tag("dft")] | Annotated[CheapLevel, Tag("cheap")],
    Discriminator(_kind),
    BeforeValidator(_without_name),
]


HINTS = {
    "inputs": "give a list, with SMILES in quotes, because YAML reads NO and ON as false and true",
    "minimise": "write entries such as {level: gfn2-xtb}",
}


class RemoteConfig(Entries):
    """Settings for running a flow with jobflow-remote.

    Attributes
    ----------
    project : str
        Project of jobflow-remote; default: the default project.
    restarts : int
        How often a job is restarted after it ran out of time or memory, or lost its node.
    relax, minimise : StageResources
        Resources of the jobs of the model and of the level. Missing entries are estimated: a GPU if
        the model uses one, cores and memory from the basis set of DFT.
    """

    project: str = ""
    restarts: int = Field(default=3, ge=0)
    relax: StageResources = StageResources()
    minimise: StageResources = StageResources()


class FlowConfig(Entries):
    """A flow: molecules, stages, and where results are stored.

    Attributes
    ----------
    inputs : tuple of str
        SMILES and files, as on the command line.
    charge : int
        Charge of geometries without one in ``.xyz`` and ``.pdb`` files.
    folder : path
        Folder for units of work, checkpoints, the log and the embedded store.
    work : str
        Folder of units of work and checkpoints, with the same path on all workers. Default: in
        ``folder``.
    model, device, noise_level, seed, batch_size
        Settings of the diffusion model; see `diffrelax.flows.DiffusionRelaxMaker`.
    minimise : DFTSettings or CheapLevel
        Level of the final relaxation. The ``calculator`` of DFT is a profile, or its file.
    minimise_batch_size : int
        Molecules per job of the level; see `diffrelax.flows.RelaxFlowMaker`.
    store : str
        See `diffrelax.flows.stores.open_store`. Default: an SQLite file in ``folder``, or with the
        remote engine the store of the project.
    remote : RemoteConfig
        Settings of the remote engine.
    """

    inputs: tuple[str, ...] = Field(min_length=1)
    charge: int | None = Field(default=None, exclude_if=lambda charge: charge is None)
    folder: Path
    model: str = "default"
    device: str = "cpu"
    noise_level: float | None = None
    seed: Annotated[int, AfterValidator(check_seed)] = 42
    batch_size: int = Field(default=64, gt=0)
    minimise: MinimiseLevel = DFTSettings()
    minimise_batch_size: int = Field(default=1, gt=0)
    work: str = ""
    store: str = ""
    remote: RemoteConfig = RemoteConfig()

    @field_validator("inputs", mode="before")
    @classmethod
    def _one_or_many(cls, inputs: Any) -> Any:
        return (inputs,) if isinstance(inputs, str) else inputs

    @classmethod
    def read(cls, path: Path) -> FlowConfig:
        """Read a flow file; paths in it are relative to its folder.

        Raises
        ------
        ValueError
            If the file is missing, is not YAML, or holds an unknown or wrong entry.
        """
        record = read_entries(path, "flow", "inputs: [CCO]")
        home = path.resolve().parent
        folder = record.get("folder", path.stem)
        if isinstance(folder, str) and (home / folder).is_file():
            raise InputError(
                f"{path}: {folder}, the folder for its results, is a file: choose another folder"
            )
        minimise = record.get("minimise")
        if isinstance(minimise, dict) and isinstance(minimise.get("calculator"), str):
            profile = read_profile(home / minimise["calculator"])
            record["minimise"] = minimise | {"calculator": profile}
        try:
            config = cls.model_validate({"folder": path.stem} | record)
        except ValidationError as error:
            raise InputError(explain(error, path)) from error
        return config.model_copy(
            update={
                "inputs": tuple(_input_at(home, text) for text in config.inputs),
                "model": _model_at(home, config.model),
                "folder": home / config.folder,
                "work": str(home / config.work) if config.work else "",
                "store": _store_at(home, config.store),
            }
        )

    @property
    def results(self) -> str:
        """Store of the results; see `diffrelax.flows.stores.open_store`."""
        return self.store or str(self.folder.resolve() / "store")

    def flow(self) -> Flow:
        """Return the flow.

        Raises
        ------
        ValueError
            If the level is unknown, there are no molecules, or a charge is given without a file
            that may lack one.
        """
        check_charge(self.charge, self.inputs)
        return self.maker().make(self.inputs, charge=self.charge)

    def maker(self) -> RelaxFlowMaker:
        """Return the Maker of the flow.

        Raises
        ------
        ValueError
            If the level is unknown.
        """
        work = str(Path(self.work or self.folder / "work").resolve())  # jobs run in other folders
        minimise: MoleculeMaker
        if isinstance(self.minimise, DFTSettings):
            settings = self.minimise.model_dump()
            minimise = DFTRelaxMaker(work=work, settings=settings)
        else:
            level = self.minimise
            minimise = ForceFieldRelaxMaker(name=level.level, work=work, **level.model_dump())
        relax = DiffusionRelaxMaker(
            model=_model_at(Path.cwd(), self.model),
            device=self.device,
            noise_level=self.noise_level,
            seed=self.seed,
            work=work,
        )
        return RelaxFlowMaker(
            relax_maker=relax,
            minimise_maker=minimise,
            batch_size=self.batch_size,
            minimise_batch_size=self.minimise_batch_size,
        )


def _input_at(home: Path, text: str) -> str:
    return str(home / text) if is_path(text) else text


def _model_at(home: Path, name: str) -> str:
    from diffrelax.models.release import own_weights  # slow to import

    own = own_weights(name, home)
    return str(home / name) if own and own.is_file() else name


def _store_at(home: Path, text: str) -> str:
    return text if not text or text.startswith((*MONGODB, PROJECT)) else str(home / text)


def explain(error: ValidationError, path: Path) -> str:
    """Describe the errors of a flow file, with suggestions."""
    lines = []
    for problem in error.errors():
        path_of_keys = [str(part) for part in problem["loc"]]
        *where, key = path_of_keys
        if where[:1] == ["minimise"]:  # the second part says which kind of level
            *where, key = ["minimise", *path_of_keys[2:]]
        place = f"in {'.'.join(where)}" if where else "at the top"
        if problem["type"] == "extra_forbidden":
            known = _known_keys(path_of_keys[:-1])
            close = get_close_matches(key, known, n=1)
            meant = f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"
            lines.append(f"unknown key {key!r} {place}: {meant}")
        else:
            lines.append(f"{'.'.join((*where, key))}: {wrong_with(problem)}")
            is_ours = problem["type"] == "value_error"  # and says itself what to do
            if path_of_keys[0] in HINTS and len(path_of_keys) < 3 and not is_ours:
                lines.append(HINTS[path_of_keys[0]])
    return f"{path} is not a flow: {'; '.join(dict.fromkeys(lines))}"


def _known_keys(where: list[str]) -> list[str]:
    model: type[Entries] = FlowConfig
    for part in where:
        if part in LEVEL_KINDS:
            return sorted(LEVEL_KINDS[part].model_fields)
        if part == "minimise" and model is FlowConfig:
            continue
        inner = model.model_fields[part].annotation
        if not (isinstance(inner, type) and issubclass(inner, Entries)):
            break
        model = inner
    return sorted(model.model_fields)
