"""What `--help` says: all of a command on its own page, a line of it in lists, and a sentence for each option."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from cyclopts import App
from cyclopts.argument import ArgumentCollection

from fallow.cli import main

FOR_PEOPLE = {"agent run", "agent service", "job exec", "job logs", "serve", "serve nats-config"}
"""What serves, hands on what a program says, or prints a file of its own."""


def commands(app: App, *path: str) -> Iterator[tuple[str, ArgumentCollection]]:
    """Each command that does something, with what it takes."""
    if path and app.default_command is not None:
        yield " ".join(path), app.assemble_argument_collection(parse_docstring=True)
    for name in app:
        if not name.startswith("-"):
            yield from commands(app[name], *path, name)


def test_every_option_is_explained_and_programs_are_answered() -> None:
    unsaid, without_json = list[str](), set[str]()
    for command, takes in commands(main.build()):
        shown = [one for one in takes if one.show]
        unsaid += [f"{command} {one.name}" for one in shown if one.name.startswith("-") and not one.parameter.help]
        if "--json" not in {name for one in shown for name in one.names}:
            without_json.add(command)
        assert not [name for one in shown for name in one.names if name.startswith("--empty-")], command
    assert not unsaid
    assert without_json == FOR_PEOPLE


@pytest.mark.parametrize(
    ("command", "line", "more"),
    [
        ("run", "Run a program or a Python script on somebody's machine.", "Put -- before arguments"),
        ("account payout", "Show or change where an account's earnings go.", "72 hours"),
        ("up", "Start a network.", "Ctrl-C or SIGTERM"),
    ],
)
def test_a_commands_own_page_says_all_of_it_and_lists_a_line(
    command: str, line: str, more: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert main.run([*command.split()[:-1], "--help"]) == 0
    assert line in capsys.readouterr().out
    assert main.run([*command.split(), "--help"]) == 0
    assert more in capsys.readouterr().out
