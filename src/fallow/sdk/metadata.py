"""What a script says about itself in its inline metadata (PEP 723)."""

from __future__ import annotations

import re
import tomllib
from typing import NamedTuple

from fallow.domain.errors import InvalidInput

_BLOCK = re.compile(r"(?m)^# /// (?P<type>[a-zA-Z0-9-]+)$\s(?P<content>(^#(| .*)$\s)+)^# ///$")
_BEGINNING = re.compile(r"(?m)^# /// script\s*$")
_CLAUSE = re.compile(r"\s*(~=|===|==|!=|<=|>=|<|>)\s*([0-9]+(?:\.[0-9]+)*)(\.\*)?\s*")
_HINT = "See PEP 723: lines `# /// script`, `# dependencies = [...]`, `# ///`."


class Metadata(NamedTuple):
    """Packages that a script needs, and the versions of Python that it runs on (a specifier, or empty)."""

    dependencies: tuple[str, ...] = ()
    requires_python: str = ""


def read_metadata(text: str) -> Metadata:
    """Read the block of a script; a script without one needs nothing.

    Raises:
        InvalidInput: the block is not closed, stands there twice, is no TOML, or has fields of the wrong kind.
    """
    text = text.replace("\r\n", "\n")
    blocks = [match for match in _BLOCK.finditer(text) if match["type"] == "script"]
    if not blocks:
        if found := _BEGINNING.search(text):
            line = text.count("\n", 0, found.start()) + 1
            told = f"The metadata that begin in line {line} are not closed, or a line of them does not begin with '# '."
            raise InvalidInput("bundle.metadata", told, _HINT)
        return Metadata()
    if len(blocks) > 1:
        raise InvalidInput("bundle.metadata", "The script has two blocks of metadata.", _HINT)
    lines = (line[2:] if line.startswith("# ") else line[1:] for line in blocks[0]["content"].splitlines())
    first_line = text.count("\n", 0, blocks[0].start()) + 1
    try:
        table = tomllib.loads("\n".join(lines))
    except tomllib.TOMLDecodeError as error:
        told = f"The metadata that begin in line {first_line} are no TOML: {error}."
        raise InvalidInput("bundle.metadata", told, _HINT) from error
    dependencies, requires = table.get("dependencies", []), table.get("requires-python", "")
    if not isinstance(dependencies, list) or not all(isinstance(one, str) for one in dependencies):
        raise InvalidInput("bundle.metadata", "The metadata's `dependencies` must be a list of strings.", _HINT)
    if not isinstance(requires, str):
        raise InvalidInput("bundle.metadata", "The metadata's `requires-python` must be a string.", _HINT)
    if any(one.lstrip().startswith("-") for one in dependencies):
        raise InvalidInput("bundle.metadata", "A dependency may not begin with a dash: it is a package, no option.")
    return Metadata(tuple(dependencies), requires)


def fits(version: str, requires: str) -> bool:
    """Whether a version of Python (`3.11`) satisfies a specifier (`>=3.10,<4`).

    Raises:
        InvalidInput: it is no specifier.
    """
    return all(_fits(version, clause) for clause in requires.split(",") if clause.strip())


def _fits(version: str, clause: str) -> bool:
    found = _CLAUSE.fullmatch(clause)
    if found is None:
        raise InvalidInput("bundle.metadata", f"{clause.strip()!r} is no version specifier of Python.", _HINT)
    operator, wanted = found[1], tuple(int(part) for part in found[2].split("."))
    # Which patch release a node has is not known: 3.11 stands for all of its patch releases.
    have = tuple(int(part) for part in version.split("."))
    shared = min(len(have), len(wanted))
    low, high = have[:shared], wanted[:shared]
    finer = len(wanted) > len(have)
    answers = {
        "==": low == high,
        "===": low == high,
        "!=": low != high or (finer and not found[3]),
        ">=": low >= high,
        "<=": low <= high,
        ">": low > high or (finer and low == high),
        "<": low < high or (finer and low == high and any(wanted[shared:])),
        "~=": have[: len(wanted) - 1] == wanted[: max(1, len(wanted) - 1)][: len(have)] and low >= high,
    }
    return answers[operator]
