"""What is generated is up to date, and what is said about the project can be found in it."""

from __future__ import annotations

import ast
import json
import re
import runpy
import subprocess
from collections.abc import Iterator
from pathlib import Path

from cyclopts import App

from fallow.cli.main import build
from fallow.domain import calls

ROOT = Path(__file__).parents[2]
PAGES = ("*.md", "contracts/*.md", "deploy/*.md", "docs/**/*.md", "src/**/*.md", "examples/**/*.md")
CODE = re.compile(r"```[a-z]*\n.*?```|`[^`\n]+`", re.DOTALL)
COMMAND = re.compile(r"(?<![\w./-])(?<!from )fallow ([a-z][a-z0-9-]*(?: [a-z][a-z0-9-]*(?!\w))*)([^;&|#`\n]*)")


def pages() -> Iterator[tuple[Path, str]]:
    for pattern in PAGES:
        for page in ROOT.glob(pattern):
            yield page, page.read_text("utf-8")


def slug(heading: str) -> str:
    """What GitHub calls a heading in an address."""
    return re.sub(r"[^\w -]", "", re.sub(r"\]\([^)]*\)", "]", heading).lower()).replace(" ", "-")


def test_the_configuration_page_is_what_the_settings_say() -> None:
    tool = runpy.run_path(str(ROOT / "tools" / "write_docs.py"))
    page = (ROOT / "docs" / "configuration.md").read_text("utf-8")
    assert page == tool["configuration"](), "run: make docs"


def test_links_between_pages_lead_somewhere() -> None:
    links = [(page, target) for page, text in pages() for target in re.findall(r"\]\(([^)#\s]+)", text)]
    assert [link for link in links if "://" not in link[1] and not (link[0].parent / link[1]).exists()] == []


def test_links_into_pages_lead_to_a_heading() -> None:
    lost = []
    for page, text in pages():
        for target, part in re.findall(r"\]\(([^)#\s:]*)#([^)\s]+)\)", text):
            there = (page.parent / target if target else page).read_text("utf-8")
            marks = {*re.findall(r'<a id="([^"]+)"', there), *map(slug, re.findall(r"^#+ (.*)$", there, re.MULTILINE))}
            if part not in marks:
                lost.append((page, target, part))
    assert lost == []


def test_tests_and_files_that_pages_name_exist() -> None:
    """`test_invariants_page.py` looks at those that stand as path::name."""
    tests = {
        name for file in (ROOT / "tests").rglob("*.py") for name in re.findall(r"def (test_\w+)", file.read_text())
    }
    lost = []
    for page, text in pages():
        lost += [(page, name) for name in re.findall(r"`(test_\w+)`", text) if name not in tests]
        paths = re.findall(r"`((?:src|tests|tools|bench|docs|examples|deploy|contracts|web)/[\w./-]+\.\w+)`", text)
        lost += [(page, path) for path in paths if not (ROOT / path).exists()]
    lost.remove((ROOT / "docs/configuration.md", "test_credits_usd"))
    assert lost == []


def code() -> Iterator[tuple[Path, str]]:
    for page, text in pages():
        yield from ((page, code) for code in CODE.findall(text))


def spoken() -> Iterator[tuple[Path, str]]:
    """What else tells people what to type: the console's words, and what the programs themselves say."""
    for file in (*(ROOT / "web/src").rglob("*.ts"), *(ROOT / "web/src").rglob("*.svelte"), ROOT / "web/index.html"):
        yield file, file.read_text("utf-8")
    for file in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.JoinedStr):
                yield file, "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield file, node.value


def unknown(app: App, words: str, options: str) -> list[str]:
    """Return what `fallow` does not know of a command's words, and of the options that stand behind them."""
    chain, apps, rest = app.parse_commands(words.split())
    if not chain or (apps[-1].default_command is None and rest):
        return [words]
    named = set(re.findall(r"(?<!\S)--[a-z][a-z-]*", options.partition(" -- ")[0]))
    if not named:
        return []
    return sorted(named - {"--help"} - {name for one in apps[-1].assemble_argument_collection() for name in one.names})


def test_commands_that_people_are_told_to_type_exist() -> None:
    app = build()
    lines = [(file, *line) for file, text in code() for line in COMMAND.findall(text)]
    lines += [(file, words, "") for file, text in spoken() for words, _ in COMMAND.findall(text)]
    assert {file.suffix for file, *_ in lines} == {".md", ".ts", ".svelte", ".html", ".py"}
    assert [(file, lost) for file, words, rest in lines for lost in unknown(app, words, rest)] == []


def test_what_people_are_told_to_make_can_be_made() -> None:
    goals = {goal for _, text in code() for goal in re.findall(r"\bmake ([a-z]+(?:-[a-z]+)*)", text)}
    assert {"demo", "bench-repair-scan"} <= goals
    subprocess.run(["make", "--dry-run", *sorted(goals)], cwd=ROOT, check=True, capture_output=True)


def test_each_subject_is_in_the_readme_of_a_service() -> None:
    """In full, or behind one that begins alike in the same cell of a table: such a list leaves the beginning out."""
    said = set()
    for page in (ROOT / "src/fallow/services").glob("*/README.md"):
        for cell in re.split(r"[|\n]", page.read_text("utf-8")):
            first, *others = re.findall(r"`([\w.]+)`", cell) or [""]
            said |= {first, *others, *(f"{first.rpartition('.')[0]}.{other}" for other in others)}
    areas = [vars(getattr(calls, area)) for area in calls.__all__]
    named = [one for area in areas for name, one in area.items() if name.isupper()]
    subjects = {one for one in named if isinstance(one, str) and "." in one}
    assert subjects > {"market.submit", "log.written"}
    assert sorted(subjects - said) == []


def test_lock_files_hold_no_address_and_a_hash_of_each_package() -> None:
    for lock in ("requirements.lock", "requirements-dev.lock", "src/fallow/agent/requirements.lock"):
        text = (ROOT / lock).read_text("utf-8")
        assert "://" not in text
        pins = re.split(r"^(?=\w)", text, flags=re.MULTILINE)[1:]
        assert pins
        assert [pin for pin in pins if "--hash=sha256:" not in pin] == []


def test_locks_of_npm_name_no_registry_and_a_hash_of_each_package() -> None:
    for lock in ("contracts/package-lock.json", "web/package-lock.json", "bench/npm/package-lock.json"):
        _, *packages = json.loads((ROOT / lock).read_text("utf-8"))["packages"].values()
        assert packages
        assert all("resolved" not in one and one["integrity"].startswith("sha512-") for one in packages)
