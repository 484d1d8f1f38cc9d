"""What a node tells in Prometheus' text format."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from airmoe import __version__
from airmoe.mesh.condition import Condition


class NodeCollector(Collector):
    """Turns the condition of a node into metrics, anew each time it is asked.

    Args:
        condition: returns that of now.
    """

    def __init__(self, condition: Callable[[], Condition]) -> None:
        self._condition = condition

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of now."""
        now = self._condition()
        counted = now.counted
        answered = CounterMetricFamily("airmoe_requests", "Requests that were answered.", labels=["asker"])
        for asker, count in counted.answered.items():
            answered.add_metric([asker], count)
        yield answered
        yield CounterMetricFamily("airmoe_items", "Items of these requests.", counted.items)
        refused = CounterMetricFamily("airmoe_refusals", "Requests that were refused.", labels=["reason"])
        for reason, count in counted.refused.items():
            refused.add_metric([reason], count)
        yield refused
        yield CounterMetricFamily("airmoe_busy_seconds", "Seconds spent on requests.", counted.busy_s)
        gauges = {
            "airmoe_waiting_requests": ("Requests that wait.", now.waiting),
            "airmoe_waiting_bytes": ("Bytes of the requests that wait.", now.waiting_bytes),
            "airmoe_links": ("Nodes and clients that are linked.", now.links),
            "airmoe_healthy": ("1 where /health says so, else 0.", now.why_ill(datetime.now(UTC)) is None),
            "airmoe_start_time_seconds": ("When the node began, Unix time.", counted.since_s),
        }
        if now.roster is not None and now.certificate_ends is not None:
            gauges["airmoe_roster_number"] = "The roster that the node goes by.", now.roster
            gauges["airmoe_certificate_end_timestamp_seconds"] = (
                "When the certificate is over, Unix time.",
                now.certificate_ends.timestamp(),
            )
        for name, (meaning, value) in gauges.items():
            yield GaugeMetricFamily(name, meaning, value)
        labels = {"node": str(now.node), "mesh": now.mesh, "model": now.model_hash, "version": __version__}
        yield InfoMetricFamily("airmoe_node", "Which node this is.", labels)


def metrics_text(condition: Callable[[], Condition]) -> Callable[[], bytes]:
    """Return what gives the metrics of a node in the text format, UTF-8.

    Args:
        condition: returns that of now.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(NodeCollector(condition))
    return lambda: generate_latest(registry)
