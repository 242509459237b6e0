"""The rules of rewards that an operator has chosen."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Final

import msgspec

from fallow.bootstrap.settings import PUBLIC, Settings
from fallow.domain.billing import FeePolicy
from fallow.domain.epochs.models import MODELS
from fallow.domain.epochs.rules import NONE, WORK_ONLY, Rules, plain_rules
from fallow.domain.errors import InvalidInput
from fallow.domain.price_facts import read_feeds
from fallow.domain.rewards.oracle import guard_of

PRESETS: Final = {PUBLIC: WORK_ONLY}
"""The token models of presets; the others have none."""


def read_rewards(settings: Settings) -> Rules:
    """Read the rules that the settings name: a model, or a file with a model and what is different from it.

    Where the settings name feeds of the price, these and their guard take the place of the rules'.

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
    feeds = read_feeds(settings.price_feeds)
    if not feeds:
        return rules
    guard = guard_of(len(feeds), age_max_ms=settings.price_age_s * 1000, jump_max_ppm=settings.price_jump_ppm)
    return msgspec.structs.replace(rules, feeds=feeds, guard=guard)


def fee_of(settings: Settings) -> FeePolicy:
    """What incentives may reach of a fee is paid back to nobody: both come out of it only once."""
    rules = read_rewards(settings)
    return FeePolicy(settings.fee_ppm, settings.reserve_ppm, rules.cap_ppm if rules.pays else 0)


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
