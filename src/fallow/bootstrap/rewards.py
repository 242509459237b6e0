"""The rules of rewards that an operator has chosen."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Final

from fallow.bootstrap.settings import PUBLIC, Settings
from fallow.domain.epochs.models import MODELS
from fallow.domain.epochs.rules import NONE, WORK_ONLY, Rules, plain_rules
from fallow.domain.errors import InvalidInput

PRESETS: Final = {PUBLIC: WORK_ONLY}
"""The token models of presets; the others have none."""


def read_rewards(settings: Settings) -> Rules:
    """Read the rules that the settings name: a model, or a file with a model and what is different from it.

    Raises:
        InvalidInput: `settings.rewards`: no such model or file, or tokens without a chain; `epoch.rules`: a rule in it
            is none.
    """
    rules = read_model(settings.rewards or PRESETS.get(settings.preset, NONE))
    if rules.model != NONE and settings.preset != PUBLIC:
        raise InvalidInput(
            "settings.rewards",
            f"The preset {settings.preset} has no chain, and so no token.",
            f"Take the preset {PUBLIC}, or rewards={NONE}.",
        )
    return rules


def read_model(name: str) -> Rules:
    """Read a model by its name, or a file with a model and what is different from it. Raises as `read_rewards`."""
    if name in MODELS:
        return MODELS[name]
    try:
        said = tomllib.loads(Path(name).read_text("utf-8"))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(
            "settings.rewards",
            f"The setting rewards names neither a model nor a TOML file that can be read: {error}.",
            f"Models are {', '.join(MODELS)}; see docs/operators.md.",
        ) from error
    model = said.get("model", NONE)
    if model not in MODELS:
        raise InvalidInput("settings.rewards", f"There is no token model {model!r}.", f"Take {', '.join(MODELS)}.")
    return plain_rules(said, MODELS[model])
