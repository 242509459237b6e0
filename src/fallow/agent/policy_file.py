"""The owner's policy: what it holds, and the file `policy.toml` in the agent's folder that keeps it."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from fallow.domain.errors import InvalidInput, Unavailable
from fallow.domain.idle_rules import Amount, IdleRules, Percent, Price, doc
from fallow.ports.files import write_durably

FILE = "policy.toml"


class IdlePolicy(IdleRules, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that the owner says to this machine: the rules that he may also ask for from afar, and those of it alone.

    What is None or empty is no rule. A rule that the owner set (load, away, temperature, power, programs) closes the
    machine, too, when its probe cannot see; those that are on by default (battery, metered, graphics) do not.
    """

    others_for_s: Annotated[
        Annotated[int, Meta(ge=0, le=3600)],
        doc("Seconds that the load of others must last before running work ends; new work stops at once."),
    ] = 0
    programs: Annotated[
        tuple[str, ...], doc("Not while one of these programs runs (names as `ps -e` shows them).")
    ] = ()
    gpu_memory_mib: Annotated[
        Annotated[int, Meta(ge=0, le=1 << 20)],
        doc("Not while another program holds so many MiB of a graphics card's memory (a game, a renderer); 0 is off."),
    ] = 1024
    reopen_after_s: Annotated[
        Annotated[int, Meta(ge=0, le=86_400)],
        doc("Seconds that nothing must be in the way before a machine that was closed opens again."),
    ] = 60
    spot_usd_per_core_hour: Annotated[
        Price | None, doc("US dollars asked where work may be ended for work at the full price; never above that one.")
    ] = None
    watts_idle: Annotated[Amount, doc("Watts that the machine draws when it is on and idle.")] = 0
    watts_busy: Annotated[Amount | None, doc("Watts that it draws when all offered cores work.")] = None
    tariff_usd_per_kwh: Annotated[Amount | None, doc("US dollars that a kilowatt hour costs here.")] = None
    wear_usd_per_hour: Annotated[Amount, doc("US dollars that an hour of full work wears off the machine.")] = 0
    console: Annotated[
        bool, doc("Let the machine's account ask in the network's console for stricter rules than these, and a price.")
    ] = False
    console_price_percent: Annotated[
        Percent, doc("Of each price here, so many percent are the least that may be asked in the console.")
    ] = 100

    def __post_init__(self) -> None:
        """Check what types cannot: ValueError, which msgspec turns into its own error."""
        super().__post_init__()
        if self.watts_busy is not None and self.watts_busy < self.watts_idle:
            raise ValueError("watts_busy must not be below watts_idle")
        if (self.watts_busy is None) != (self.tariff_usd_per_kwh is None):
            raise ValueError("watts_busy and tariff_usd_per_kwh are needed together")


def load_policy(home: Path) -> IdlePolicy:
    """Read the policy in the agent's folder; the default when there is none.

    Raises:
        InvalidInput: the file is no TOML, or a name or value in it does not fit; the message says which.
    """
    file = home / FILE
    try:
        return _convert(tomllib.loads(file.read_text("utf-8")), strict=True)
    except FileNotFoundError:
        return IdlePolicy()
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidInput("agent.policy_file", f"{file} is not valid TOML: {error}.") from error


def policy_stamp(home: Path) -> tuple[int, int]:
    """Changes whenever the file does; (0, 0) when there is none."""
    try:
        status = (home / FILE).stat()
    except OSError:
        return (0, 0)
    return (status.st_mtime_ns, status.st_ino)


def changed(policy: IdlePolicy, settings: Iterable[str]) -> IdlePolicy:
    """Return the policy with `KEY=VALUE` settings: several values are parted by `;`, an empty one is the default.

    Raises:
        InvalidInput: a name that is none, or a value that does not fit.
    """
    values = msgspec.structs.asdict(policy)
    for setting in settings:
        name, equals, text = (part.strip() for part in setting.partition("="))
        if not equals:
            raise InvalidInput("agent.policy", f"{setting[:60]!r} is no setting.", "It looks like: away_minutes=10")
        values[name] = _value(name, text)
    return _convert(values, strict=False)


def save_policy(home: Path, policy: IdlePolicy) -> None:
    """Write the policy durably; a running agent obeys it from its next look on, a second later at most.

    Raises:
        Unavailable: the disk is full or fails; the old policy still holds.
    """
    try:
        write_durably(home / FILE, policy_toml(policy).encode())
    except OSError as error:
        raise Unavailable("agent.disk_full", f"{home / FILE} cannot be written: {error}.") from error


def policy_toml(policy: IdlePolicy) -> str:
    """The policy as a file, each setting with its meaning; those that are no rule are commented out."""
    lines = ["# When this machine may work for others. Change it with: fallow agent policy set KEY=VALUE"]
    for name, meaning in meanings().items():
        value = getattr(policy, name)
        lines += ["", f"# {meaning}", f"# {name} =" if value is None else f"{name} = {_toml(value)}"]
    return "\n".join(lines) + "\n"


def meanings() -> Mapping[str, str]:
    """What each setting means."""
    fields = msgspec.inspect.type_info(IdlePolicy).fields  # type: ignore[attr-defined]
    return {field.name: field.type.extra_json_schema["description"] for field in fields}


def _convert(values: dict[str, Any], *, strict: bool) -> IdlePolicy:
    unknown = sorted(set(values) - set(IdlePolicy.__struct_fields__))
    if unknown:
        raise InvalidInput(
            "agent.policy",
            f"The policy has no setting {unknown[0][:60]!r}.",
            f"There are: {', '.join(IdlePolicy.__struct_fields__)}.",
        )
    try:
        return msgspec.convert(values, IdlePolicy, strict=strict)
    except msgspec.ValidationError as error:
        hint = "What each one takes: fallow agent policy show"
        raise InvalidInput("agent.policy", f"A setting of the policy is wrong: {error}.", hint) from error


def _value(name: str, text: str) -> object:
    default = getattr(IdlePolicy(), name, None)
    if isinstance(default, tuple):
        return tuple(part.strip() for part in text.split(";") if part.strip())
    return text or default


def _toml(value: object) -> str:
    # JSON's booleans, numbers, strings and lists are TOML's.
    return msgspec.json.encode(value).decode()
