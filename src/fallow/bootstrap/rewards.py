"""The rules of rewards that an operator has chosen."""

from __future__ import annotations

import tomllib
from pathlib import Path

from fallow.bootstrap.settings import Settings
from fallow.domain.epochs.models import MODELS
from fallow.domain.epochs.rules import NONE, Rules, plain_rules
from fallow.domain.errors import InvalidInput


def read_rewards(settings: Settings) -> Rules:
    """Read the rules that the settings name: a model, or a file with a model and what is different from it.

    Raises:
        InvalidInput: `settings.rewards`: no such model or file; `epoch.rules`: a rule in it is none.
    """
    chosen = MODELS.get(settings.rewards)
    if chosen is not None:
        return chosen
    try:
        said = tomllib.loads(Path(settings.rewards).read_text("utf-8"))
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
