"""Every route of a real network, with input made from its own OpenAPI document: valid, hostile, and of nobody."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi import checks

from fallow import AsyncClient, Order
from fallow.adapters.memory.bus import MemoryHub
from tests import programs
from tests.network import BOUND, running_network
from tests.unit.fake_network import FakeNetwork

pytestmark = pytest.mark.xdist_group("api")

SEED = 20_260_701
EXAMPLES = int(os.environ.get("FALLOW_API_EXAMPLES", "12"))
"""For each route and mode; a search of hours takes more."""

CHECKS = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
    checks.unsupported_method,
]
REFUSING = [*CHECKS, checks.negative_data_rejection, checks.missing_required_header]
STREAMS = {"POST /v1/operator/what-if"}
"""What these state is what their events hold, which no OpenAPI document can say of events themselves."""

ENDLESS = {"GET /v1/happenings/events"}
MOMENT_S = 5
"""What never ends is read for so long."""


@dataclass(frozen=True)
class Known:
    """A network, and what is there to be asked for: an order that ran, and keys."""

    url: str
    order: Order
    blob: str
    keys: dict[str, str]


@pytest.fixture(scope="module")
def known() -> Iterator[Known]:
    """A network of this module's own: what is invented here may grant, revoke and buy."""
    with running_network() as running:
        yield asyncio.run(_bought(running.url, running.welcome))


async def _bought(url: str, welcome: Any) -> Known:
    async with AsyncClient(url, welcome["buyer_key"]) as buyer:
        order = await buyer.wasm_order(programs.hello(), label="known")
        await buyer.submit(order)
        await buyer.cancel(order.id)
    keys = {"buy": welcome["buyer_key"], "operate": welcome["operator_key"]}
    return Known(url, order, str(order.work["program"]), keys)


def document() -> dict[str, Any]:
    """The OpenAPI document, as a gateway serves it."""
    described: dict[str, Any] = FakeNetwork(MemoryHub()).app.openapi_schema.to_schema()
    return described


SCHEMA = schemathesis.openapi.from_dict(document())
OPERATIONS = [cast("Ok[APIOperation[Any, Any, Any, Any]]", found).ok() for found in SCHEMA.get_all_operations()]
CASES = [(each, GenerationMode.POSITIVE) for each in OPERATIONS] + [
    (each, GenerationMode.NEGATIVE) for each in OPERATIONS if each.body or each.path_parameters or each.query
]


@pytest.mark.parametrize(("operation", "mode"), CASES, ids=[f"{mode.value} {each.label}" for each, mode in CASES])
def test_every_answer_is_one_that_the_document_states(
    known: Known, operation: APIOperation[Any, Any, Any, Any], mode: GenerationMode
) -> None:
    headers = {"Authorization": f"Bearer {known.keys['operate' if 'operator' in operation.path else 'buy']}"}

    @bounded
    @given(case=operation.as_strategy(generation_mode=mode), mine=st.booleans())
    def ask(case: Case[Any], mine: bool) -> None:
        if mine:
            aim(case, known)
        hostile = mode is GenerationMode.NEGATIVE and not mine
        excluded = [checks.response_schema_conformance] if operation.label in STREAMS else []
        case.call_and_validate(
            base_url=known.url,
            headers=headers,
            checks=REFUSING if hostile else CHECKS,
            excluded_checks=excluded,
            timeout=BOUND if operation.label not in ENDLESS else MOMENT_S,
        )

    ask()


def bounded(test: Any) -> Any:
    """Few examples, the same each time."""
    return seed(SEED)(
        settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )(test)
    )


def aim(case: Case[Any], known: Known) -> None:
    """Ask for what is there, so that not every answer is that it is not."""
    there = {"job_id": known.order.id, "sha256": known.blob}
    for name in there.keys() & (case.path_parameters or {}).keys():
        case.path_parameters[name] = there[name]
    if isinstance(case.body, dict) and "work" in case.body:
        case.body = {**case.body, "vertical": known.order.vertical, "work": known.order.work, "items": []}
