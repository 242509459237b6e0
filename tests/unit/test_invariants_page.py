"""What docs/invariants.md and other pages name exists."""

from __future__ import annotations

import ast
import importlib
import re
from functools import reduce
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/invariants.md").read_text()
RULES = re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]
FUNCTIONS = sorted(set(re.findall(r"`(fallow\.[\w.]+)`", PAGE)))
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
PAGES = "\n".join(path.read_text() for path in sorted((ROOT / "docs").rglob("*.md")))
TESTS = sorted(set(NAMED.findall(PAGES)))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_named_function_exists(name: str) -> None:
    parts = name.split(".")
    for end in range(len(parts) - 1, 0, -1):
        try:
            module = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        assert callable(reduce(getattr, parts[end:], module))
        return
    raise AssertionError(f"{name} does not exist")


@pytest.mark.parametrize(("path", "name"), TESTS)
def test_a_named_test_exists(path: str, name: str) -> None:
    """As a function, or as the `TestCase` of a machine."""
    tree = ast.parse((ROOT / path).read_text())
    functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    machines = {
        ast.unparse(node.targets[0])
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.value).endswith(".TestCase")
    }
    assert name in functions | machines
    assert name.lower().startswith("test")


def test_each_of_the_nine_rules_says_what_keeps_and_shows_it() -> None:
    assert [rule.split(".")[0] for rule in RULES] == [str(number) for number in range(1, 10)]
    for rule in RULES:
        assert re.search(r"^- Kept by: `fallow\.", rule, re.MULTILINE), rule
        assert re.search(r"^- Shown by: `tests/", rule, re.MULTILINE), rule


def test_all_code_on_the_page_is_checked() -> None:
    """No name is written in a way that this file would pass over."""
    checked = {*FUNCTIONS, *(f"{path}::{name}" for path, name in TESTS)}
    named = {text for text in re.findall(r"`([^`]+)`", PAGE) if "::" in text or text.startswith("fallow.")}
    assert named <= checked
