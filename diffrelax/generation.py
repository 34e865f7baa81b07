"""New molecules out of noise: exploration, then relaxation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import islice
from pathlib import Path

import ase
import h5py
import numpy as np
import torch
from rdkit import Chem
from tqdm.auto import tqdm

from diffrelax.atomic import replacing
from diffrelax.diffusion.generation import draw_noise, generate_positions
from diffrelax.diffusion.joint import GenerationConfig, JointDenoiser
from diffrelax.models.release import Model
from diffrelax.molecule import Molecule
from diffrelax.molecule.embedding import check_seed

MOLECULES_IN_BATCH = 100


@dataclass(frozen=True, eq=False)
class Trajectory:
    """How a molecule came out of noise.

    Parameters
    ----------
    levels : (n_levels,) array, Å
        Falling noise levels.
    numbers : (n_levels, n_atoms) array
        Most probable elements at each level.
    positions : (n_levels, n_atoms, 3) array, Å
        Noisy positions.
    estimates : (n_levels, n_atoms, 3) array, Å
        What the model expects the end to be.
    """

    levels: np.ndarray
    numbers: np.ndarray
    positions: np.ndarray
    estimates: np.ndarray


@dataclass(frozen=True, eq=False)
class Generated:
    """What came out of noise once.

    Parameters
    ----------
    atoms : ase.Atoms
        ``info`` holds the SMILES, or the reason why it is not a molecule.
    molecule : Molecule or None
        If the atoms make a connected, neutral, closed-shell molecule whose bonds can be perceived.
    reason : str
        Why it is not a molecule.
    trajectory : Trajectory or None
    """

    atoms: ase.Atoms
    molecule: Molecule | None
    reason: str
    trajectory: Trajectory | None = None


def generate(
    model: Model,
    n: int = 100,
    *,
    seed: int = 42,
    trajectories: bool = False,
    progress: bool = False,
) -> list[Generated]:
    """Generate molecules.

    The numbers of atoms are drawn from those of the training data. The same seed gives the same
    molecules for the same ``n``.

    Parameters
    ----------
    model : Model
        One that can generate, such as ``generate-qm9``.
    n : int
    seed : int
    trajectories : bool
        Whether to keep how each of them came to be.
    progress : bool
        Show a progress bar on standard error.

    Raises
    ------
    ValueError
        If the model cannot generate, ``n`` is not positive, or the seed is out of range.
    """
    made = generate_each(model, n, seed=seed, trajectories=trajectories, progress=progress)
    found = dict(made)
    return [found[i] for i in range(n)]


def generate_each(
    model: Model,
    n: int,
    *,
    seed: int,
    trajectories: bool = False,
    skip: int = 0,
    progress: bool = False,
) -> Iterator[tuple[int, Generated]]:
    """Generate molecules as `generate` does, and hand each over with its place among them.

    They come in batches of `MOLECULES_IN_BATCH`, the smallest molecules first. The first ``skip``
    that would come are left out, and whole batches of them are not made.
    """
    check_seed(seed)
    if n < 1:
        raise ValueError(f"n = {n}: ask for at least one molecule")
    settings, denoiser = model.config.generation, model.denoiser
    if settings is None or not isinstance(denoiser, JointDenoiser):
        raise ValueError(f"the model {model.name} only relaxes: choose one that generates")
    generator = torch.Generator().manual_seed(seed)
    sizes = _draw_sizes(settings, n, generator)
    return _generate_batches(denoiser, settings, sizes, generator, trajectories, skip, progress)


def _generate_batches(
    denoiser: JointDenoiser,
    settings: GenerationConfig,
    sizes: torch.Tensor,
    generator: torch.Generator,
    trajectories: bool,
    skip: int,
    progress: bool,
) -> Iterator[tuple[int, Generated]]:
    scales = denoiser.config
    levels = np.geomspace(scales.sigma_max, scales.sigma_min, settings.n_levels).tolist()
    total = len(sizes) * len(levels)
    with tqdm(total=total, unit="level", disable=None if progress else True) as bar:
        for batch in sizes.argsort(stable=True).split(MOLECULES_IN_BATCH):
            if skip >= len(batch):
                draw_noise(denoiser, sizes[batch], levels, generator)
                bar.update(len(batch) * len(levels))
                skip -= len(batch)
                continue
            made = _generate_batch(denoiser, sizes[batch], levels, generator, trajectories, bar)
            yield from islice(zip(batch.tolist(), made, strict=True), skip, None)
            skip = 0


def _draw_sizes(settings: GenerationConfig, n: int, generator: torch.Generator) -> torch.Tensor:
    sizes = torch.tensor(list(settings.sizes))
    weights = torch.tensor(list(settings.sizes.values()), dtype=torch.float64)
    return sizes[torch.multinomial(weights, n, replacement=True, generator=generator)]


def _generate_batch(
    denoiser: JointDenoiser,
    sizes: torch.Tensor,
    levels: list[float],
    generator: torch.Generator,
    trajectories: bool,
    bar: tqdm,
) -> Iterator[Generated]:
    elements = np.array(denoiser.network.elements)
    frames: list[tuple[np.ndarray, ...]] = []

    def observe(level: float, positions: torch.Tensor, *believed: torch.Tensor) -> None:
        bar.update(len(positions))
        if trajectories:
            estimate, probabilities = (tensor.cpu().numpy() for tensor in believed)
            frames.append((elements[probabilities.argmax(-1)], positions.cpu().numpy(), estimate))

    atoms = generate_positions(denoiser, sizes, levels, generator, observe)
    numbers, positions = atoms[0].cpu().numpy(), atoms[1].cpu().double().numpy()
    for i, size in enumerate(sizes.tolist()):
        trajectory = None
        if trajectories:
            steps = (np.stack([frame[k][i, :size] for frame in frames]) for k in range(3))
            trajectory = Trajectory(np.array(levels), *steps)
        yield judge(ase.Atoms(numbers[i, :size], positions[i, :size]), trajectory)


def judge(atoms: ase.Atoms, trajectory: Trajectory | None = None) -> Generated:
    """Find out whether atoms make a connected, neutral, closed-shell molecule."""
    molecule = None
    try:
        read = Molecule.from_atoms(atoms)
        reason = _fault(read)
        molecule = None if reason else read
    except ValueError as error:
        reason = str(error)
    atoms.info |= {"smiles": molecule.smiles if molecule else "", "reason": reason}
    return Generated(atoms, molecule, reason, trajectory)


def _fault(molecule: Molecule) -> str:
    if molecule.multiplicity != 1:
        return "an odd number of electrons"
    if not molecule.bonds:
        return "no bond orders fit its geometry"
    if (fragments := len(Chem.GetMolFrags(molecule.to_rdkit()))) > 1:
        return f"{fragments} fragments"
    return ""


def write_trajectories(path: Path, made: Sequence[Generated]) -> None:
    """Write trajectories to an HDF5 file, all or nothing.

    The group ``i`` holds those of the i-th, from 0: ``levels`` (n_levels,) in Å, ``numbers``
    (n_levels, n_atoms), ``positions`` and ``estimates`` (n_levels, n_atoms, 3) in Å; see
    :class:`Trajectory`. Its attribute ``smiles`` is empty if it is not a molecule.
    """
    with replacing(path) as part, h5py.File(part, "w") as file:
        for i, one in enumerate(made):
            if one.trajectory is None:
                continue
            group = file.create_group(str(i))
            group.attrs["smiles"] = one.atoms.info["smiles"]
            for field in fields(Trajectory):
                values = getattr(one.trajectory, field.name)
                group.create_dataset(field.name, data=values, compression="gzip")


def read_trajectories(path: Path) -> dict[int, Trajectory]:
    """Read what :func:`write_trajectories` wrote.

    Raises
    ------
    ValueError
        If the file is missing, damaged, or not of this kind.
    """
    names = [field.name for field in fields(Trajectory)]
    try:
        with h5py.File(path) as file:
            return {
                int(i): Trajectory(*(group[name][()] for name in names))
                for i, group in sorted(file.items(), key=lambda item: int(item[0]))
            }
    except (OSError, KeyError, ValueError) as error:
        raise ValueError(
            f"{path} is missing, damaged, or holds no trajectories: {error}"
        ) from error
