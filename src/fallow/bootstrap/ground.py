"""What all roles of a network's core stand on."""

from __future__ import annotations

from typing import NamedTuple

from fallow.adapters.nats.bus import NatsBus
from fallow.adapters.postgres.database import PostgresDatabase
from fallow.bootstrap.keys import NetworkKeys
from fallow.bootstrap.place import Place
from fallow.bootstrap.settings import Settings
from fallow.domain.fees import Fees
from fallow.ports.measuring import Watch
from fallow.ports.steady import Steady


class Ground(NamedTuple):
    """What all core roles stand on.

    `watch` has numbers of a role told for `/metrics`. `fees` follow what operators say.
    """

    place: Place
    settings: Settings
    keys: NetworkKeys
    clock: Steady
    bus: NatsBus
    database: PostgresDatabase
    watch: Watch
    fees: Fees
