"""The page of the conformers of a molecule: energies and weights, and each of them in 3D."""

from __future__ import annotations

from diffrelax.results.page import Page, Row, Table, View
from diffrelax.results.rows import Columns, column
from diffrelax.sampling.ensemble import Ensemble
from diffrelax.units import KCAL_PER_MOL

MOST_FRAMES = 200  # of one molecule, to be chosen from
TEXT = (
    "Distinct minima, by rising energy above the lowest. A weight is proportional to "
    "(m/s) exp(−E/kT), with the symmetry number s of the rotations, and m = 2 where the mirror "
    "image is another geometry of the same molecule; where there are free energies, to "
    "(m/s) exp(−G₁/kT), G₁ without its own symmetry number. How often a conformer was found counts "
    "embeddings and geometries of turned torsions."
)


class ConformerRow(Columns):
    """What people are told of a conformer."""

    number: int = column("by rising energy, from 1", "conformer")
    energy: float = column("above the lowest, eV", "energy, kcal/mol", ".2f", KCAL_PER_MOL)
    gibbs_energy: float | None = column(
        "above that of the same one, eV", "free energy, kcal/mol", ".2f", KCAL_PER_MOL, default=None
    )
    weight: float = column("of Boltzmann", "weight, %", ".1f", 0.01)
    symmetry_number: int = column("of rotations", "symmetry number")
    mirror_images: int = column("2 if its mirror image counts too, else 1", "mirror images")
    n_starts: int = column(
        ("number of embeddings and rotated geometries that led here"), "found, times"
    )
    start: str = column("the first of them", "first start")


def conformer_rows(found: Ensemble) -> list[ConformerRow]:
    """Tell of each conformer of an ensemble."""
    lowest = found.infos[0]
    above = {"energy": "energy_ev", "gibbs_energy": "gibbs_energy_quasi_harmonic_ev"}
    told = {row: column for row, column in above.items() if column in lowest}
    return [
        ConformerRow(
            number=i,
            **{row: info.pop(column) - lowest[column] for row, column in told.items()},
            **info,
        )
        for i, info in enumerate(found.infos, start=1)
    ]


def conformers_page(found: Ensemble, command: str, elsewhere: str) -> Page:
    """Return the page of conformers.

    Parameters
    ----------
    found : Ensemble
        As `diffrelax.sample_conformers` returns it.
    command : str
        That made it.
    elsewhere : str
        See `diffrelax.results.page.Page`.
    """
    level, temperature, molecule = str(found.level), f"{found.temperature:g} K", found.molecule
    shown = {str(i): one for i, one in enumerate(found.molecules[:MOST_FRAMES], start=1)}
    told_of = conformer_rows(found)
    names = [name for name in ConformerRow.model_fields if getattr(told_of[0], name) is not None]
    rows = [
        Row(cells, 0 if cells[0] in shown else None, cells[:1])
        for cells in (row.cells(names) for row in told_of)
    ]
    limit = f" The lowest {MOST_FRAMES} can be looked at in 3D." if len(rows) > len(shown) else ""
    sections = [Table("Conformers", TEXT + limit, ConformerRow.header(names), rows)]
    if notes := found.provenance.notes:
        sections.append(Table("Notes", "", ("note",), [Row((note,)) for note in notes]))
    told = [f"{len(found)} conformers at {level}, {temperature}"]
    return Page(
        title=f"Conformers of {molecule.name}",
        subtitle=molecule.smiles if molecule.smiles != molecule.name else molecule.formula,
        facts={"conformers": str(len(found)), "level": level, "temperature": temperature},
        sections=sections,
        views=[View(molecule.name, molecule.smiles, told, shown, onto="1")],
        made={"command": command, "level": level, "temperature": temperature}
        | found.provenance.model_dump(mode="json", exclude={"notes", "reweighted_from"}),
        elsewhere=elsewhere,
    )
