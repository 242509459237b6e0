"""Requests between the network's processes, by area, with the subject that each is sent to.

A gateway authenticates its user and then asks in the name of an account; services trust gateways and nobody else on
these subjects (the bus lets no node publish to them).
"""

from fallow.domain.calls import (
    actions,
    alerts,
    base,
    checks,
    delegations,
    epochs,
    fees,
    jobs,
    keys,
    leases,
    market,
    money,
    nodes,
    payouts,
    processes,
    rules,
    sessions,
    streams,
    subscriptions,
    tariffs,
    tokens,
    verticals,
)

__all__ = [
    "actions",
    "alerts",
    "base",
    "checks",
    "delegations",
    "epochs",
    "fees",
    "jobs",
    "keys",
    "leases",
    "market",
    "money",
    "nodes",
    "payouts",
    "processes",
    "rules",
    "sessions",
    "streams",
    "subscriptions",
    "tariffs",
    "tokens",
    "verticals",
]
