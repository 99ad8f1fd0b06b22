"""Every entity goes to a row and back unchanged, and the five verbs refuse what they must."""

from __future__ import annotations

import string
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import msgspec
import pytest
import sqlite_utils
from hypothesis import given
from hypothesis import strategies as st

from appliance.domain.errors import Conflict, InUse, NameTaken, NotFound
from appliance.domain.models import (
    Account,
    Artifact,
    ArtifactFile,
    Card,
    Deployment,
    DeploymentStatus,
    Job,
    JobState,
    Model,
    ModelType,
    Parameter,
    Template,
    WeightsFormat,
)
from appliance.registry.accounts import accounts, users
from appliance.registry.artifacts import artifacts
from appliance.registry.database import Database
from appliance.registry.deployments import deployments
from appliance.registry.groups import groups
from appliance.registry.jobs import jobs
from appliance.registry.migrations import REGISTRY
from appliance.registry.models import models
from appliance.registry.records import Records
from appliance.registry.templates import templates
from appliance.registry.upstreams import upstreams
from tests.registry import registry_samples as samples
from tests.registry.stored_databases import SAMPLES

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
OPTIONAL_TEXT = st.none() | TEXT
NAME = st.text(string.ascii_letters, min_size=1, max_size=8)
INTEGER = st.integers(-(2**63), 2**63 - 1)
SIZE = st.integers(0, 2**60)
SCALAR = TEXT | INTEGER | st.booleans() | st.floats(allow_nan=False, allow_infinity=False)
PARAMETERS = st.dictionaries(NAME, SCALAR, max_size=4)
JSON = st.dictionaries(
    NAME, st.recursive(SCALAR | st.none(), lambda x: st.lists(x) | st.dictionaries(NAME, x)), max_size=3
)
MOMENT = st.datetimes(datetime(1970, 1, 1), datetime(9999, 12, 30), timezones=st.just(UTC))
MODEL_TYPES = st.lists(st.sampled_from(ModelType), max_size=3).map(tuple)

CARD = st.builds(
    Card,
    format=st.sampled_from(WeightsFormat),
    architecture=TEXT,
    name=OPTIONAL_TEXT,
    parameter_count=st.none() | SIZE,
    chat_template=OPTIONAL_TEXT,
    model_types=MODEL_TYPES,
    extra=PARAMETERS,
)
FILES = st.lists(st.builds(ArtifactFile, name=TEXT, digest=TEXT, size_bytes=SIZE), max_size=3).map(tuple)
SCHEMA = st.lists(
    st.builds(Parameter, name=NAME, type=st.sampled_from(["str", "int"]), description=TEXT, required=st.booleans()),
    max_size=3,
).map(tuple)
OWN = {"id": st.just("x"), "created_at": MOMENT, "created_by_user_id": TEXT}

RECORDS = st.one_of(
    st.tuples(
        st.just(artifacts),
        st.builds(Artifact, name=TEXT, digest=TEXT, files=FILES, size_bytes=SIZE, card=CARD, zoo_name=TEXT, **OWN),
    ),
    st.tuples(
        st.just(templates),
        st.builds(
            Template,
            account_id=st.just(samples.ACCOUNT.id),
            name=TEXT,
            model_type=st.sampled_from(ModelType),
            endpoint_type=TEXT,
            endpoint_protocol=OPTIONAL_TEXT,
            vendor_configuration=JSON,
            creation_parameters=SCHEMA,
            request_parameters=SCHEMA,
            built_in=st.booleans(),
            **OWN,
        ),
    ),
    st.tuples(
        st.just(models),
        st.builds(
            Model,
            account_id=st.just(samples.ACCOUNT.id),
            name=TEXT,
            display_name=OPTIONAL_TEXT,
            model_type=st.sampled_from(ModelType),
            model_template_id=st.sampled_from([None, samples.TEMPLATE.id]),
            base_model_metadata=st.none() | JSON,
            creation_parameters=st.none() | PARAMETERS,
            description=OPTIONAL_TEXT,
            built_in=st.booleans(),
            **OWN,
        ),
    ),
    st.tuples(
        st.just(deployments),
        st.builds(
            Deployment,
            account_id=st.just(samples.ACCOUNT.id),
            name=TEXT,
            model_id=st.just(samples.MODEL.id),
            creation_parameters=st.none() | PARAMETERS,
            vendor_configuration=st.none() | JSON,
            metadata=st.none() | JSON,
            status=st.sampled_from(DeploymentStatus),
            status_reason=OPTIONAL_TEXT,
            built_in=st.booleans(),
            **OWN,
        ),
    ),
    st.tuples(
        st.just(jobs),
        st.builds(
            Job,
            id=st.just("x"),
            kind=TEXT,
            title=TEXT,
            state=st.sampled_from(JobState),
            done_bytes=SIZE,
            created_at=MOMENT,
            finished_at=st.none() | MOMENT,
            result=st.none() | JSON,
        ),
    ),
)


@pytest.fixture(scope="module")
def with_model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """One file for all examples: each undoes what it wrote."""
    path: Path = tmp_path_factory.mktemp("records") / "registry.db"
    with Database(path, REGISTRY) as database:
        database.run_sync(samples.add_model)
        yield database


@given(pair=RECORDS)
def test_every_record_comes_back_as_it_went(
    with_model: Database, pair: tuple[Records[msgspec.Struct], msgspec.Struct]
) -> None:
    """Any text, number, flag, time and nested value survives the file exactly."""
    table, record = pair

    def round_trip(db: sqlite_utils.Database) -> msgspec.Struct:
        table.insert(db, record)
        found = table.get(db, "x")
        table.update(db, found)
        again = table.get(db, "x")
        table.delete(db, "x")
        assert found == again
        return found

    assert with_model.run_sync(round_trip) == record


@pytest.fixture
def full(registry: Database) -> Database:
    """A registry with one record of each kind."""

    def fill(db: sqlite_utils.Database) -> None:
        for table, record in SAMPLES:
            table.insert(db, record)

    registry.run_sync(fill)
    return registry


@pytest.mark.parametrize(("table", "record"), SAMPLES, ids=lambda value: getattr(value, "table", ""))
class TestEveryTable:
    def test_get_and_list(self, full, table, record):
        """A record is found by its id and in the list."""
        assert full.run_sync(lambda db: table.get(db, record.id)) == record
        assert full.run_sync(table.list) == [record]

    def test_unknown_ids(self, full, table, record):
        """get, update and delete of an id that is not there name it."""
        stranger = msgspec.structs.replace(record, id="stranger")
        for verb in (
            lambda db: table.get(db, "stranger"),
            lambda db: table.update(db, stranger),
            lambda db: table.delete(db, "stranger"),
        ):
            with pytest.raises(NotFound, match=f"no {table.noun} with the id 'stranger'"):
                full.run_sync(verb)

    def test_the_same_id_twice(self, full, table, record):
        """A second record with the id of the first is a conflict, and the first stays."""
        with pytest.raises(Conflict):
            full.run_sync(lambda db: table.insert(db, record))
        assert full.run_sync(table.list) == [record]


UNIQUE = [
    (table, record)
    for table, record in SAMPLES
    if table.label != "id"  # keys and jobs may share their names
]


@pytest.mark.parametrize(("table", "record"), UNIQUE, ids=lambda value: getattr(value, "table", ""))
class TestNames:
    def test_a_taken_name(self, full, table, record):
        """A second record with this name is refused, and the message says which name."""
        taken = getattr(record, table.label)
        with pytest.raises(NameTaken, match=f"{table.label} '{taken}' is taken"):
            full.run_sync(lambda db: table.insert(db, msgspec.structs.replace(record, id="second")))

    def test_renaming_to_a_taken_name(self, full, table, record):
        """update cannot take a name either, and leaves the record as it was."""
        second = msgspec.structs.replace(record, id="second", **{table.label: "free"})
        full.run_sync(lambda db: table.insert(db, second))
        with pytest.raises(NameTaken):
            full.run_sync(lambda db: table.update(db, msgspec.structs.replace(record, id="second")))
        assert full.run_sync(lambda db: table.get(db, "second")) == second


def test_two_accounts_may_use_one_name(full):
    """Names of templates, groups, models and deployments belong to their account."""
    other = Account(id="account-2", name="South", created_at=samples.NOW)
    theirs = [
        (table, msgspec.structs.replace(record, id="theirs", account_id=other.id))
        for table, record in UNIQUE
        if table not in (accounts, artifacts, upstreams)
    ]

    def add(db):
        accounts.insert(db, other)
        for table, record in theirs:
            table.insert(db, record)

    full.run_sync(add)
    for table, record in theirs:
        assert full.run_sync(lambda db, table=table: table.list(db, account_id=other.id)) == [record]


class TestReferences:
    @pytest.mark.parametrize(
        ("table", "record", "users_of_it"),
        [
            (accounts, samples.ACCOUNT, "'ada@north.example'"),
            (users, samples.USER, "key 'laptop'"),
            (templates, samples.TEMPLATE, "model 'helper'"),
            (groups, samples.GROUP, "model 'helper'"),
            (models, samples.MODEL, "deployment 'helper-live'"),
        ],
    )
    def test_what_others_stand_on_stays(self, full, table, record, users_of_it):
        """Deleting it names the dependents and deletes nothing."""
        with pytest.raises(InUse, match=users_of_it):
            full.run_sync(lambda db: table.delete(db, record.id))
        assert full.run_sync(table.list) == [record]

    def test_many_dependents_are_counted(self, full):
        """The first few are named, the rest counted."""
        for number in range(7):
            deployment = msgspec.structs.replace(samples.DEPLOYMENT, id=f"d{number}", name=f"more {number}")
            full.run_sync(lambda db, deployment=deployment: deployments.insert(db, deployment))
        with pytest.raises(InUse, match="deployment 'more 3' and 3 more; delete or change them first"):
            full.run_sync(lambda db: models.delete(db, samples.MODEL.id))

    def test_a_reference_to_nothing(self, full):
        """A record that refers to something deleted in the meantime names the missing id."""
        orphan = msgspec.structs.replace(samples.DEPLOYMENT, id="d", name="orphan", model_id="gone")
        with pytest.raises(NotFound, match="model_id 'gone' does not exist"):
            full.run_sync(lambda db: deployments.insert(db, orphan))

    def test_deleting_from_the_top_down(self, full):
        """In the order deployment, model, template everything can go."""

        def clear(db):
            for table, record in reversed(SAMPLES):
                table.delete(db, record.id)

        full.run_sync(clear)
        assert all(full.run_sync(table.list) == [] for table, _ in SAMPLES)


def test_lists_keep_the_order_of_arrival(registry):
    """Whatever the ids and times are, and after a change."""
    made = [
        Account(id=name, name=name, created_at=samples.NOW - timedelta(days=n))
        for n, name in enumerate(["c", "a", "b"])
    ]

    def fill(db):
        for account in made:
            accounts.insert(db, account)
        accounts.update(db, msgspec.structs.replace(made[0], name="changed"))

    registry.run_sync(fill)
    assert [account.id for account in registry.run_sync(accounts.list)] == ["c", "a", "b"]


def test_times_are_stored_in_utc_at_full_width(registry):
    """So that they sort as text, in any tool that opens the file."""
    local = datetime(2026, 11, 24, 14, 0, tzinfo=timezone(timedelta(hours=2)))
    registry.run_sync(lambda db: accounts.insert(db, Account(id="a", name="a", created_at=local)))
    stored = registry.run_sync(lambda db: db["accounts"].get("a")["created_at"])
    assert stored == "2026-11-24T12:00:00.000000+00:00"
    assert registry.run_sync(lambda db: accounts.get(db, "a")).created_at == local
