"""`fallow storage profiles`: how segments are coded, how likely one is lost, and on how few machines it may be used."""

from __future__ import annotations

from typing import Final

from fallow.cli.show import Json, say, show_json, table
from fallow.verticals.storage.core.durability import monthly
from fallow.verticals.storage.core.profiles import PROFILES, Profile

LEAVING: Final = 0.1
"""Share of the machines that leave for ever within 30 days."""
DAYS: Final = (1, 7)
"""From the loss that calls for repair until it is done."""


def profiles(*, json: Json = False) -> None:
    """Show how objects are coded: `wide`, or `lab` on fewer machines; `small` where a bucket asks for it."""
    if json:
        show_json([_document(one) for one in PROFILES.values()])
        return
    lost = [f">LOST A YEAR ({days} D)" for days in DAYS]
    table(
        ["PROFILE", "CODE", ">REPAIR AT", ">BYTES A BYTE", ">MACHINES", *lost], map(_row, PROFILES.values()), empty=""
    )
    say(
        f"LOST: how likely a segment (64 MiB) is lost within a year, where {LEAVING:.0%} of the machines leave for ever"
        " each month, each by itself, and repair takes so many days. MACHINES: of as many owners on as many networks;"
        " on fewer the profile is not used."
    )


def _row(profile: Profile) -> tuple[str, ...]:
    lost = [f"1 in {float(f'{1 / _loss(profile, days):.3g}'):,.0f}" for days in DAYS]
    code = f"any {profile.needed} of {profile.pieces}"
    return (profile.name, code, str(profile.repair), f"{profile.expansion:.2f}", str(profile.nodes_min), *lost)


def _document(profile: Profile) -> dict[str, object]:
    losses = [{"leaving_a_month": LEAVING, "repair_days": days, "annual_loss": _loss(profile, days)} for days in DAYS]
    return {**profile._asdict(), "expansion": profile.expansion, "losses": losses}


def _loss(profile: Profile, days: int) -> float:
    return profile.annual_loss(monthly(LEAVING, float(days)))
