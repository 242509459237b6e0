"""Fixtures that several files of unit tests use."""

from __future__ import annotations

from tests.unit.canned_client import client, program
from tests.unit.http_world import http, network
from tests.unit.market_orders import world

__all__ = ["client", "http", "network", "program", "world"]
