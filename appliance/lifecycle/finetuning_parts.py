"""The parts of fine-tuning, put together as the configuration says."""

from __future__ import annotations

import os
from pathlib import Path

from msgspec import Struct

from appliance.config import Config
from appliance.domain.clock import Clock
from appliance.lifecycle.dataset_lines import LineLimits
from appliance.lifecycle.datasets import Datasets
from appliance.lifecycle.directory import Directory
from appliance.lifecycle.finetuning import FineTuning
from appliance.lifecycle.finetuning_attempt import Attempts, TrainingOptions
from appliance.lifecycle.finetuning_line import FineTuningLine
from appliance.lifecycle.finetuning_result import Results
from appliance.lifecycle.training_needs import TrainingNeeds
from appliance.lifecycle.training_process import TrainingProgram
from appliance.registry.database import Database
from appliance.scheduler.scheduler import Scheduler
from appliance.store.importing import Store


class FineTuningParts(Struct, frozen=True):
    """What the node has that fine-tuning stands on."""

    database: Database
    directory: Directory
    datasets: Datasets
    store: Store
    scheduler: Scheduler
    program: TrainingProgram
    clock: Clock

    def service(self, folder: Path, options: TrainingOptions, results: Results) -> FineTuning:
        """The service; its jobs work below ``folder``."""
        needs = TrainingNeeds(self.database, self.clock)
        attempts = Attempts(
            self.database,
            self.store,
            self.scheduler,
            needs,
            self.program,
            options,
            folder,
            self.clock,
            self.directory.artifact,
        )
        return FineTuning(
            self.database,
            self.directory,
            self.datasets,
            attempts,
            FineTuningLine(self.database, attempts, results, options, self.clock),
            self.scheduler.placer,
            self.program,
            options,
            self.clock,
        )


def options_of(config: Config) -> TrainingOptions:
    """How jobs run."""
    return TrainingOptions(
        threads=config.finetuning_threads or len(os.sched_getaffinity(0)),
        gpus=config.finetuning_gpus,
        gives_way=config.finetuning_gives_way,
        stay_seconds=config.finetuning_stay_seconds,
        pause_seconds=config.finetuning_pause_seconds,
        close_seconds=config.shutdown_grace_seconds,
        reserve_bytes=config.disk_reserve_bytes,
        at_once=config.finetuning_at_once,
        most_unfinished=config.finetuning_limit,
    )


def line_limits_of(config: Config) -> LineLimits:
    """Bounds on datasets."""
    return LineLimits(
        dataset_bytes=config.dataset_bytes, lines=config.dataset_lines, line_bytes=config.dataset_line_bytes
    )
