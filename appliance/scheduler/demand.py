"""What somebody asks of the devices' memory, as far as its placement matters: an engine, or work beside the engines."""

from __future__ import annotations

from typing import Any, Protocol

from msgspec import Struct

from appliance.engines.base import Need, Resources


class Demand(Protocol):
    """Who asks, for how much, and where it may be."""

    @property
    def name(self) -> str:
        """For people, as in "'name' needs 9.1 GiB"."""

    @property
    def advice(self) -> str:
        """How it could need less, for people."""

    def asks(self) -> Resources:
        """Which devices, and at most how much of RAM. Raises InvalidParameter."""

    def estimate(self) -> Need:
        """Bytes that it will take in one place."""

    def kind(self) -> list[Any] | None:
        """Everything that decides how much it takes, JSON-able; None: nothing is learnt of it."""

    @property
    def spreads(self) -> bool:
        """Whether it could be on more GPUs than it asks for."""

    def fewer_gpus(self, there: int) -> str:
        """What to do on a machine that has only so many GPUs: ``set gpus to 1, or to 0 to run it in RAM``."""


class Work(Struct, frozen=True, kw_only=True):
    """Work beside the engines that takes memory of its own, in a process of its own: a fine-tuning job."""

    name: str
    need: Need
    """All of it where it is in one place. On a GPU, ``host_weights_bytes`` and ``host_compute_bytes`` stay in RAM."""
    resources: Resources = Resources()
    advice: str = "make it smaller"
    without_gpus: str = "ask for none"
    """What to do where there is no GPU, for people."""

    def asks(self) -> Resources:
        """As it says."""
        return self.resources

    def estimate(self) -> Need:
        """As it says."""
        return self.need

    def kind(self) -> list[Any] | None:
        """What it takes cannot be seen from this process."""
        return None

    @property
    def spreads(self) -> bool:
        """A process is on one."""
        return False

    def fewer_gpus(self, there: int) -> str:
        """The words to it."""
        return f"ask for at most {there}" if there else self.without_gpus
