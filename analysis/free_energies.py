"""Free energies beside those of NWChem, and of GoodVibes by NWChem's frequencies.

Run: OMP_NUM_THREADS=1 python analysis/free_energies.py analysis/results/free_energies.json
Needs the program nwchem and the package goodvibes. Goes on where it was stopped.

Ten molecules with what can go wrong: linear ones with and without a centre of inversion, spherical
and symmetric tops, rotors that are nearly free, hydroxyl groups, a stereocentre, an ion, a radical.
Each is relaxed and its Hessian calculated at HF/6-31G*, which needs no integration grid; NWChem
calculates the Hessian at the same geometry. It finds the symmetry number by itself, gives its atoms
the masses of the most abundant isotopes, leaves imaginary modes out, and knows no entropy of the
spin, so R ln(2S + 1) is added to its own. GoodVibes takes what is left of an imaginary mode as
real, as we do, has the symmetry number from pymsym, and limits the moment of inertia of soft
rotors by 10⁻⁴⁴ kg m², as in Grimme's paper, where ours are limited by the mean of the molecule.
"""

import json
import re
import subprocess
import sys
from math import log
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ase.units import Hartree, kB
from dft_speedup import about
from goodvibes import compute_thermo
from goodvibes.io import parse_nwchem_thermo
from records import store
from tqdm import tqdm

from diffrelax.atomic import write_text
from diffrelax.dft import DFTSettings
from diffrelax.dft.minimum import NOISE
from diffrelax.dft.optimization import relax_with
from diffrelax.molecule import Molecule
from diffrelax.results.tables import markdown_table
from diffrelax.store import Store
from diffrelax.units import KCAL_PER_MOL

MOLECULES = {
    "carbon dioxide": "O=C=O",
    "cyanoacetylene": "C#CC#N",
    "methane": "C",
    "methyl radical": "[CH3]",
    "methylammonium": "C[NH3+]",
    "2-butyne": "CC#CC",
    "nitromethane": "C[N+](=O)[O-]",
    "ethanol": "CCO",
    "ethylene glycol": "OCCO",
    "(R)-lactonitrile": "C[C@@H](O)C#N",
}
LEVEL = DFTSettings(xc="hf", basis="6-31G*", density_fit=False, fmax=0.003, thermo="dft")
OF_BOTH = ("electrons", "zero_point", "enthalpy", "heat_of_entropy", "gibbs")
HARTREE = Hartree / KCAL_PER_MOL
INPUT = """start molecule
charge {charge}
geometry units angstrom noautoz
{atoms}
end
basis spherical
 * library 6-31G*
end
dft
 xc hfexch 1.0
 mult {multiplicity}
 convergence energy 1e-9 density 1e-8 gradient 1e-6
end
task dft freq
"""
OF_NWCHEM = {
    "electrons": r"Total DFT energy = +(\S+)",
    "zero_point": r"Zero-Point correction to Energy +=.*\( +(\S+) au",
    "thermal": r"Thermal correction to Enthalpy +=.*\( +(\S+) au",
    "entropy": r"Total Entropy += +(\S+)",
    "symmetry": r"symmetry # += +(\d+)",
}


def main(path: Path) -> None:
    """Compare the molecules that the file does not hold yet, and write the table."""
    found = json.loads(path.read_text(encoding="utf-8"))["molecules"] if path.exists() else {}
    begun = path.with_suffix(".sqlite")
    for name, smiles in tqdm(MOLECULES.items(), unit="mol"):
        if name not in found:
            molecule = Molecule.from_smiles(smiles, name=name)
            found[name] = {"smiles": smiles, **compare(molecule, Store(begun))}
            made = about(LEVEL, "training and validation, and not in QM9") | {"molecules": found}
            store(path, made)
            write_text(path.with_suffix(".md"), table(found) + "\n")
    begun.unlink(missing_ok=True)
    print(table(found))


def compare(start: Molecule, work: Store) -> dict[str, Any]:
    """Return what each program tells of a molecule, kcal/mol at 298.15 K and 1 atm."""
    relaxation = relax_with(start, LEVEL, store=work)
    gas = relaxation.thermochemistry
    assert gas is not None, relaxation.reason
    ours = {
        "electrons": relaxation.energy / KCAL_PER_MOL,
        "zero_point": gas.zero_point_energy / KCAL_PER_MOL,
        "enthalpy": gas.enthalpy / KCAL_PER_MOL,
        "heat_of_entropy": gas.temperature * gas.entropy / KCAL_PER_MOL,
        "gibbs": gas.gibbs_energy / KCAL_PER_MOL,
        "gibbs_quasi_harmonic": gas.gibbs_energy_quasi_harmonic / KCAL_PER_MOL,
        "symmetry": gas.symmetry_number,
        "frequencies": gas.frequencies,
    }
    minimum = relaxation.molecule
    with TemporaryDirectory() as folder:
        output = run_nwchem(minimum, Path(folder))
        nwchem = read_nwchem(output.read_text(), minimum.multiplicity, gas.temperature)
        goodvibes = read_goodvibes(output)
    return {
        "positions": minimum.positions.tolist(),
        "diffrelax": ours,
        "nwchem": nwchem,
        "goodvibes": goodvibes,
    }


def run_nwchem(molecule: Molecule, folder: Path) -> Path:
    """Calculate the Hessian of a molecule with NWChem, and return the output."""
    places = zip(molecule.symbols, molecule.positions, strict=True)
    atoms = "\n".join(f" {symbol} {x:.8f} {y:.8f} {z:.8f}" for symbol, (x, y, z) in places)
    (folder / "molecule.nw").write_text(
        INPUT.format(charge=molecule.charge, multiplicity=molecule.multiplicity, atoms=atoms)
    )
    output = folder / "molecule.out"
    with output.open("w") as told:
        subprocess.run(["nwchem", "molecule.nw"], cwd=folder, stdout=told, check=True)
    return output


def read_nwchem(text: str, multiplicity: int, temperature: float) -> dict[str, Any]:
    """Read the thermochemistry, with the entropy of the spin; kcal/mol."""
    told = {name: float(re.findall(wanted, text)[-1]) for name, wanted in OF_NWCHEM.items()}
    enthalpy = (told["electrons"] + told["thermal"]) * HARTREE
    entropy = told["entropy"] / 1000 + kB * log(multiplicity) / KCAL_PER_MOL
    lines = re.findall(r"P\.Frequency(.*)", text)
    return {
        "electrons": told["electrons"] * HARTREE,
        "zero_point": told["zero_point"] * HARTREE,
        "enthalpy": enthalpy,
        "heat_of_entropy": temperature * entropy,
        "gibbs": enthalpy - temperature * entropy,
        "symmetry": int(told["symmetry"]),
        "frequencies": [value for line in lines for value in map(float, line.split()) if value],
    }


def read_goodvibes(output: Path) -> dict[str, Any]:
    """Return what GoodVibes makes of an output of NWChem, kcal/mol."""
    read = parse_nwchem_thermo(str(output))
    if 0.0 in read.rotemp:  # that the molecule is linear is not read of NWChem
        read.linear_mol, read.rotemp = True, [max(read.rotemp)]
    gas = compute_thermo(qcdata=read, symm=True, freq_scale_factor=1.0, invert=-NOISE)
    return {
        "zero_point": gas.zpe * HARTREE,
        "enthalpy": gas.enthalpy * HARTREE,
        "gibbs": gas.gibbs_free_energy * HARTREE,
        "gibbs_quasi_harmonic": gas.qh_gibbs_free_energy * HARTREE,
        "symmetry": gas.symmno,
    }


def table(found: dict[str, Any]) -> str:
    """Show what ours are above those of the others, kcal/mol."""
    rows = []
    for name, one in found.items():
        ours, nwchem, goodvibes = one["diffrelax"], one["nwchem"], one["goodvibes"]
        off = [ours[quantity] - nwchem[quantity] for quantity in OF_BOTH]
        off += [ours[gibbs] - goodvibes[gibbs] for gibbs in ("gibbs", "gibbs_quasi_harmonic")]
        rows.append((
            name,
            ", ".join(str(told["symmetry"]) for told in (ours, nwchem, goodvibes)),
            f"{ours['frequencies'][0]:.0f}",
            *(f"{value:+.3f}" for value in off),
            f"{ours['gibbs_quasi_harmonic'] - ours['gibbs']:.2f}",
        ))  # fmt: skip
    header = (
        "molecule", "symmetry number, of NWChem, of pymsym", "lowest frequency, cm⁻¹",
        "electrons", "zero point", "enthalpy", "temperature · entropy", "Gibbs energy",
        "above GoodVibes: Gibbs energy", "quasi-harmonic", "quasi-harmonic above harmonic",
    )  # fmt: skip
    return markdown_table(header, rows)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
