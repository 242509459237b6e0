"""How long requests over HTTP wait for the beginning of their answer, by route."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from prometheus_client import CollectorRegistry, Histogram

from fallow.bootstrap.telling import from_registry
from fallow.domain.metrics import Family
from fallow.ports.clock import Clock
from fallow.ports.vertical.gateway import Asgi

METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"})
METHOD_NOT_ALLOWED: Final = 405
BOUNDS_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class Latency:
    """Counts the answers of one application. What is slow by itself, as a stream of events, counts to its beginning."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._registry = CollectorRegistry()
        self._seconds = Histogram(
            "fallow_http_request_seconds",
            "From a request's head to its answer's, by the route's template, method and class of status.",
            ["route", "method", "status"],
            buckets=BOUNDS_S,
            registry=self._registry,
        )

    async def measure(self) -> Sequence[Family]:
        """See `fallow.ports.measuring.Measure`."""
        return from_registry(self._registry)

    def of(self, app: Asgi) -> Asgi:
        """Return an application that does the same, and is measured."""

        async def measured(scope: Any, receive: Any, send: Callable[[Any], Awaitable[None]]) -> None:  # noqa: ANN401
            if scope["type"] != "http":
                await app(scope, receive, send)
                return
            begun = self._clock.monotonic_ms()

            async def noting(message: Any) -> None:  # noqa: ANN401
                if message["type"] == "http.response.start":
                    self._note(scope, message["status"], self._clock.monotonic_ms() - begun)
                await send(message)

            await app(scope, receive, noting)

        return measured

    def _note(self, scope: Any, status: int, took_ms: int) -> None:  # noqa: ANN401
        """Count an answer. The router has left its template in the scope; without one nothing stands for the path.

        Nothing does either for what the route does not do: strangers would make numbers for each method of each.
        """
        method = scope["method"] if scope["method"] in METHODS else "other"
        done = method != "OPTIONS" and status != METHOD_NOT_ALLOWED
        template = scope.get("path_template", "") if done else ""
        self._seconds.labels(template, method, f"{status // 100}xx").observe(took_ms / 1000)
