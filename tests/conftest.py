"""Fixtures that many packages share: a real server with the starter models."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator

import httpx
import pytest
from hypothesis import HealthCheck, settings

from tests.support import certificates, uses
from tests.support.recorder import Recorder
from tests.support.server import Server, running_server

# Tests start some two hundred processes: what each would compile anew takes longer than what most are started for.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# A test says what holds, not how fast a busy machine finds it out.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

certificates.read_once()

gc.disable()  # until all is collected: what is made for that stays, and looking through it again and again is in vain


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server process for the whole run. Tests give what they make names of their own and remove it."""
    with running_server(tmp_path_factory.mktemp("server") / "home") as running:
        yield running


@pytest.fixture
def admin(server: Server) -> Iterator[httpx.Client]:
    """A client with an admin's key."""
    with server.client() as client:
        yield client


@pytest.fixture
def member(server: Server) -> Iterator[httpx.Client]:
    """A client with a member's key."""
    with server.client(server.member_key) as client:
        yield client


def pytest_unconfigure() -> None:
    """Close what llama-cpp-python opens when it is imported and never closes, or the end of the run warns of it."""
    if opened := sys.modules.get("llama_cpp._utils"):
        opened.outnull_file.close()
        opened.errnull_file.close()


# --- which test covers what: see tests/support/uses.py ----------------------------------------------------------------


RECORDER = pytest.StashKey[Recorder]()
RECORD = pytest.StashKey[list[uses.Recorded]]()
SEEN = pytest.StashKey[dict[str, set[uses.Use]]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--record-uses``."""
    parser.addoption("--record-uses", action="store_true", help="note which test covers which route and client method")


def pytest_configure(config: pytest.Config) -> None:
    """From now on requests are noted."""
    config.stash[RECORD] = uses.read()
    config.stash[SEEN] = {}
    config.stash[RECORDER] = Recorder()
    config.stash[RECORDER].watch_requests()


def pytest_collection_finish(session: pytest.Session) -> None:
    """Where official clients are tested, their methods are noted too."""
    if any(item.nodeid.startswith("tests/contract/") for item in session.items):
        session.config.stash[RECORDER].watch_clients()
    gc.collect()
    gc.freeze()  # nor later: half a second for each full collection
    gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """What a test does is what stands in the record."""
    recorder = item.config.stash[RECORDER]
    recorder.begin()
    yield
    seen = recorder.uses()
    if item.config.getoption("--record-uses"):
        item.config.stash[SEEN][item.nodeid] = seen
    else:
        check_uses(item.nodeid, seen, item.config.stash[RECORD])


def check_uses(test: str, seen: set[uses.Use], record: list[uses.Recorded]) -> None:
    """Fail a test that no longer does what the record says of it, and one that does what no record knows."""
    again = f"python -m pytest '{test}' --record-uses, then make docs"
    gone = [each.use for each in record if each.test == test and each.use not in seen]
    assert not gone, f"the record says that this test makes these uses, and it does not: {gone}; run {again}"
    new = {use for use in seen if uses.is_new(use, record)}
    assert not new, f"nobody has recorded these uses yet: {sorted(new)}; run {again}"


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the record."""
    if session.config.getoption("--record-uses"):
        uses.write(uses.merged(uses.read(), session.config.stash[SEEN]))
