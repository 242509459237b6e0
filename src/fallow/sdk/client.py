"""The buyers' client."""

from __future__ import annotations

from fallow.sdk.alerts import AlertCalls
from fallow.sdk.bills import BillCalls
from fallow.sdk.checks import CheckCalls
from fallow.sdk.containers import ContainerCalls
from fallow.sdk.epochs import EpochCalls
from fallow.sdk.python import PythonCalls
from fallow.sdk.subscriptions import SubscriptionCalls
from fallow.sdk.tokens import TokenCalls
from fallow.sdk.verticals import VerticalCalls


class AsyncClient(
    PythonCalls,
    ContainerCalls,
    AlertCalls,
    BillCalls,
    CheckCalls,
    EpochCalls,
    SubscriptionCalls,
    TokenCalls,
    VerticalCalls,
):
    """Buy from a network.

    async with AsyncClient("https://fallow.example", "fk_...") as client:
        result = await client.run_wasm(Path("program.wasm"), ["--help"])
        print((await result.stdout()).decode(), result.item.owed_microusd)

    Raises of all methods: the classes of `FallowError`, as the network raised them; Unavailable when it cannot be
    reached until patience ends.
    """
