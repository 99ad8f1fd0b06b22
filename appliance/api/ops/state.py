"""The node at one moment, as the dashboard shows it."""

from __future__ import annotations

import asyncio
from collections import Counter

from msgspec import structs

import appliance
from appliance.domain.models import Benchmark, Caller, Deployment
from appliance.engines.base import EngineStats, Share
from appliance.hardware.devices import Device
from appliance.lifecycle.benchmarks import context_length_tokens
from appliance.lifecycle.contents import stored_level_of
from appliance.lifecycle.node import Node
from appliance.lifecycle.usage import Totals
from appliance.scheduler.booking import Booking
from appliance.scheduler.plan import Plan
from appliance.scheduler.resident import Resident, ResidentState
from appliance.wire import admin as wire


async def state_of(node: Node, caller: Caller) -> wire.State:
    """Devices and residents for everyone; deployments that the caller may see."""
    space = await asyncio.to_thread(node.store.space)
    reasons = node.not_ready_reasons()
    ledger = node.scheduler.ledger
    visible = node.directory.visible(caller, node.directory.deployments.values())
    names = {deployment.id for deployment in visible}
    residents = [*node.scheduler.residents(), *node.scheduler.hung]
    holders = Counter(r.placement.weights_key for r in residents if r.state is not ResidentState.WAITING)
    return wire.State(
        version=appliance.__version__,
        started_at=node.started_at,
        now=node.clock.now(),
        ready=not reasons,
        not_ready_reasons=reasons,
        devices=[_device(node, device) for device in node.probe.devices()],
        gpu_note=node.probe.gpu_note,
        store_used_bytes=space.blob_bytes,
        store_free_bytes=space.free_bytes,
        memory_budget_bytes=ledger.budget_bytes,
        memory_reserved_bytes=ledger.reserved_bytes,
        min_stay_seconds=node.scheduler.rules.min_stay_seconds,
        max_wait_seconds=node.scheduler.rules.max_wait_seconds,
        residents=[_resident(node, r, caller, holders) for r in residents if r.wanted.deployment_id in names],
        deployments=[_deployment(node, deployment) for deployment in visible],
        async_tasks_waiting=node.async_tasks.waiting,
        async_tasks_running=node.async_tasks.running,
        batches_unfinished=node.batches.unfinished,
        batch_lines_waiting=node.batches.waiting_lines,
        bookings=[booking_view(booking) for booking in node.scheduler.bookings()] if caller.is_admin else [],
    )


def _device(node: Node, device: Device) -> wire.Device:
    return wire.Device(
        id=device.id,
        name=device.name,
        total_bytes=device.total_bytes,
        free_bytes=device.free_bytes,
        used_by_appliance_bytes=device.used_by_us_bytes or 0,
        utilisation_percent=device.utilisation_percent,
        temperature_celsius=device.temperature_celsius,
        power_watts=device.power_watts,
        budget_bytes=node.scheduler.ledger.budget_on(device.id),
        reserved_bytes=node.scheduler.ledger.reserved_on(device.id),
    )


def _resident(node: Node, resident: Resident, caller: Caller, holders: Counter[str | None]) -> wire.Resident:
    stats = resident.engine.stats() if resident.engine is not None else EngineStats()
    placement, waits = resident.placement, resident.state is ResidentState.WAITING
    idle = node.clock.monotonic_seconds() - resident.last_used_seconds
    return wire.Resident(
        deployment_id=resident.wanted.deployment_id,
        deployment_name=resident.wanted.name,
        state=resident.state.value,
        note=_note(node, resident) if caller.is_admin else None,
        device=resident.engine.device if resident.engine is not None else None,
        placement=[] if waits else [_share(share) for share in placement.shares],
        pinned=resident.wanted.pinned,
        leases=resident.leases,
        waiting=resident.waiting,
        slots=resident.engine.slots if resident.engine is not None else resident.wanted.spec.slots,
        predicted_bytes=placement.total_bytes,
        learned=placement.need.is_learned,
        own_bytes=placement.need.own_bytes,
        shared_weights_bytes=placement.need.shared_bytes,
        weights_holders=holders[placement.weights_key] if placement.weights_key is not None else 1,
        measured_bytes=resident.measured_bytes,
        cache_used_tokens=stats.cache_used_tokens,
        cache_total_tokens=stats.cache_total_tokens,
        idle_seconds=0.0 if resident.leases else idle,
        loaded_at=resident.loaded_at,
        load_seconds=resident.load_took_seconds if resident.loaded_at is not None else None,
        context_length_tokens=context_length_tokens(resident.engine),
    )


def booking_view(booking: Booking) -> wire.Booking:
    """A booking as it crosses HTTP."""
    has_room = booking.granted.done()
    return wire.Booking(
        name=booking.demand.name,
        state="WAITING" if not has_room else "ENDING" if booking.is_revoked else "WORKING",
        placement=[_share(share) for share in booking.placement.shares] if has_room else [],
        predicted_bytes=booking.placement.total_bytes,
    )


def _share(share: Share) -> wire.DeviceShare:
    return wire.DeviceShare(device=share.device, layers=share.layers, reserved_bytes=share.need.total_bytes)


def _note(node: Node, resident: Resident) -> str | None:
    """Why it waits, or hangs."""
    return node.scheduler.plan(resident.wanted).reason if resident.state is ResidentState.WAITING else resident.trouble


def _deployment(node: Node, deployment: Deployment) -> wire.DeploymentState:
    model = node.directory.models[deployment.model_id]
    totals = node.counters.by_deployment.get(deployment.id, Totals())
    return wire.DeploymentState(
        id=deployment.id,
        name=deployment.name,
        model_id=model.id,
        model_name=model.name,
        model_type=model.model_type.value,
        status=deployment.status.value,
        status_reason=deployment.status_reason,
        built_in=deployment.built_in,
        resident=node.scheduler.is_resident(deployment.id),
        calls=totals.calls,
        prompt_tokens=totals.prompt_tokens,
        response_tokens=totals.response_tokens,
        errors=totals.errors,
        call_content=stored_level_of(deployment.metadata).value,
    )


def plan_view(plan: Plan) -> wire.Plan:
    """A plan as it crosses HTTP."""
    need = plan.placement.need
    return wire.Plan(
        deployment_name=plan.name,
        outcome=plan.outcome.value,
        reason=plan.reason,
        device=plan.placement.device,
        placement=[
            wire.PlannedShare(
                device=site.share.device,
                layers=site.share.layers,
                reserved_bytes=site.share.need.total_bytes,
                free_bytes=site.free_bytes,
                budget_bytes=site.budget_bytes,
            )
            for site in plan.sites
        ],
        weights_bytes=need.weights_bytes,
        shares_weights=need.weights_key is not None,
        adapter_bytes=need.adapter_bytes,
        cache_bytes=need.cache_bytes,
        prefix_bytes=need.prefix_bytes,
        compute_bytes=need.compute_bytes,
        total_bytes=need.total_bytes,
        learned=need.is_learned,
        free_bytes=plan.free_bytes,
        budget_bytes=plan.budget_bytes,
        evicts=list(plan.evicts),
        stays=[
            wire.Stay(deployment_name=stay.name, reserved_bytes=stay.placement.total_bytes, reason=stay.reason)
            for stay in plan.stays
        ],
        ahead=plan.ahead,
    )


def benchmark_view(kept: Benchmark, stale: str | None) -> wire.Benchmark:
    """A kept result as it crosses HTTP."""
    return wire.Benchmark(
        id=kept.id,
        deployment_id=kept.deployment_id,
        deployment_name=kept.deployment_name,
        slots=kept.slots,
        context_length_tokens=kept.context_length_tokens,
        engine_version=kept.engine_version,
        device=kept.device,
        machine=kept.machine,
        appliance_version=kept.appliance_version,
        load_seconds=kept.load_seconds,
        points=[wire.BenchmarkPoint(**structs.asdict(point)) for point in kept.points],
        measured_at=kept.measured_at,
        stale=stale,
    )
