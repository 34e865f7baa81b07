"""What is published: the recipe for conda-forge, and the text on PyPI."""

from __future__ import annotations

import re
import tomllib

import yaml
from source_tree import ROOT

NAMES = {"torch": "pytorch", "matplotlib": "matplotlib-base", "tblite": "tblite-python"}
ONLY_ON_PYPI = {"acauto3d"}


def test_it_has_the_version_and_the_dependencies_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    recipe = yaml.safe_load((ROOT / "recipe/recipe.yaml").read_text(encoding="utf-8"))
    wanted = {f"python {project['requires-python']}"}
    for requirement in project["dependencies"]:
        name, version = re.split(r"(?=[>=])", requirement.partition(";")[0].lower(), maxsplit=1)
        if name not in ONLY_ON_PYPI:
            wanted.add(f"{NAMES.get(name, name)} {version}")
    assert set(recipe["requirements"]["run"]) == wanted
    assert recipe["context"]["version"] == project["version"]
    assert recipe["about"]["license"] == project["license"]


def test_the_text_on_pypi_has_no_link_that_leads_nowhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    hook = project["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for change in hook["substitutions"]:
        text = re.sub(change["pattern"], change["replacement"], text)
    assert {*re.findall(r"\]\((.{8})", text)} == {"https://"}
    assert "![" not in text and "Blue: medians" not in text
    assert "with a verdict and a reason" in text
