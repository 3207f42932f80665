"""Counts what the decision endpoint does, in Prometheus' text format: requests, decisions, latencies, reloads. No query is in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from routewright.gateway.decisions import Decision
from routewright.gateway.reload import Reloading

if TYPE_CHECKING:
    from prometheus_client import Metric

SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


class Metrics:
    """One server's own registry. Thread-safe. Labels are bounded: routes of the server, points and models of bundles it served.

    sessions: how many are kept now.
    """

    def __init__(self, reloading: Reloading[Any], sessions: Callable[[], int]) -> None:
        from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector

        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._registry.register(_Watched(reloading, sessions))

        def counter(name: str, told: str, labels: tuple[str, ...] = ()) -> Counter:
            return Counter(f"routewright_{name}", told, labels, registry=self._registry)

        self._requests = counter("requests", "Requests answered.", ("route", "status"))
        self._decisions = counter("decisions", "Decisions made.", ("model", "reason", "point"))
        self._steps = counter(
            "cascade_steps", "Steps of cascades: a model that is to be called, or whose answer is served.", ("model", "step", "point")
        )
        self._overloaded = counter("overloaded", "Requests turned away since too many waited.")
        self._errors = counter("internal_errors", "Requests that met an error of the server's own.")
        self._seconds = Histogram(
            "routewright_request_seconds", "From the request's head to its answer.", ("route",), registry=self._registry, buckets=SECONDS
        )

    def answered(self, route: str, status: int, seconds: float) -> None:
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def decided(self, decision: Decision) -> None:
        self._decisions.labels(decision.model, decision.reason, decision.point).inc()

    def stepped(self, found: Mapping[str, Any]) -> None:
        """found: the state that a step led to, as gateway.cascade.state tells it."""
        ended = found["served"] is not None
        self._steps.labels(found["served"]["model"] if ended else found["next"], "serve" if ended else "call", found["point"]).inc()

    def overloaded(self) -> None:
        self._overloaded.inc()

    def failed(self) -> None:
        self._errors.inc()

    def text(self) -> tuple[bytes, str]:
        """(text, its content type)."""
        from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

        return generate_latest(self._registry), CONTENT_TYPE_PLAIN_0_0_4


class _Watched:
    """What is counted elsewhere, read when it is asked for."""

    def __init__(self, reloading: Reloading[Any], sessions: Callable[[], int]) -> None:
        self._reloading, self._sessions = reloading, sessions

    def collect(self) -> Iterator[Metric]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        watched: Any = self._reloading
        loads = CounterMetricFamily("routewright_reloads", "Bundles swapped in, and bundles refused.", labels=["result"])
        loads.add_metric(["ok"], watched.reloads)
        loads.add_metric(["refused"], watched.failures)
        yield loads
        yield GaugeMetricFamily("routewright_sessions", "Sessions kept.", self._sessions())
        stale = GaugeMetricFamily("routewright_bundle_refused", "1 while what lies in the folder is not what is in service.")
        stale.add_metric([], float(watched.refused is not None))
        yield stale
        info = GaugeMetricFamily("routewright_bundle_since_seconds", "When it was put in service.", labels=["bundle", "name", "verdict"])
        if (served := watched.current) is not None:
            bundle = served.bundle
            info.add_metric([bundle.hash, bundle.described["name"], bundle.verdict], served.since)
        yield info
