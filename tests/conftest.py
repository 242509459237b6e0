"""Fixtures that all tests may use."""

from __future__ import annotations

from tests.engines import engine_folder, engines, nats_url, postgres_dsn

__all__ = ["engine_folder", "engines", "nats_url", "postgres_dsn"]
