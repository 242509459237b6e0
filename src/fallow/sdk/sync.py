"""The same client for code without asyncio: it drives an AsyncClient on a loop in a thread of its own."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Self

from fallow.sdk.client import AsyncClient
from fallow.sdk.loop import Loop
from fallow.sdk.patience import PATIENCE_S, Told, nobody
from fallow.sdk.signing import BuyerKey
from fallow.sdk.waiting import Waiting, iterates, iterates_items, waits, waits_for_item, waits_for_run


class Client(Waiting):
    """`AsyncClient` for code without asyncio: the same methods, which wait for their results."""

    def __init__(
        self,
        url: str,
        api_key: str,
        *,
        ca: Path | ssl.SSLContext | None = None,
        patience_s: float = PATIENCE_S,
        on_wait: Told = nobody,
        signing_key: BuyerKey | None = None,
        client: AsyncClient | None = None,
    ) -> None:
        self._client = client or AsyncClient(
            url, api_key, ca=ca, patience_s=patience_s, on_wait=on_wait, signing_key=signing_key
        )
        self._loop = Loop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections and end the thread."""
        self._loop.stop(self._client.close())

    health = waits(AsyncClient.health)
    blobs = waits(AsyncClient.blobs)
    seeds = waits(AsyncClient.seeds)
    roll_calls = waits(AsyncClient.roll_calls)
    seed_parts = waits(AsyncClient.seed_parts)
    draws = iterates(AsyncClient.draws)
    plant = waits(AsyncClient.plant)
    verify_draws = waits(AsyncClient.verify_draws)

    price = waits(AsyncClient.price)
    report_price = waits(AsyncClient.report_price)
    accept_price = waits(AsyncClient.accept_price)
    prices = waits(AsyncClient.prices)
    set_fee = waits(AsyncClient.set_fee)
    set_tariff = waits(AsyncClient.set_tariff)
    set_take = waits(AsyncClient.set_take)

    epochs = waits(AsyncClient.epochs)
    epoch = waits(AsyncClient.epoch)
    votes = waits(AsyncClient.votes)
    proofs = waits(AsyncClient.proofs)
    end_epoch = waits(AsyncClient.end_epoch)
    closed_epoch = waits(AsyncClient.closed_epoch)
    fetch_epoch = waits(AsyncClient.fetch_epoch)
    check_promises = waits(AsyncClient.check_promises)
    held_pay = waits(AsyncClient.held_pay)
    is_broken = waits(AsyncClient.is_broken)

    subscribe = waits(AsyncClient.subscribe)
    subscriptions = waits(AsyncClient.subscriptions)
    unsubscribe = waits(AsyncClient.unsubscribe)
    signing_secret = waits(AsyncClient.signing_secret)
    link = waits(AsyncClient.link)
    ask_vertical = waits(AsyncClient.ask_vertical)

    network = waits(AsyncClient.network)
    nodes = waits(AsyncClient.nodes)
    balance = waits(AsyncClient.balance)
    statement = waits(AsyncClient.statement)
    budget = waits(AsyncClient.budget)
    set_budget = waits(AsyncClient.set_budget)
    withdraw = waits(AsyncClient.withdraw)
    payee = waits(AsyncClient.payee)
    change_payout = waits(AsyncClient.change_payout)
    change_own_payout = waits(AsyncClient.change_own_payout)
    alerts = waits(AsyncClient.alerts)
    alert_channels = waits(AsyncClient.alert_channels)
    set_alert_channel = waits(AsyncClient.set_alert_channel)
    confirm_alerts = waits(AsyncClient.confirm_alerts)
    end_alert_channel = waits(AsyncClient.end_alert_channel)
    redirect_claims = waits(AsyncClient.redirect_claims)
    all_movements = iterates(AsyncClient.all_movements)
    create_token = waits(AsyncClient.create_token)
    create_key = waits(AsyncClient.create_key)
    revoke_key = waits(AsyncClient.revoke_key)
    keys = waits(AsyncClient.keys)
    tokens = waits(AsyncClient.tokens)
    revoke_token = waits(AsyncClient.revoke_token)
    act = waits(AsyncClient.act)
    actions = waits(AsyncClient.actions)
    all_actions = iterates(AsyncClient.all_actions)
    enrolled = waits(AsyncClient.enrolled)
    bans = waits(AsyncClient.bans)
    all_bans = iterates(AsyncClient.all_bans)
    all_enrolled = iterates(AsyncClient.all_enrolled)
    grant = waits(AsyncClient.grant)
    ledger_check = waits(AsyncClient.ledger_check)
    reruns = waits(AsyncClient.reruns)
    evidence = waits(AsyncClient.evidence)
    begin_audit = waits(AsyncClient.begin_audit)
    audits = waits(AsyncClient.audits)
    audit = waits(AsyncClient.audit)
    reserve = waits(AsyncClient.reserve)
    balance_of = waits(AsyncClient.balance_of)

    quote = waits(AsyncClient.quote)
    submit = waits(AsyncClient.submit)
    job = waits(AsyncClient.job)
    jobs = waits(AsyncClient.jobs)
    all_jobs = iterates(AsyncClient.all_jobs)
    order = waits(AsyncClient.order)
    rerun = waits(AsyncClient.rerun)
    items = waits(AsyncClient.items)
    all_items = iterates(AsyncClient.all_items)
    leases = waits(AsyncClient.leases)
    all_leases = iterates(AsyncClient.all_leases)
    job_evidence = waits(AsyncClient.job_evidence)
    cancel = waits(AsyncClient.cancel)
    events = iterates(AsyncClient.events)
    wait = waits(AsyncClient.wait)

    bill = waits(AsyncClient.bill)

    delegate = waits(AsyncClient.delegate)
    delegations = waits(AsyncClient.delegations)
    revoke_delegation = waits(AsyncClient.revoke_delegation)
    countersign = waits(AsyncClient.countersign)

    upload = waits(AsyncClient.upload)
    download = waits(AsyncClient.download)
    read = waits(AsyncClient.read)

    comparator = waits(AsyncClient.comparator)
    wasm_order = waits(AsyncClient.wasm_order)
    run_wasm = waits_for_run(AsyncClient.run_wasm)
    map_wasm = iterates_items(AsyncClient.map_wasm)
    results = iterates_items(AsyncClient.results)
    result = waits_for_item(AsyncClient.result)

    container_order = waits(AsyncClient.container_order)
    run_container = waits_for_run(AsyncClient.run_container)
    map_container = iterates_items(AsyncClient.map_container)

    logs = iterates(AsyncClient.logs)
    exec = waits(AsyncClient.exec)
    reach = waits(AsyncClient.reach)

    python_order = waits(AsyncClient.python_order)
    run_python = waits_for_run(AsyncClient.run_python)
    map_python = iterates_items(AsyncClient.map_python)
    run = waits(AsyncClient.run)
    map = iterates(AsyncClient.map)
