"""What a node tells over HTTP, of a condition that the test makes."""

import datetime
import http.client
import json
from collections.abc import Iterator
from dataclasses import replace

import pytest

from airmoe.errors import AddressError
from airmoe.mesh.condition import Condition
from airmoe.mesh.counts import Counts
from tests.mesh.ports import free_address

pytest.importorskip("prometheus_client", reason="needs airmoe[monitor]")

ENDS = datetime.datetime(2099, 1, 2, tzinfo=datetime.UTC)


class Told:
    """An endpoint, and the condition that it tells."""

    def __init__(self, address: str) -> None:
        self.address, self.counts = address, Counts()
        self.now = Condition(3, "lab", "ab12", self.counts.now(), 2, 900, 4, 7, ENDS, False, True)

    def condition(self) -> Condition:
        return replace(self.now, counted=self.counts.now())

    def get(self, path: str, host: str | None = None) -> tuple[int, str, str]:
        connection = http.client.HTTPConnection(self.address, timeout=60)
        connection.request("GET", path, headers={} if host is None else {"Host": host})
        answer = connection.getresponse()
        told = answer.status, answer.headers["Content-Type"], answer.read().decode()
        connection.close()
        return told

    def samples(self) -> dict[str, dict[tuple[str, ...], float]]:
        """The values of each metric by its labels, read by Prometheus' own parser."""
        from prometheus_client.parser import text_string_to_metric_families

        status, kind, text = self.get("/metrics")
        assert (status, kind) == (200, "text/plain; version=0.0.4; charset=utf-8")
        found: dict[str, dict[tuple[str, ...], float]] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                found.setdefault(sample.name, {})[tuple(sample.labels.values())] = sample.value
        return found


@pytest.fixture
def told() -> Iterator[Told]:
    from airmoe.monitor.node_endpoint import NodeEndpoint

    told = Told(free_address())
    with NodeEndpoint(told.condition, told.address) as endpoint:
        assert endpoint.url == f"http://{told.address}"
        yield told


def test_every_number_of_a_node_is_a_metric(told: Told) -> None:
    told.counts.answered("node-1", 5)
    told.counts.answered('"\n', 2)
    told.counts.refused("late")
    samples = told.samples()
    assert samples["airmoe_requests_total"] == {("node-1",): 1, ('"\\n',): 1}
    assert samples["airmoe_items_total"] == {(): 7}
    assert samples["airmoe_refusals_total"][("late",)] == 1
    assert samples["airmoe_refusals_total"][("overloaded",)] == 0, "there from the beginning"
    assert samples["airmoe_waiting_requests"] == {(): 2}
    assert samples["airmoe_waiting_bytes"] == {(): 900}
    assert samples["airmoe_links"] == {(): 4}
    assert samples["airmoe_roster_number"] == {(): 7}
    assert samples["airmoe_certificate_end_timestamp_seconds"] == {(): ENDS.timestamp()}
    assert samples["airmoe_start_time_seconds"] == {(): told.counts.now().since_s}
    assert samples["airmoe_busy_seconds_total"] == {(): 0}
    assert samples["airmoe_healthy"] == {(): 1}
    (labels,) = samples["airmoe_node_info"]
    assert {"3", "lab", "ab12"} < set(labels)


def test_metrics_are_those_of_now_and_of_no_other_node(told: Told) -> None:
    from prometheus_client import REGISTRY

    assert told.samples()["airmoe_items_total"] == {(): 0}
    told.counts.answered("node-1", 5)
    assert told.samples()["airmoe_items_total"] == {(): 5}
    assert not [family for family in REGISTRY.collect() if family.name.startswith("airmoe")]


def test_a_node_without_an_identity_tells_no_certificate_and_no_roster(told: Told) -> None:
    told.now = replace(told.now, roster=None, certificate_ends=None)
    assert not {"airmoe_roster_number", "airmoe_certificate_end_timestamp_seconds"} & set(told.samples())


def test_a_node_that_is_well_is_200_and_says_which_it_is(told: Told) -> None:
    status, kind, text = told.get("/health")
    assert (status, kind) == (200, "application/json")
    assert json.loads(text) == {"healthy": True, "node": 3, "mesh": "lab", "reason": None}
    assert text.endswith("}\n")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"is_closing": True}, "the node is closing"),
        ({"has_worker": False}, "the thread that computes has ended"),
        (
            {"certificate_ends": datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)},
            "the certificate held until 2026-01-02 00:00 UTC: nobody is linked",
        ),
    ],
)
def test_a_node_that_is_not_well_is_503_and_says_why(
    told: Told, changes: dict[str, object], reason: str
) -> None:
    told.now = replace(told.now, **changes)  # type: ignore[arg-type]
    status, _, text = told.get("/health")
    assert (status, json.loads(text)["healthy"], json.loads(text)["reason"]) == (503, False, reason)
    assert told.samples()["airmoe_healthy"] == {(): 0}


def test_what_does_not_exist_is_404_and_names_what_does(told: Told) -> None:
    for path in ("/", "/metrics/", "/health?x", "/../etc/passwd"):
        status, _, text = told.get(path)
        assert (status, text) == (404, f"{path!r} is none; expected /metrics or /health\n")


def test_only_a_host_that_is_this_machine_is_answered_at_any_port(told: Told) -> None:
    for host in ("localhost", "127.0.0.1:1234", "[::1]", "[::1]:9", "LOCALHOST:80"):
        assert told.get("/health", host)[0] == 200, host
    for host in ("evil.example", "evil.example:9447", "10.0.0.1", "", "localhost.evil.example"):
        assert told.get("/metrics", host)[0] == 421, host


def test_a_port_in_use_and_an_address_elsewhere_are_refused(told: Told) -> None:
    from airmoe.monitor.node_endpoint import NodeEndpoint

    with pytest.raises(AddressError, match=r"cannot listen on .*: Address already in use"):
        NodeEndpoint(told.condition, told.address)
    with pytest.raises(AddressError, match="expected a loopback address"):
        NodeEndpoint(told.condition, "0.0.0.0:9447")
