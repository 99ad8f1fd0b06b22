"""One frozen ``Config``: defaults, then ``<home>/appliance.toml``, then environment variables.

Read once by ``appliance.app`` and the command line. A key that is not listed here is refused by name, so that a
spelling mistake never passes as a default.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from appliance.domain.errors import InvalidParameter

ENVIRONMENT_PREFIX = "APPLIANCE_"
KERNELS_VARIABLE = f"{ENVIRONMENT_PREFIX}KERNELS"
"""Which kernels compute; read when native libraries are loaded, here and in the processes that try weights."""

GIB = 1024**3


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How this node behaves. The documentation's table is made from the docstrings below each field."""

    host: str = "127.0.0.1"
    """Address to listen on. Another than loopback needs TLS files or ``insecure``."""
    port: Annotated[int, Meta(ge=0, le=65_535)] = 8080
    """TCP port; 0 takes a free one."""
    tls_certificate: str | None = None
    """PEM file; with ``tls_key`` the server speaks HTTPS."""
    tls_key: str | None = None
    """PEM file of the certificate's private key."""
    insecure: bool = False
    """True: listen beyond loopback without TLS."""
    allowed_hosts: tuple[str, ...] = ()
    """Host names, beside loopback and ``host``, that requests may name (against DNS rebinding)."""
    max_body_bytes: Annotated[int, Meta(ge=1024, le=4 * GIB)] = 64 * 1024**2
    """Largest request body."""
    memory_budget_bytes: Annotated[int, Meta(ge=0)] | None = None
    """RAM that engines may take together; unset: 80 % of what the machine or its cgroup has."""
    gpu_reserve_bytes: Annotated[int, Meta(ge=0)] = GIB
    """Memory of each GPU that engines leave free, for the driver's context and kernels that are loaded later."""
    builtin_gpus: Annotated[int, Meta(ge=0, le=64)] = 0
    """GPUs that the shipped llama.cpp templates ask for, and so the built-in models on them; 0: RAM."""
    idle_seconds: Annotated[float, Meta(ge=1, le=30 * 86_400)] = 300.0
    """How long an engine without pin and without calls stays in memory."""
    min_stay_seconds: Annotated[float, Meta(ge=0, le=86_400)] = 2.0
    """How long an engine stays after its load, whoever waits for the room; at least as long as the load took."""
    max_wait_seconds: Annotated[float, Meta(ge=0, le=86_400)] = 30.0
    """How long a deployment waits for the room of busy engines before these take no new requests and leave."""
    canary_seconds: Annotated[float, Meta(ge=1, le=86_400)] = 60.0
    """After so long without a sign of life an idle engine is asked for one token; who fails is taken out."""
    canary_patience_seconds: Annotated[float, Meta(ge=1, le=3600)] = 30.0
    """How long an engine may take for that token."""
    stall_seconds: Annotated[float, Meta(ge=1, le=86_400)] = 300.0
    """An engine with work that completes no step for so long hangs: its requests end with a 503, it is taken out. The
    first step may take ``load_timeout_seconds``, if that is longer."""
    load_stall_seconds: Annotated[float, Meta(ge=1, le=86_400)] = 300.0
    """A load, or the trial before it, that has not ended for so long hangs, if that is also three times as long as the
    same load took before and longer than its weights take from a slow disk (25 MiB/s): its requests end with a 503, and
    it is tried again."""
    queue_limit: Annotated[int, Meta(ge=1, le=100_000)] = 512
    """Requests that may wait for one deployment; one more is answered 429."""
    load_timeout_seconds: Annotated[float, Meta(ge=1, le=86_400)] = 600.0
    """How long a request waits for an engine to load."""
    shutdown_grace_seconds: Annotated[int, Meta(ge=0, le=3600)] = 20
    """How long requests that run may go on after a signal to end; then they are cut off."""
    disk_reserve_bytes: Annotated[int, Meta(ge=0)] = GIB
    """Disk space that imports, files, batches, datasets and fine-tuning jobs leave free."""
    import_roots: tuple[str, ...] = ("/media", "/mnt", "/run/media")
    """Folders that ``POST /admin/imports`` may read, beside ``<home>/import``."""
    max_import_bytes: Annotated[int, Meta(ge=1)] = 4096 * GIB
    """Largest artifact."""
    upstream_hosts: tuple[str, ...] = ()
    """Hosts that upstreams may be on: ``host``, ``host:port``, or ``http://host:port`` to allow it without TLS."""
    async_task_limit: Annotated[int, Meta(ge=1, le=1_000_000)] = 10_000
    """Async tasks that one account may have, finished ones included; one more is answered 429."""
    async_task_bytes: Annotated[int, Meta(ge=1024, le=64 * 1024**2)] = 4 * 1024**2
    """Largest arguments of an async task, and largest result."""
    async_task_retention_seconds: Annotated[float, Meta(ge=1, le=365 * 86_400)] = 86_400.0
    """How long an async task is kept after its end."""
    file_limit: Annotated[int, Meta(ge=1, le=100_000)] = 1_000
    """Files that one account may have; one more is answered 429. Each may be as large as a body."""
    batch_limit: Annotated[int, Meta(ge=1, le=1_000)] = 100
    """Batches of one account that have not ended; one more is answered 429."""
    batch_lines: Annotated[int, Meta(ge=1, le=1_000_000)] = 50_000
    """Requests in one batch."""
    batch_retention_seconds: Annotated[float, Meta(ge=1, le=365 * 86_400)] = 30 * 86_400.0
    """How long a batch and its output are kept after its end; its input stays until it is deleted."""
    dataset_bytes: Annotated[int, Meta(ge=1024, le=64 * GIB)] = GIB
    """Largest training dataset; no larger than a body (``max_body_bytes``)."""
    dataset_lines: Annotated[int, Meta(ge=1, le=100_000_000)] = 1_000_000
    """Examples in one training dataset."""
    dataset_line_bytes: Annotated[int, Meta(ge=1024, le=64 * 1024**2)] = 1024**2
    """Longest line of a training dataset."""
    dataset_limit: Annotated[int, Meta(ge=1, le=100_000)] = 1_000
    """Training datasets that one account may have; one more is answered 429."""
    finetuning_limit: Annotated[int, Meta(ge=1, le=1_000)] = 100
    """Fine-tuning jobs of one account that have not ended; one more is answered 429."""
    finetuning_at_once: Annotated[int, Meta(ge=1, le=64)] = 1
    """Fine-tuning jobs that run at the same time."""
    finetuning_threads: Annotated[int, Meta(ge=1, le=1024)] | None = None
    """CPU threads of one job, at low priority; unset: the cores this process may use."""
    finetuning_gpus: Annotated[int, Meta(ge=0, le=1)] = 0
    """1: each job trains on one GPU and never elsewhere; 0: in RAM, on the processor."""
    finetuning_gives_way: bool = True
    """Whether a job pauses at a checkpoint when requests wait for a model that needs its memory."""
    finetuning_stay_seconds: Annotated[float, Meta(ge=0, le=30 * 86_400)] = 60.0
    """How long a job may run before it gives way."""
    finetuning_pause_seconds: Annotated[float, Meta(ge=0, le=3600)] = 60.0
    """How long a job that gives way may take for its checkpoint; then it is ended, and goes on from the one before."""
    call_retention_seconds: Annotated[float, Meta(ge=3600, le=100 * 366 * 86_400)] = 366 * 86_400.0
    """How long calls stay in the call log; usage stays for good."""
    call_log_bytes: Annotated[int, Meta(ge=1024**2)] = 10 * GIB
    """What the call log may take on the disk; above it the oldest calls are removed."""
    call_content_bytes: Annotated[int, Meta(ge=0, le=64 * 1024**2)] = 1024**2
    """Largest content of a call that is kept in full (metadata ``call_content``); of a larger one only the digests."""
    log_level: str = "info"
    """``debug``, ``info``, ``warning`` or ``error``."""


def default_home() -> Path:
    """``APPLIANCE_HOME``, else ``/var/lib/appliance`` for a service account that owns it, else below the user's."""
    if configured := os.environ.get("APPLIANCE_HOME"):
        return Path(configured)
    system = Path("/var/lib/appliance")
    if system.is_dir() and os.access(system, os.W_OK):
        return system
    data = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(data) / "appliance"


def load_config(home: Path, environment: Mapping[str, str] | None = None, **overrides: Any) -> Config:
    """Read the configuration of a home. ``overrides`` (command line options) win; None means not given.

    Raises InvalidParameter naming the key and where it was set.
    """
    values: dict[str, Any] = {}
    values.update(_from_file(home / "appliance.toml"))
    values.update(_from_environment(os.environ if environment is None else environment))
    values.update({key: value for key, value in overrides.items() if value is not None})
    try:
        return msgspec.convert(values, Config)
    except msgspec.ValidationError as error:
        raise InvalidParameter(f"configuration: {error}; see the table in docs/configuration.md") from error


def _from_file(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise InvalidParameter(f"{path.name} cannot be read: {error}; mend or remove it") from error


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for config_field in msgspec.structs.fields(Config):
        raw = environment.get(ENVIRONMENT_PREFIX + config_field.name.upper())
        if raw is not None:
            found[config_field.name] = _parse(config_field.name, raw, config_field.type)
    return found


def _parse(name: str, raw: str, kind: Any) -> Any:
    """Read an environment value by the field's type; lists are comma-separated."""
    if kind == tuple[str, ...]:
        return tuple(part.strip() for part in raw.split(",") if part.strip())
    try:
        return msgspec.convert(raw, kind, strict=False)
    except msgspec.ValidationError as error:
        raise InvalidParameter(f"{ENVIRONMENT_PREFIX}{name.upper()}: {error}") from error
