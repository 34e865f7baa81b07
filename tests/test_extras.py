"""What is imported is declared: in the core, or in the extra that a message names."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from itertools import takewhile

import pytest
from source_tree import ROOT

from diffrelax.extras import find_extra

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
TREES = {path: ast.parse(path.read_text()) for path in sorted(ROOT.glob("diffrelax/**/*.py"))}
DISTRIBUTIONS = packages_distributions()


def plain(requirement: str) -> str:
    return re.split(r"[<>=\[]", requirement)[0].lower().replace("_", "-")


def declared(requirements: list[str]) -> set[str]:
    return {plain(requirement) for requirement in requirements}


CORE = declared(PROJECT["dependencies"])
EXTRAS = {name: declared(those) for name, those in PROJECT["optional-dependencies"].items()}


def imported(tree: ast.Module) -> Iterator[tuple[str, bool]]:
    """Yield each package of others that a module imports, and whether always, or for an extra."""
    before = takewhile(lambda node: not ast.unparse(node).startswith("find_extra("), tree.body)
    at_once = {id(node) for node in before}
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and not node.level:
            names = [str(node.module)]
        for name in names:
            package = name.partition(".")[0]
            if package not in sys.stdlib_module_names | {"diffrelax"}:
                yield package, id(node) in at_once


def asked_for() -> dict[str, str]:
    """Return the packages that `find_extra` is asked for, each with its extra."""
    calls = [
        node.args
        for tree in TREES.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "find_extra"
    ]
    return {str(ast.literal_eval(package)): ast.literal_eval(extra) for package, extra, _ in calls}


def distributions(package: str) -> set[str]:
    return {plain(name) for name in DISTRIBUTIONS.get(package, [package])}


def test_what_is_imported_is_declared() -> None:
    extras = set.union(*(EXTRAS[extra] for extra in asked_for().values()))
    undeclared = [
        (str(path.relative_to(ROOT)), package)
        for path, tree in TREES.items()
        for package, at_once in imported(tree)
        if not distributions(package) & (CORE if at_once else CORE | extras)
    ]
    assert undeclared == []


def test_what_is_declared_is_imported() -> None:
    packages = {package for tree in TREES.values() for package, _ in imported(tree)}
    packages.add("Auto3D")  # of which one file is read
    assert set.union(*map(distributions, packages)) >= CORE


@pytest.mark.parametrize(("package", "extra"), asked_for().items())
def test_the_extra_that_a_message_names_has_the_package(package: str, extra: str) -> None:
    top = package.partition(".")[0]
    theirs = distributions(top) - CORE | {plain(f"{package.replace('.', '-')}")}
    assert theirs & EXTRAS[extra]


def test_all_has_every_extra_for_users() -> None:
    (everything,) = PROJECT["optional-dependencies"]["all"]
    named = set(re.findall(r"\w+", everything)) - {"diffrelax"}
    assert named == set(EXTRAS) - {"all", "docs", "dev"}


def test_a_missing_package_is_told_with_its_extra() -> None:
    with pytest.raises(ValueError, match=r'sampling needs .*: pip install "diffrelax\[sampling\]"'):
        find_extra("no_such_package", "sampling", "sampling")
