"""The owner's policy: what it holds, and the file `policy.toml` in the agent's folder that keeps it."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from fallow.agent.files import write_durably
from fallow.agent.hours import parse_range
from fallow.domain.errors import InvalidInput, Unavailable
from fallow.domain.resources import PRICE_MICROUSD_MAX

FILE = "policy.toml"
MICROUSD_PER_USD = 1_000_000

Percent = Annotated[int, Meta(ge=1, le=100)]
Amount = Annotated[float, Meta(ge=0, le=1e9)]
Price = Annotated[float, Meta(ge=0, le=PRICE_MICROUSD_MAX / MICROUSD_PER_USD)]


def _doc(text: str) -> Meta:
    return Meta(description=text)


class IdlePolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When this machine may work for others, and with how much of it.

    What is None or empty is no rule. A rule that the owner set (load, away, temperature, power, programs) closes the
    machine, too, when its probe cannot see; those that are on by default (battery, metered, graphics) do not.
    """

    cpu_percent: Annotated[Percent, _doc("Of the machine's cores, at most so many percent are offered.")] = 100
    memory_percent: Annotated[Percent, _doc("Of the machine's memory, at most so many percent are offered.")] = 100
    disk_percent: Annotated[Percent, _doc("Of the disk's free room, at most so many percent are offered.")] = 100
    hours: Annotated[
        tuple[str, ...], _doc("Local hours, each like `mon-fri 20:00-07:00` or `daily 01:00-06:00`; empty is always.")
    ] = ()
    others_cpu_percent: Annotated[
        Percent | None, _doc("Only while everything else takes less of all cores than so many percent.")
    ] = None
    others_for_s: Annotated[
        Annotated[int, Meta(ge=0, le=3600)],
        _doc("Seconds that the load of others must last before running work ends; new work stops at once."),
    ] = 0
    away_minutes: Annotated[
        Annotated[int, Meta(ge=1, le=24 * 60)] | None,
        _doc("Only after so many minutes without a key, a mouse or a terminal being used."),
    ] = None
    programs: Annotated[
        tuple[str, ...], _doc("Not while one of these programs runs (names as `ps -e` shows them).")
    ] = ()
    gpu_memory_mib: Annotated[
        Annotated[int, Meta(ge=0, le=1 << 20)],
        _doc("Not while another program holds so many MiB of a graphics card's memory (a game, a renderer); 0 is off."),
    ] = 1024
    temperature_c: Annotated[
        Annotated[int, Meta(ge=30, le=120)] | None,
        _doc("Only while the hottest sensor is below so many degrees Celsius; again when it is 5 degrees cooler."),
    ] = None
    power_w: Annotated[
        Annotated[int, Meta(ge=1, le=100_000)] | None,
        _doc("Only while processors and NVIDIA's cards draw less than so many watts; again when it is 10 % less."),
    ] = None
    on_battery: Annotated[bool, _doc("Work on battery, too.")] = False
    on_metered: Annotated[bool, _doc("Work on a link that is paid by volume, too.")] = False
    data_gib_month: Annotated[
        Amount | None, _doc("GiB that the agent may move, up and down together, in a calendar month.")
    ] = None
    upload_mbit_s: Annotated[
        Annotated[float, Meta(gt=0, le=1e6)] | None, _doc("Megabits a second at which the agent uploads at most.")
    ] = None
    reopen_after_s: Annotated[
        Annotated[int, Meta(ge=0, le=86_400)],
        _doc("Seconds that nothing must be in the way before a machine that was closed opens again."),
    ] = 60
    price_usd_per_core_hour: Annotated[
        Price | None, _doc("US dollars asked for a core and hour; left out, what was said when joining.")
    ] = None
    price_usd_per_gpu_hour: Annotated[
        Price | None, _doc("US dollars asked for a graphics processor and hour; left out, as when joining.")
    ] = None
    spot_usd_per_core_hour: Annotated[
        Price | None, _doc("US dollars asked where work may be ended for work at the full price; never above that one.")
    ] = None
    watts_idle: Annotated[Amount, _doc("Watts that the machine draws when it is on and idle.")] = 0
    watts_busy: Annotated[Amount | None, _doc("Watts that it draws when all offered cores work.")] = None
    tariff_usd_per_kwh: Annotated[Amount | None, _doc("US dollars that a kilowatt hour costs here.")] = None
    wear_usd_per_hour: Annotated[Amount, _doc("US dollars that an hour of full work wears off the machine.")] = 0

    def __post_init__(self) -> None:
        """Check what types cannot: ValueError, which msgspec turns into its own error."""
        if self.watts_busy is not None and self.watts_busy < self.watts_idle:
            raise ValueError("watts_busy must not be below watts_idle")
        if (self.watts_busy is None) != (self.tariff_usd_per_kwh is None):
            raise ValueError("watts_busy and tariff_usd_per_kwh are needed together")
        try:
            for text in self.hours:
                parse_range(text)
        except InvalidInput as error:
            raise ValueError(error.message.rstrip(".")) from None


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
        raise InvalidInput("agent.policy", f"A setting of the policy is wrong: {error}.") from error


def _value(name: str, text: str) -> object:
    default = getattr(IdlePolicy(), name, None)
    if isinstance(default, tuple):
        return tuple(part.strip() for part in text.split(";") if part.strip())
    return text or default


def _toml(value: object) -> str:
    # JSON's booleans, numbers, strings and lists are TOML's.
    return msgspec.json.encode(value).decode()
