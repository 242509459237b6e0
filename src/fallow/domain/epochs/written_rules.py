"""Rules of rewards as people write them: some changed as NAME=VALUE, and all of them as the file a network takes. Pure.

The words are the same everywhere: those of the file that the setting `rewards` names.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from fallow.domain.epochs.models import MODELS
from fallow.domain.epochs.rules import Rules, plain_rules
from fallow.domain.errors import InvalidInput
from fallow.domain.records import to_builtins
from fallow.domain.rewards.pools import AMOUNTS

ASSETS: Final = ("credit", "settlement", "token")
"""What a network's chain decides, whatever its operator writes."""

FROM_SETTINGS: Final = ("feeds", "guard")
"""What other settings say where the network has feeds of a price."""

_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")
"""Names that TOML takes without quotes."""


def changed(rules: Rules, changes: Sequence[str]) -> Rules:
    """Apply NAME=VALUE to rules; a part of a table is NAME.PART, and each of several values has a comma behind it.

    Raises:
        InvalidInput: `epoch.rules`: there is no such rule, or it cannot have this value.
    """
    values: dict[str, Any] = {}
    for change in changes:
        name, _, text = change.partition("=")
        head, _, part = name.partition(".")
        if part:
            inner = values.setdefault(head, {})
            if not isinstance(inner, dict):
                raise InvalidInput("epoch.rules", f"{head!r} is set as a whole and in part.", "Take one of both.")
            inner[part] = _value(text)
        else:
            values[head] = _value(text)
    return plain_rules(values, rules)


def of_model(rules: Rules, model: Rules) -> Rules:
    """Another model's rules with the assets of these."""
    return msgspec.structs.replace(model, **{name: getattr(rules, name) for name in ASSETS})


def written(rules: Rules) -> str:
    """The TOML file with these rules: their model, and what is different from it."""
    own = {*ASSETS, *(FROM_SETTINGS if rules.feeds else ())}
    parameters, model = to_builtins(rules), to_builtins(MODELS[rules.model])
    different = {name: each for name, each in parameters.items() if name not in own and each != model[name]}
    tables = {name: each for name, each in different.items() if isinstance(each, Mapping)}
    plain = {name: each for name, each in different.items() if name not in tables}
    lines = _lines({"model": rules.model, **plain})
    for name, table in tables.items():
        lines += ["", f"[{name}]", *_lines(table)]
    return "\n".join(lines) + "\n"


def _lines(table: Mapping[str, Any]) -> list[str]:
    return [f"{name if _BARE.fullmatch(name) else _quoted(name)} = {_text(name, each)}" for name, each in table.items()]


def _text(name: str, value: object) -> str:
    """A value as TOML."""
    if isinstance(value, bytes):
        return str(int.from_bytes(value)) if name in AMOUNTS else _quoted(f"0x{value.hex()}")
    if isinstance(value, list):
        return f"[{', '.join(_text(name, each) for each in value)}]"
    return _quoted(value) if isinstance(value, str) else json.dumps(value)


def _quoted(text: str) -> str:
    """A string of JSON is one of TOML, but for characters that JSON writes in two halves, and one that TOML refuses."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _value(text: str) -> object:
    """A number, several with commas between, or a word."""
    if "," in text:
        return [_value(one) for one in text.split(",") if one]
    return int(text) if text.removeprefix("-").isdecimal() else text
