"""Pages that are made of the code and of the committed results, so that nothing is typed twice."""

from __future__ import annotations

import os
import pkgutil
import re
import tomllib
from collections.abc import Iterable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from measured_numbers import keep_together
from pydantic import BaseModel
from typer import Context
from typer.cli import get_docs_for_click
from typer.core import TyperGroup
from typer.main import get_command

import diffrelax
from diffrelax import flows
from diffrelax.benchmark.speedup.rows import OutcomeRow
from diffrelax.cli import app
from diffrelax.dft import DFTSettings
from diffrelax.dft.result import Thermochemistry
from diffrelax.diffusion.schedule import LARGEST_STEP, RelaxationSchedule
from diffrelax.flows.config import CheapLevel, FlowConfig, RemoteConfig
from diffrelax.flows.resources import StageResources
from diffrelax.flows.summary import SummaryRow
from diffrelax.judgement import OWN_RISE, REBONDED, RISE, STRAINED_RISE, UNEVEN
from diffrelax.levels.density_functional import mean_field
from diffrelax.levels.profiles import Profile
from diffrelax.models.release import load_model
from diffrelax.network.config import NetworkConfig
from diffrelax.results import documents, stored
from diffrelax.results.rows import Columns, MoleculeRow, ResultRow
from diffrelax.results.tables import markdown_table
from diffrelax.training.config import ModelConfig, TrainingConfig

ROOT = Path(__file__).parents[1]
REPORTS = ROOT / "analysis" / "results"
CARDS = ROOT / "models"
COMMON_LEVELS = (
    "PBE0/def2-TZVP",
    "B3LYP-D3(BJ)/def2-TZVP",
    "B3LYP/6-31G*",
    "PBE/def2-SVP",
    "TPSS/def2-TZVP",
    "B97-3c",
    "M06-2X/6-31G*",
    "ωB97X-V/def2-TZVP",
)
EXTRAS = {
    "aimnet2": "AIMNet2: a level, a Hessian, a start",
    "dispersion": "functionals with D3 or D4, such as `b3lyp-d3bj`; `r2scan-3c` and `b97-3c`",
    "hpc": "flows on a cluster",
    "notebooks": "the notebooks",
    "parquet": "`.parquet` tables",
    "sampling": "`diffrelax sample`",
    "sella": "the optimizer Sella",
    "train": "training from QM9's data, `diffrelax evaluate`",
    "all": "all of these",
    "docs": "these pages",
    "dev": "all of these, these pages, and the tests",
}


def write_pages(folder: Path) -> None:
    """Write all generated pages into a folder; leave those alone that have not changed."""
    folder.mkdir(exist_ok=True)
    pages = dict(_pages())
    for stale in set(folder.glob("*.md")) - {folder / name for name in pages}:
        stale.unlink()
    for name, text in pages.items():
        page = folder / name
        if not page.exists() or page.read_text(encoding="utf-8") != text:
            page.write_text(text, encoding="utf-8")


def _pages() -> Iterator[tuple[str, str]]:
    yield "python.md", python_page()
    yield "flows.md", flows_page()
    yield "documents.md", documents_page()
    yield "configuration.md", configuration_page()
    yield "command-line.md", command_line_page()
    yield "modules.md", modules_page()
    for source, page in sources().items():
        yield page, moved(source)


def sources() -> dict[Path, str]:
    """Return the committed reports and cards, and the page that each becomes."""
    reports = {}
    for path in sorted(REPORTS.glob("**/*.md")):
        reports[path] = f"report-{'-'.join(_parts(path))}.md"
    cards = {path: f"card-{path.parent.name}.md" for path in sorted(CARDS.glob("*/card.md"))}
    return reports | cards


def _parts(report: Path) -> tuple[str, ...]:
    """Return what a report is called after: its folder, or itself, below that of results."""
    named_after = report.parent if report.name == "report.md" else report.with_suffix("")
    return named_after.relative_to(REPORTS).parts


def moved(source: Path) -> str:
    """Return a committed page as it reads in the folder of generated pages."""
    known = {path.resolve(): page for path, page in sources().items()}

    def link(found: re.Match[str]) -> str:
        image, text, target, anchor = found.groups()
        path = (source.parent / target).resolve()
        if image:
            return f"![{text}]({os.path.relpath(path, ROOT / 'docs' / 'generated')})"
        if path in known:
            return f"[{text}]({known[path]}{anchor or ''})"
        return f"{text} (`{path.relative_to(ROOT)}`)"

    page = source.read_text(encoding="utf-8")
    page = re.sub(r"(!?)\[([^\]]*)\]\((?!https?:)([^)#\s]+)(#[^)]*)?\)", link, page)
    page = keep_together(page)
    if page.startswith("# DFT speed-up"):
        page = re.sub(r"^# .*", f"# DFT relaxations: {'/'.join(_parts(source))}", page, count=1)
    elif not page.startswith("# "):
        page = f"# {': '.join(_parts(source))}\n\n{page}"
    return page


def python_page() -> str:
    """Return the reference of the public names."""
    functions = [name for name in diffrelax.__all__ if name[0].islower()]
    classes = [name for name in diffrelax.__all__ if name[0].isupper()]
    return "\n".join(
        [
            "# Python",
            "Import these names from `diffrelax`, usually with `import diffrelax as dr`. "
            "Units are Å, eV, eV/Å and K.\n",
            "## Functions\n",
            _autodoc(f"autofunction:: diffrelax.{name}" for name in functions),
            "## Classes\n",
            _autodoc(f"autoclass:: diffrelax.{name}\n   :members:" for name in classes),
            "## DFT settings\n",
            _autodoc(
                [
                    _autoclass(DFTSettings),
                    _autoclass(Profile),
                    f"autofunction:: {mean_field.__module__}.mean_field",
                ]
            ),
        ]
    )


def flows_page() -> str:
    """Return the reference of the Makers and of ``flow.yaml``."""
    names = [name for name in flows.__all__ if name[0].isupper()]
    functions = [name for name in flows.__all__ if name[0].islower()]
    makers = [_maker(getattr(flows, name)) for name in names]
    settings = (FlowConfig, CheapLevel, RemoteConfig, StageResources)
    return "\n".join(
        [
            "# Flows",
            "## Makers for jobflow\n",
            "Import these names from `diffrelax.flows`.\n",
            _autodoc([*makers, *(f"autofunction:: diffrelax.flows.{name}" for name in functions)]),
            "## Entries of `flow.yaml`\n",
            "The top-level entries are those of `FlowConfig`. `minimise` has those of "
            "[`DFTSettings`](python.md#dft-settings), or of `CheapLevel`. `remote` has those of "
            "`RemoteConfig`; its `relax` and `minimise` have those of `StageResources`.\n",
            _autodoc(_autoclass(cls) for cls in settings),
        ]
    )


def configuration_page() -> str:
    """Return the reference of a model's ``config.yaml``."""
    parts = (ModelConfig, NetworkConfig, RelaxationSchedule, TrainingConfig)
    return "\n".join(
        [
            "# A model's config.yaml",
            "The top-level entries are those of `ModelConfig`. `network`, `relaxation` and "
            "`training` have those of the other classes.\n",
            _autodoc(_autoclass(cls) for cls in parts),
        ]
    )


def documents_page() -> str:
    """Return the reference of the result documents, field by field."""
    parts = [
        "# Result documents",
        "What a flow stores for each unit: plain JSON, the same in a file, in MongoDB and "
        "in a jobflow store. `diffrelax results show` prints documents, and "
        f"`{stored.read_document.__module__}.read_document` reads them, also those of older "
        f"versions. This is schema version {documents.SCHEMA_VERSION}.",
    ]
    bases = (
        documents.Document, documents.Result, documents.TimedResult, documents.LevelResult,
    )  # fmt: skip
    for document in (*_subclasses(documents.Document), Thermochemistry, SummaryRow):
        if document not in bases:
            summary = (document.__doc__ or "").split("\n\n")[0]
            parts += [f"## {document.__name__}", summary, _fields_table(document)]
    return "\n\n".join(parts) + "\n"


def command_line_page() -> str:
    """Return the reference of the command line, as typer tells it."""
    command = get_command(app)
    assert isinstance(command, TyperGroup)
    page = get_docs_for_click(obj=command, ctx=Context(command), name="diffrelax")
    helps = dict(_helps(command, "diffrelax"))
    lines, group = [], ""
    for line in page.splitlines():
        if heading := re.fullmatch(r"#+ `(.+)`", line):
            group = heading[1]
        elif cut := re.fullmatch(r"\* `(\w+)`: .*\.\.\.", line):
            line = f"* `{cut[1]}`: {helps[f'{group} {cut[1]}']}"
        lines.append(line)
    return "\n".join(lines).replace("# `diffrelax`", "# Command line", 1)


def _helps(group: TyperGroup, path: str) -> Iterator[tuple[str, str]]:
    for name, command in group.commands.items():
        yield f"{path} {name}", (command.help or "").partition("\n\n")[0]
        if isinstance(command, TyperGroup):
            yield from _helps(command, f"{path} {name}")


def modules_page() -> str:
    """Return the list of modules, each with the first line of its docstring."""
    table = _modules_table(pkgutil.walk_packages(diffrelax.__path__, "diffrelax."))
    return f"# Modules\n\nPackages are bold.\n\n{table}\n"


def _modules_table(modules: Iterable[pkgutil.ModuleInfo]) -> str:
    rows = []
    for module in modules:
        summary = (import_module(module.name).__doc__ or "").strip().split("\n\n")[0]
        name = f"**{module.name}**" if module.ispkg else f"`{module.name}`"
        rows.append((name, summary))
    return markdown_table(("module", "content"), rows)


def _columns_table(row: type[Columns]) -> str:
    """Return the columns of a row, those that mean the same beside each other."""
    names: dict[str, list[str]] = {}
    for name, field in row.model_fields.items():
        names.setdefault(field.description or "", []).append(f"`{name}`")
    told = [(", ".join(alike), meaning) for meaning, alike in names.items()]
    return markdown_table(("column", "meaning"), told)


def code_facts() -> dict[str, str]:
    """Return what pages quote of the code, and of the default model, between double braces."""
    model = load_model()
    released = model.config
    schedule = released.relaxation
    levels = [("bridge", level) for level in schedule.bridge]
    levels += [("polish", level) for level in schedule.polish]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"]
    layers = project["tool"]["importlinter"]["contracts"][0]["layers"]
    return {
        "most_atoms": str(released.limit),
        "rise": str(RISE),
        "own_rise": str(OWN_RISE),
        "strained_rise": str(STRAINED_RISE + RISE),
        "uneven": str(UNEVEN),
        "rebonded": str(REBONDED),
        "largest_step": str(LARGEST_STEP),
        "molecule_columns": _columns_table(MoleculeRow),
        "result_columns": _columns_table(ResultRow),
        "outcome_columns": _columns_table(OutcomeRow),
        "layers_list": "\n".join(
            f"{place}. {', '.join(f'`{package}`' for package in layer.split(' | '))}"
            for place, layer in enumerate(reversed(layers), start=1)
        ),
        "packages_table": _modules_table(pkgutil.iter_modules(diffrelax.__path__, "diffrelax.")),
        "nearest_levels_table": markdown_table(
            ("your level", "level of the model"),
            [(level, model.nearest_level(level).level) for level in COMMON_LEVELS],
        ),
        "schedule_table": markdown_table(
            ("evaluation", "part", "noise level, Å"),
            [(str(i), part, str(level)) for i, (part, level) in enumerate(levels, start=1)],
        ),
        "extras_table": markdown_table(
            ("extra", "needed for", "packages"),
            [
                (f"`[{extra}]`", EXTRAS[extra], ", ".join(packages(extras[extra])))
                for extra in extras
            ],
        ),
    }


def packages(requirements: Iterable[str]) -> list[str]:
    """Return the names of required packages without their versions."""
    return [re.split(r"[<>=~;]", requirement)[0] for requirement in requirements]


def _autodoc(directives: Iterable[str]) -> str:
    lines = "\n\n".join(f".. {directive}" for directive in directives)
    return f"```{{eval-rst}}\n{lines}\n```\n"


def _maker(maker: type) -> str:
    name = f"diffrelax.flows.{maker.__name__}"
    made = [method for method in ("make", "make_batch") if hasattr(maker, method)]
    methods = "".join(f"\n\n   .. automethod:: {name}.{method}" for method in made)
    return f"autoclass:: {name}{methods}"


def _autoclass(cls: type) -> str:
    return f"autoclass:: {cls.__module__}.{cls.__name__}"


def _subclasses(cls: type[BaseModel]) -> list[type[BaseModel]]:
    return [each for sub in cls.__subclasses__() for each in (sub, *_subclasses(sub))]


def _fields_table(document: type[BaseModel]) -> str:
    rows = [
        (f"`{name}`", f"`{_type_name(field.annotation)}`", field.description or "")
        for name, field in document.model_fields.items()
    ]
    return markdown_table(("field", "type", "meaning"), rows)


def _type_name(annotation: Any) -> str:
    name = annotation.__name__ if isinstance(annotation, type) else str(annotation)
    return re.sub(r"\b(?:\w+\.)+(\w)", r"\1", name)
