"""What `/metrics` tells, in the form of Prometheus; one registry a server, so that two may live in one process."""

from collections.abc import Callable

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
ROUTES = frozenset(
    {"/", "/predict", "/predict/batch", "/healthz", "/readyz", "/metrics", "/preprocess", "/openapi.json"}
)


class Metrics:
    """The counters of one server; labels take a fixed set of values, whatever a client sends."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        self._requests = Counter(
            "pillsnap_requests", "Answered requests", ["route", "status"], registry=registry
        )  # fmt: skip
        self.part_seconds = Histogram(
            "pillsnap_part_seconds", "Seconds by part of an answered photo: upload, queue, decode, model, total",
            ["part"], buckets=SECONDS, registry=registry,
        )  # fmt: skip
        self.batch_size = Histogram(
            "pillsnap_batch_photos", "Photos given to a worker at once", buckets=(1, 2, 4, 8, 16, 32), registry=registry
        )
        self.rejected = Counter(
            "pillsnap_rejected", "Photos refused, by reason; a request refused as a whole counts as one", ["reason"],
            registry=registry,
        )  # fmt: skip
        self.worker_restarts = Counter("pillsnap_worker_restarts", "Workers that were replaced", registry=registry)
        self._photos = Counter(
            "pillsnap_photos", "Photos by format and whether they could be used", ["format", "valid"], registry=registry
        )
        self.decided_none = Counter("pillsnap_none_of_these", "Photos of none of the known pills", registry=registry)
        self._model = Gauge("pillsnap_model_info", "1 for the model served", ["version", "variant"], registry=registry)
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)

    def watch(self, name: str, words: str, value: Callable[[], float]) -> None:
        """Add a gauge that is read when it is asked for."""
        Gauge(name, words, registry=self.registry).set_function(value)

    def count_request(self, path: str, status: int) -> None:
        """Count an answered request."""
        self._requests.labels(path if path in ROUTES else "other", str(status)).inc()

    def count_photo(self, report: dict[str, object] | None) -> None:
        """Count a photo by what the gateway check says about it."""
        if report is not None:
            self._photos.labels(str(report["format"] or "none"), str(bool(report["valid"])).lower()).inc()

    def name_model(self, version: str, variant: str) -> None:
        """Tell which model is served."""
        self._model.labels(version, variant).set(1)

    def text(self) -> bytes:
        """The page."""
        return generate_latest(self.registry)
