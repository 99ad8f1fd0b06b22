"""The model appliance: one process that holds, schedules and serves models on one machine."""

__version__ = "0.1.0"
