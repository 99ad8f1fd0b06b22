"""``GET /metrics``: what a scrape reads of the residents."""

from __future__ import annotations

from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from appliance.api.ops.metrics import render_metrics
from appliance.config import Config
from appliance.lifecycle.node import Node
from appliance.scheduler.ledger import Ledger
from appliance.scheduler.scheduler import Scheduler
from tests.support.fake_engine import FakeBackend, FakeClock, FakeMeter, wanted


async def test_a_deployment_is_one_series(tmp_path: Path) -> None:
    """An engine that leaves with its last request and the one that has come for the next are counted together: two
    samples of one series would be refused by who reads them.
    """
    node = Node(tmp_path / "home", Config())
    # without the registry behind it, which does not know the deployment
    node.scheduler = Scheduler(FakeClock(), Ledger("cpu", 25), idle_seconds=60, queue_limit=2, meter=FakeMeter)
    try:
        leases = []
        for _ in range(2):
            node.scheduler.want(wanted("a", FakeBackend()))
            leases.append(await node.scheduler.acquire("a"))
            node.scheduler.forget("a")
        families = text_string_to_metric_families(render_metrics(node).decode())
        samples = {family.name: family.samples for family in families}
        assert [sample.value for sample in samples["appliance_resident_leases"]] == [2.0]
        assert [sample.value for sample in samples["appliance_resident_waiting"]] == [0.0]
        for lease in leases:
            lease.release()
    finally:
        await node.close()
