"""The node's numbers for Prometheus, read at the moment of the scrape."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from appliance.lifecycle.node import Node

DEPLOYMENT = ["deployment_id", "deployment"]


def render_metrics(node: Node) -> bytes:
    """The text exposition format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_NodeCollector(node))
    return generate_latest(registry)


class _NodeCollector(Collector):
    def __init__(self, node: Node) -> None:
        self._node = node

    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily("appliance_ready", "1 when every pinned deployment can answer", self._ready())
        yield from self._devices()
        yield from self._memory()
        yield from self._residents()
        yield from self._background()
        yield from self._calls()

    def _ready(self) -> float:
        return 0.0 if self._node.not_ready_reasons() else 1.0

    def _devices(self) -> Iterator[Metric]:
        total = GaugeMetricFamily("appliance_device_total_bytes", "Memory of a device", labels=["device"])
        free = GaugeMetricFamily("appliance_device_free_bytes", "Free memory of a device", labels=["device"])
        for device in self._node.probe.devices():
            total.add_metric([device.id], device.total_bytes)
            free.add_metric([device.id], device.free_bytes)
        yield total
        yield free

    def _memory(self) -> Iterator[Metric]:
        ledger = self._node.scheduler.ledger
        yield GaugeMetricFamily("appliance_memory_budget_bytes", "Bytes for all engines", ledger.budget_bytes)
        yield GaugeMetricFamily("appliance_memory_reserved_bytes", "Bytes reserved by engines", ledger.reserved_bytes)

        scheduler = self._node.scheduler
        yield CounterMetricFamily("appliance_loads", "Engines loaded since the start", scheduler.loads)
        hung = len(scheduler.hung)
        yield GaugeMetricFamily("appliance_hung", "Engines and loads that hang, with the memory that they hold", hung)
        yield CounterMetricFamily("appliance_evictions", "Engines that left memory for others", scheduler.evictions)

    def _residents(self) -> Iterator[Metric]:
        leases = GaugeMetricFamily("appliance_resident_leases", "Requests that hold an engine", labels=DEPLOYMENT)
        waiting = GaugeMetricFamily("appliance_resident_waiting", "Requests that hold no slot yet", labels=DEPLOYMENT)
        held: Counter[tuple[str, str]] = Counter()
        queued: Counter[tuple[str, str]] = Counter()
        for resident in self._node.scheduler.residents():  # of one deployment there may be several: a series is one
            labels = resident.wanted.deployment_id, resident.wanted.name
            held[labels] += resident.leases
            queued[labels] += resident.waiting
        for labels in held:
            leases.add_metric(labels, held[labels])
            waiting.add_metric(labels, queued[labels])
        yield leases
        yield waiting

    def _background(self) -> Iterator[Metric]:
        tasks, batches = self._node.async_tasks, self._node.batches
        yield GaugeMetricFamily("appliance_async_tasks_waiting", "Async tasks that wait for a slot", tasks.waiting)
        yield GaugeMetricFamily("appliance_async_tasks_running", "Async tasks that run", tasks.running)
        yield GaugeMetricFamily("appliance_batches_unfinished", "Batches that have not ended", batches.unfinished)
        yield GaugeMetricFamily("appliance_batch_lines_waiting", "Requests without an answer", batches.waiting_lines)

    def _calls(self) -> Iterator[Metric]:
        for name, help_text in (
            ("calls", "Logged executions"),
            ("errors", "Executions that failed"),
            ("prompt_tokens", "Tokens of prompts"),
            ("cached_tokens", "Tokens of prompts that were not computed again"),
            ("response_tokens", "Tokens of answers"),
            ("queue_seconds", "Time in line"),
            ("prefill_seconds", "Time computing prompts"),
            ("decode_seconds", "Time generating"),
        ):
            family = CounterMetricFamily(f"appliance_{name}", help_text, labels=DEPLOYMENT)
            for deployment_id, totals in self._node.counters.by_deployment.items():
                deployment = self._node.directory.deployments.get(deployment_id)
                family.add_metric([deployment_id, deployment.name if deployment else ""], getattr(totals, name))
            yield family
