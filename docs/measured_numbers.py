"""The measured numbers and tables that the text shows, read from the committed results."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from math import nan
from pathlib import Path
from typing import Any

import numpy as np
from speedup_numbers import (
    NAMES,
    drug_molecules_table,
    gain_table,
    geom_table,
    only_table,
    sizes_table,
    speedup_numbers,
    starts_gain_table,
    stopping_table,
    water_table,
)

from diffrelax.benchmark.estimates import Estimate
from diffrelax.results.tables import markdown_table


def measured_numbers(results: Path) -> dict[str, Any]:
    """Return what pages quote between double braces: numbers as text, and tables.

    Parameters
    ----------
    results : path
        The folder of committed results.
    """
    speedups, reach = results / "dft_speedup", results / "dft_reach"
    drugs, ions = reach / "b3lyp-def2svp", reach / "ions"
    return _kept_together(
        {
            "small": speedup_numbers(speedups / "small" / "report.md"),
            "qm9": speedup_numbers(speedups / "qm9" / "report.md"),
            "hybrid": speedup_numbers(speedups / "wb97x-d3bj" / "report.md"),
            "chosen": speedup_numbers(speedups / "validation" / "report.md"),
            "not_chosen": speedup_numbers(speedups / "validation" / "report.md", "bfgs+hessian"),
            "untuned": speedup_numbers(results / "finetuning" / "before" / "report.md"),
            "tuned": speedup_numbers(results / "finetuning" / "after" / "report.md"),
            "drugs": speedup_numbers(drugs / "report.md"),
            "drugs_table": starts_gain_table(drugs / "report.md"),
            "drug_molecules_table": drug_molecules_table(drugs / "molecules.csv"),
            "ions": speedup_numbers(ions / "report.md"),
            "ions_table": starts_gain_table(ions / "report.md"),
            "gain_table": gain_table(
                speedups / "qm9" / "report.md", speedups / "small" / "report.md"
            ),
            "sizes_table": sizes_table(speedups / "qm9" / "molecules.csv"),
            "stopping_table": stopping_table(speedups / "stopping_rules.md"),
            "geom_table": geom_table(results / "geom" / "report.md"),
            "water_table": water_table(results / "water" / "water.md"),
            "geometry_table": geometry_table([results / "relax-qm9-2" / "geometry.json"]),
            "starts_table": geometry_table(
                results / "relax-qm9-2" / f"geometry-{start}.json"
                for start in ("embedded", "uff", "gfn2-xtb", "minimum")
            ),
            "new_level_table": only_table(results / "relax-reach-1" / "new_level.md"),
            "yardstick_table": yardstick_table(results / "yardsticks"),
            "torsions_table": torsions_table(results / "relax-reach-3" / "torsions.json"),
            "opinions": opinion_numbers(results / "relax-reach-2" / "second_opinions.json"),
            "strained_table": strained_table(results / "strained_rings.json"),
            "strained_cautions": strained_cautions(results / "strained_rings.json"),
            "reach_table": reach_table(results / "relax-reach-3" / "reach" / "reach.json"),
            "speed_curve_table": speed_curve_table(
                results / "relax-reach-1" / "speed" / "speed_curve.json"
            ),
            "blas": blas_numbers(results / "relax-reach-1" / "speed" / "speed_curve.json"),
            "speed_table": speed_table(results / "relax-qm9-2"),
            "conformers_table": conformers_table(sorted((results / "conformers").glob("*.json"))),
            "jumps_table": jumps_table(results / "boltzmann" / "jumps.json"),
            "sampling_table": sampling_table(sorted((results / "boltzmann").glob("qm9-*.json"))),
            "overhead": overhead_numbers(results / "overhead.json"),
            "cold_start": _cold_start(results / "relax-qm9-2" / "speed-1-thread.json"),
            "start_table": start_table(results / "start_up.json", "relax"),
            "cluster_start_table": start_table(results / "start_up.json", "cluster job"),
            "start": start_numbers(results / "start_up.json"),
            "threads_table": threads_table(results / "threads.json"),
            "flow_table": flow_table(results / "flow_overhead.json"),
            "cumulenes_table": cumulenes_table(results / "relax-qm9-2" / "cumulenes.json"),
            "generated": generation_numbers(results / "generate-qm9-2" / "quality.json"),
        }
    )


def _kept_together(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _kept_together(item) for key, item in value.items()}
    return keep_together(value)


def keep_together(text: str) -> str:
    """Keep the two ends of each interval, and each ratio of sums, on one line."""
    text = re.sub(r"(\d) : (\d)", "\\1\u00a0:\u00a0\\2", text)
    return re.sub(r"\[([\d.%]+), ([\d.%]+)\]", "[\\1,\u00a0\\2]", text)


def geometry_table(files: Iterable[Path]) -> str:
    """Return the errors of geometries: medians with their intervals, one row for each method."""
    rows = []
    for result in map(_read, files):
        for row in result["rows"]:
            itself = row["method"] == result["start"]
            rows.append(
                (
                    NAMES.get(result["start"], result["start"]),
                    str(row["n"]),
                    "the start itself" if itself else NAMES.get(row["method"], row["method"]),
                    _interval(row, "rmsd", 1, 3),
                    _interval(row, "bonds", 1e3, 1),
                    _interval(row, "angles", 1e3, 1),
                    _interval(row, "torsions", 1, 1),
                )
            )
    header = (
        "start", "molecules", "relaxed by", "aligned RMSD, Å", "bonds, mÅ", "1–3 distances, mÅ",
        "torsions, °",
    )  # fmt: skip
    return markdown_table(header, rows)


def reach_table(file: Path) -> str:
    """Return the errors at each level of theory, peers beside the model on the same molecules."""
    rows = []
    for source in _read(file)["sources"]:
        for row in source["rows"]:
            group = row["group"]
            if group in ("all", "new scaffold", "ions") or "peers" in group:
                medians = (f"{_estimate(row[q]) / 1e-3:.1f}" for q in ("bonds", "angles"))
                inside = f"{_estimate(row['rmsd_inside']):.3f}"
                method = NAMES.get(row["method"], row["method"])
                n = str(row["molecules"])
                rows.append((source["level"], group, n, method, *medians, inside))
    header = (
        "level of theory", "test molecules", "number", "relaxed by", "bonds, mÅ",
        "1–3 distances, mÅ", "RMSD in the basin, Å",
    )  # fmt: skip
    return markdown_table(header, rows)


def _estimate(values: Sequence[float | None]) -> Estimate:
    return Estimate(*(nan if value is None else value for value in values))


def _interval(row: dict[str, Any], quantity: str, scale: float, digits: int) -> str:
    value, low, high = (row[k][quantity] * scale for k in ("median", "low", "high"))
    return f"{value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def torsions_table(file: Path) -> str:
    """Return how many ends lie in the well of a torsion drive, and how far from its bottom."""
    names = {"start": "start", **NAMES, "model": "`relax-reach-3`"}
    rows = []
    for way in ("start", "mmff94", "gfn2-xtb", "aimnet2", "model"):
        ends = [end[way] for drive in _read(file)["drives"].values() for end in drive["ends"]]
        inside = [abs(end["off"]) for end in ends if end["in_well"]]
        off = (f"{np.quantile(inside, share):.1f}" for share in (0.5, 0.75, 0.9))
        rows.append((names.get(way, way), f"{len(inside)} of {len(ends)}", *off))
    header = ("", "in the well", "off its bottom, degrees: median", "75%", "90%")
    return markdown_table(header, rows)


def yardstick_table(folder: Path) -> str:
    """Return the sums of gradients on the known sets, one row for each arm."""
    rows = []
    for file in sorted(folder.glob("*.json")):
        page = _read(file)
        molecules = page["molecules"].values()
        steps = sum(record["published"]["paper_steps"] for record in molecules)
        rows.append((file.stem, page["level"], "published steps", str(steps)))
        for arm in next(iter(molecules))["arms"]:
            counts = [record["arms"][arm]["gradients"] for record in molecules]
            rows.append((file.stem, page["level"], arm, str(sum(counts))))
    return markdown_table(("set", "level of theory", "start, recipe", "sum"), rows)


def opinion_numbers(file: Path) -> dict[str, str]:
    """Return how often GFN2-xTB is asked about double bonds, and how many ends fall back for it."""
    levels = _read(file)["levels"]
    asked, fell_back, relaxed = (
        sum(row[name] for row in levels) for name in ("rebonded", "fell_back", "relaxed")
    )
    lost = str(fell_back) if fell_back else "none"
    return {"asked": f"{asked / relaxed:.0%}", "of": f"{relaxed:,}", "fell_back": lost}


def strained_table(file: Path) -> str:
    """Return how strained rings end, by what they are for and by level."""
    header = ("rings", "level", "n", "GFN2-xTB's minimum instead", "without a caution",
              "of these more than 3 kcal/mol up", "highest of these, kcal/mol")  # fmt: skip
    counts = ("rings", "fell_back", "silent", "silently_up")
    rows = [
        (row["use"], row["level"], *(str(row[name]) for name in counts),
         f"{row['highest_silent']:.1f}")
        for row in _read(file)["summary"]["rings"]
    ]  # fmt: skip
    return markdown_table(header, rows)


def strained_cautions(file: Path) -> str:
    """Return how many ordinary molecules get a caution of strain, level by level."""
    rows = _read(file)["summary"]["ordinary"]
    return " and ".join(f"{row['cautions']} of {row['n']:,} ({row['level']})" for row in rows)


def speed_curve_table(file: Path) -> str:
    """Return the time of a relaxation against its atoms, and of other methods."""
    page = _read(file)
    names = NAMES | {"model": f"`{page['model']}`", "xtb --opt": "`xtb --opt`"}
    rows = [
        (
            names[row["method"]] + (f" with {row['blas']}" if "blas" in row else ""),
            row["molecules"],
            f"{row['mean_atoms']:.0f}",
            f"{row['milliseconds']:,.0f}",
            f"{row['processor_milliseconds']:,.0f}",
            f"{row['peak_mib']:,}" if row["method"] != "xtb --opt" else "–",
        )
        for row in page["rows"]
    ]
    header = (
        "relaxed by", "molecules", "atoms", "ms for each", "ms of the processors", "peak MiB",
    )  # fmt: skip
    return markdown_table(header, rows)


def blas_numbers(file: Path) -> dict[str, str]:
    """Return the seconds of a GFN2-xTB relaxation, with the BLAS that a program brings and not."""
    return {
        row["method"].replace("-", "_").split()[0] + ("_openblas" if "blas" in row else ""): (
            f"{row['milliseconds'] / 1000:.1f}"
        )
        for row in _read(file)["rows"]
        if row["molecules"].startswith("first")
    }


def speed_table(folder: Path) -> str:
    """Return the speed of the model on one thread and on two."""
    one, two = (_read(folder / name) for name in ("speed-1-thread.json", "speed.json"))
    lines: tuple[tuple[str, str, str], ...] = (
        (f"{one['n']:,} molecules in one call, each", "each_milliseconds", "{:.1f} ms"),
        ("one molecule, after loading", "one_milliseconds", "{:.0f} ms"),
        ("`diffrelax relax CCO` from a cold start", "cold_start_seconds", "{:.1f} s"),
        ("training, batches of 64", "training_rate", "{:.0f} molecules/s"),
        ("peak memory", "peak_mib", "{:.0f} MiB"),
    )
    rows = [(what, form.format(one[key]), form.format(two[key])) for what, key, form in lines]
    return markdown_table((one["hardware"].split(",")[0], "1 thread", "2 threads"), rows)


def _cold_start(file: Path) -> str:
    return f"{_read(file)['cold_start_seconds']:.1f} s"


def cumulenes_table(file: Path) -> str:
    """Return how long double bonds are that share an atom, by the model and by DFT."""
    rows = [
        (
            molecule["name"],
            molecule["smiles"],
            ", ".join(f"{length:.3f}" for length in molecule["by_the_model"]),
            ", ".join(f"{length:.3f}" for length in molecule["by_dft"]),
        )
        for molecule in _read(file)["molecules"]
    ]
    header = ("molecule", "SMILES", "double bonds by the model, Å", "by DFT, Å")
    return markdown_table(header, rows)


def conformers_table(files: Iterable[Path]) -> str:
    """Return how many conformers each way has found and covered, over all molecules of a kind."""
    molecules = [one for file in files for one in _read(file)["molecules"]]
    names = {
        "diffrelax": "`conformers`",
        "rdkit": "RDKit, 500 embeddings",
        "rdkit in the time": "RDKit, in that time",
    }
    rows = []
    for kind in dict.fromkeys(m["split"] for m in molecules):
        ours = [m["arms"] for m in molecules if m["split"] == kind]
        for arm, name in names.items():
            told = [arms.get(arm, arms["rdkit"]) for arms in ours]
            windows = [_share_covered(w) for w in zip(*(t["windows"] for t in told), strict=True)]
            rows.append(
                (
                    f"{kind}, {len(told)} molecules",
                    name,
                    *(*windows, "–")[:2],
                    f"{sum(t['lowest_kcal_mol'] < 0.05 for t in told)} of {len(told)}",
                    f"{sum(t['processor_seconds'] for t in told) / len(told):.0f}",
                )
            )
    header = (
        "",
        "",
        "covered within 3 kcal/mol",
        "within 6 kcal/mol",
        "lowest found",
        "processor s, mean",
    )
    return markdown_table(header, rows)


def _share_covered(told: Sequence[dict[str, Any]]) -> str:
    covered, reference = (sum(t[key] for t in told) for key in ("covered", "reference"))
    return f"{covered} of {reference} ({covered / reference:.0%})"


def sampling_table(files: Iterable[Path]) -> str:
    """Return what the effective samples that were wanted take with tuning, way by way."""
    ways = {
        "sample": "`sample`",
        "sample, with the network": "the same with the network",
        "cartesian, torsion jumps": "Metropolis with torsion moves",
        "cartesian": "Metropolis, Cartesian moves only",
    }
    rows = []
    for result in map(_read, files):
        for key, name in ways.items():
            if key not in result["cost"]:
                continue
            cost = result["cost"][key]
            wanted = cost["for_wanted"]
            rows.append(
                (
                    f"`{result['smiles']}`",
                    name,
                    f"{wanted['energy_calls']:,.0f}",
                    f"{wanted['processor_seconds']:.1f}",
                    "yes" if not cost["doubts"] else "no",
                )
            )
    header = ("molecule", "way", "energy calls", "processor s", "converged")
    return markdown_table(header, rows)


def jumps_table(file: Path) -> str:
    """Return what effective samples take with jumps between wells and without."""
    ways = {
        "cartesian, torsion jumps": "Metropolis with torsion moves",
        "sample": "`sample`",
        "sample, with jumps": "`sample --conformers`",
    }
    rows = [
        (
            f"`{smiles}`",
            name,
            f"{costs[way]['for_wanted']['energy_calls']:,.0f}",
            f"{costs[way]['highest_rhat']:.3f}",
            f"{costs[way]['for_wanted']['processor_seconds']:.1f}",
            "yes" if not costs[way]["doubts"] else "no",
        )
        for smiles, costs in _read(file)["molecules"].items()
        for way, name in ways.items()
        if way in costs
    ]
    header = ("molecule", "way", "energy calls", "highest R-hat", "processor s", "converged")
    return markdown_table(header, rows)


def overhead_numbers(file: Path) -> dict[str, str]:
    """Return what a job of a flow costs on a cluster beside its work."""
    result = _read(file)
    return {
        "n": str(result["n"]),
        "hardware": result["hardware"],
        "between": f"{result['seconds_between_jobs']:.1f}",
        "processor": f"{result['worker']['processor_seconds']:.1f}",
        "wall": f"{result['worker']['seconds']:.1f}",
        "runner": f"{result['runner_processor_seconds']:.2f}",
    }


def start_table(file: Path, of: str) -> str:
    """Return how long the parts of a start take, in this version and in the one before."""
    result = _read(file)
    columns = [result["before"][of], result["now"][of]]
    rows = [(part, *(f"{column[part]:.2f}" for column in columns)) for part in columns[0]]
    rows.append(("**together**", *(f"**{sum(column.values()):.2f}**" for column in columns)))
    return markdown_table(("part", "before, s", "now, s"), rows)


def start_numbers(file: Path) -> dict[str, str]:
    """Return how long whole commands take to start, in seconds of processor time."""
    result = _read(file)
    whole = result["now"]["whole"]
    return {
        "hardware": result["hardware"].split(",")[0],
        "load": f"{result['load'][0]:.0f}",
        "import": f"{whole['import diffrelax']:.2f} s",
        "help": f"{whole['diffrelax --help']:.2f} s",
        "relax": f"{whole['diffrelax relax CCO']:.1f} s",
        "relax_before": f"{result['before']['whole']['diffrelax relax CCO']:.1f} s",
    }


def threads_table(file: Path) -> str:
    """Return what threads cost by how they wait, beside a busy process."""
    rows = [
        (arm, f"{taken['processor_seconds']:.1f}", f"{taken['seconds']:.1f}")
        for arm, taken in _read(file)["arms"].items()
    ]
    return markdown_table(("threads", "processor, s", "on the clock, s"), rows)


def flow_table(file: Path) -> str:
    """Return what a flow costs by the number of its molecules, beside its work."""
    flows = _read(file)["flows"]
    alone, *others = flows

    def overhead(flow: dict[str, Any], run: str) -> str:
        work = {"first": flow["work_processor_seconds"] - alone["work_processor_seconds"]}
        more = flow[run]["processor_seconds"] - alone[run]["processor_seconds"] - work.get(run, 0.0)
        return f"{1e3 * more / (flow['n'] - alone['n']):.0f}"

    rows = [
        (
            f"{flow['n']:,}",
            *(f"{flow[run]['processor_seconds']:.0f}" for run in ("first", "again")),
            *(overhead(flow, run) if flow in others else "" for run in ("first", "again")),
            *(f"{flow[run]['peak_mib'] / 1024:.2f}" for run in ("first", "again")),
        )
        for flow in flows
    ]
    header = (
        "molecules", "first run, s", "again, s", "overhead of each, ms", "again, ms", "memory, GB",
        "again, GB",
    )  # fmt: skip
    return markdown_table(header, rows)


def generation_numbers(file: Path) -> dict[str, str]:
    """Return how good generated molecules are."""
    result = _read(file)
    alone, best = result["generated"].values()
    return {
        "n": f"{result['n']:,}",
        "valid": f"{best['valid']:.1%}",
        "valid_alone": f"{alone['valid']:.1%}",
        "novel": f"{best['novel']:.1%}",
    }


def _read(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text(encoding="utf-8"))
