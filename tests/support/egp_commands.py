"""Runs the ``scale-egp`` command line in this process, so that what its commands ask for is seen."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeAlias

import pytest
from pydantic import PydanticDeprecatedSince20

with warnings.catch_warnings():
    # the command line's fine-tuning types call pydantic 2's Field the way pydantic 1 took it
    warnings.simplefilter("ignore", PydanticDeprecatedSince20)
    from scale_egp.cli import parser
    from scale_egp.cli.cli_main import exec_cli
    from scale_egp.cli.formatter import FormattingOptions, set_formatting_options

Run: TypeAlias = Callable[..., Any]
"""Runs a command with its arguments, and reads the JSON that it prints."""

quietly = (
    # the command line talks to argh the way it was before 0.30
    pytest.mark.filterwarnings(
        r"ignore:Argument \"\w+\" in function:DeprecationWarning",
        "ignore:The argument `add_help_command`:DeprecationWarning",
    )
)
"""Mark of tests that run commands."""


@contextmanager
def egp_commands(url: str, key: str) -> Iterator[Run]:
    """Commands against a server. What they leave open, the fixture ``connect`` closes."""

    def run(*arguments: str) -> Any:
        set_formatting_options(FormattingOptions())  # a list leaves its own behind for the next command
        printed = exec_cli(["-e", url, "-k", key, "-f", "json", *arguments])
        return json.loads(printed) if printed else None

    with pytest.MonkeyPatch.context() as patch:
        # argh took hold of the standard output of the import; without a file it returns what it would print
        patch.setattr(parser, "_dispatch", partial(parser._dispatch, output_file=None))
        yield run
    set_formatting_options(FormattingOptions())
