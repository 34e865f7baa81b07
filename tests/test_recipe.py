"""The recipe for conda-forge asks for what the package does."""

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
