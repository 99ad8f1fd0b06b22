"""A table of one kind of record: the five verbs that every entity has, and how a Struct becomes a row.

Nested fields are JSON text, times ISO 8601 text in UTC with all six decimals (so that they sort as text), flags 0 or 1.
The functions run inside ``Database.run``; they open no transaction and know no account rules.
"""

from __future__ import annotations

import builtins
import sqlite3
from collections.abc import Iterable
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

import msgspec
import sqlite_utils
from sqlite_utils.db import NotFoundError

from appliance.domain.errors import Conflict, InUse, NameTaken, NotFound
from appliance.registry.database import Row

RecordT = TypeVar("RecordT", bound=msgspec.Struct)

INSERTED: ContextVar[builtins.list[tuple[str, str]] | None] = ContextVar("INSERTED", default=None)
"""Where somebody wants to know what a transaction adds: the nouns and ids, in order."""
NAMED_DEPENDENTS = 5
"""How many dependents an InUse message names before it counts the rest."""


class Records(Generic[RecordT]):
    """The rows of ``table`` as ``record_type``. ``noun`` is what messages call one; ``label`` the field naming it."""

    def __init__(self, record_type: type[RecordT], table: str, noun: str, label: str = "name") -> None:
        self.record_type = record_type
        self.table = table
        self.noun = noun
        self.label = label
        self._json, self._flags = _column_kinds(record_type)

    # --- the five verbs ------------------------------------------------------------------------------------------

    def insert(self, db: sqlite_utils.Database, record: RecordT) -> None:
        """Add a record. Raises NameTaken; NotFound when it refers to something that does not exist."""
        try:
            db[self.table].insert(self.to_row(record))
        except sqlite3.IntegrityError as error:
            raise self._refusal(db, record, error) from error
        if (made := INSERTED.get()) is not None:
            made.append((self.noun, str(getattr(record, "id", ""))))

    def get(self, db: sqlite_utils.Database, record_id: str) -> RecordT:
        """One record by id. Raises NotFound."""
        try:
            return self.from_row(db[self.table].get(record_id))
        except NotFoundError:
            raise NotFound(f"no {self.noun} with the id '{record_id[:64]}'") from None

    def list(self, db: sqlite_utils.Database, account_id: str | None = None) -> builtins.list[RecordT]:
        """All records, or those of one account, in the order they were added."""
        return self.where(db) if account_id is None else self.where(db, "account_id", account_id)

    def update(self, db: sqlite_utils.Database, record: RecordT) -> None:
        """Replace the record with the same id. Raises NotFound, NameTaken."""
        row = self.to_row(record)
        try:
            db[self.table].update(row["id"], row)
        except NotFoundError:
            raise NotFound(f"no {self.noun} with the id '{row['id'][:64]}'") from None
        except sqlite3.IntegrityError as error:
            raise self._refusal(db, record, error) from error

    def change(self, db: sqlite_utils.Database, record_id: str, **fields: Any) -> bool:
        """Set some fields of a record; False when there is none with this id."""
        row = {name: self._to_column(name, value) for name, value in fields.items()}
        setting = ", ".join(f"{name} = ?" for name in row)
        values = [*row.values(), record_id]
        done = db.execute(f"UPDATE {self.table} SET {setting} WHERE id = ?", values)  # noqa: S608 - our own names
        return bool(done.rowcount)

    def delete(self, db: sqlite_utils.Database, record_id: str) -> None:
        """Remove a record. Raises NotFound; InUse naming what stands on it."""
        try:
            db[self.table].delete(record_id)
        except NotFoundError:
            raise NotFound(f"no {self.noun} with the id '{record_id[:64]}'") from None
        except sqlite3.IntegrityError as error:
            raise self._in_use(db, record_id) from error

    # --- finding -------------------------------------------------------------------------------------------------

    def where(
        self, db: sqlite_utils.Database, column: str | None = None, value: str | None = None
    ) -> builtins.list[RecordT]:
        """The records whose ``column`` has this value, in the order they were added."""
        condition = f"{column} = ?" if column else None
        rows = db[self.table].rows_where(condition, [value] if column else None, order_by="rowid")
        return [self.from_row(row) for row in rows]

    def one(self, db: sqlite_utils.Database, columns: dict[str, str]) -> RecordT | None:
        """The record with these values in columns that are unique together, or None."""
        condition = " AND ".join(f"{column} = ?" for column in columns)
        for row in db[self.table].rows_where(condition, builtins.list(columns.values()), limit=1):
            return self.from_row(row)
        return None

    # --- rows ----------------------------------------------------------------------------------------------------

    def to_row(self, record: RecordT) -> Row:
        """The record as columns."""
        return {name: self._to_column(name, getattr(record, name)) for name in self.record_type.__struct_fields__}

    def from_row(self, row: Row) -> RecordT:
        """Columns as the record. A column that this release does not know is left out."""
        fields = {name: self._from_column(name, row[name]) for name in self.record_type.__struct_fields__}
        return msgspec.convert(fields, self.record_type)

    def _to_column(self, name: str, value: Any) -> Any:
        if value is None:
            return None
        if name in self._json:
            return msgspec.json.encode(value).decode()
        if isinstance(value, datetime):
            return value.astimezone(UTC).isoformat(timespec="microseconds")
        if name in self._flags:
            return int(value)
        return str(value) if isinstance(value, str) else value

    def _from_column(self, name: str, value: Any) -> Any:
        if value is None:
            return None
        if name in self._json:
            return msgspec.json.decode(value)
        return bool(value) if name in self._flags else value

    # --- refusals ------------------------------------------------------------------------------------------------

    def _refusal(self, db: sqlite_utils.Database, record: RecordT, error: sqlite3.IntegrityError) -> Exception:
        if error.sqlite_errorname == "SQLITE_CONSTRAINT_UNIQUE":
            return self._name_taken(record)
        if error.sqlite_errorname == "SQLITE_CONSTRAINT_PRIMARYKEY":
            return Conflict(f"{self.noun} with the id '{record.id}' exists already")  # type: ignore[attr-defined]
        if error.sqlite_errorname == "SQLITE_CONSTRAINT_FOREIGNKEY":
            return self._dangling(db, self.to_row(record))
        return error

    def _name_taken(self, record: RecordT) -> NameTaken:
        label = getattr(record, self.label)
        return NameTaken(f"the {self.noun} {self.label} '{label}' is taken; choose another")

    def _dangling(self, db: sqlite_utils.Database, row: Row) -> NotFound:
        for reference in db[self.table].foreign_keys:
            value = row[reference.column]
            if value is not None and not db[reference.other_table].count_where("id = ?", [value]):
                return NotFound(f"{reference.column} '{value[:64]}' does not exist; it may just have been deleted")
        return NotFound(f"the {self.noun} refers to something that does not exist")

    def _in_use(self, db: sqlite_utils.Database, record_id: str) -> InUse:
        dependents = builtins.list(_dependents(db, self.table, record_id))
        named = ", ".join(dependents[:NAMED_DEPENDENTS])
        more = len(dependents) - NAMED_DEPENDENTS
        return InUse(
            f"the {self.noun} is used by {named}{f' and {more} more' if more > 0 else ''}; delete or change them first"
        )


def _dependents(db: sqlite_utils.Database, table: str, record_id: str) -> Iterable[str]:
    """``model 'a'``, ``deployment 'b'``, ...: every row that refers to this one."""
    for other in db.tables:
        for reference in other.foreign_keys:
            if reference.other_table == table:
                for row in other.rows_where(f"{reference.column} = ?", [record_id], order_by="rowid"):
                    yield f"{_noun(other.name)} '{row.get('name') or row.get('email') or row['id']}'"


def _noun(table: str) -> str:
    return table.removesuffix("s").replace("_", " ")


def _column_kinds(record_type: type[msgspec.Struct]) -> tuple[frozenset[str], frozenset[str]]:
    """Names of the fields that are JSON text, and of those that are flags."""
    structure = msgspec.inspect.type_info(record_type)
    assert isinstance(structure, msgspec.inspect.StructType)
    nested, flags = set(), set()
    for field in structure.fields:
        kinds = field.type.types if isinstance(field.type, msgspec.inspect.UnionType) else (field.type,)
        if any(isinstance(kind, _NESTED) for kind in kinds):
            nested.add(field.name)
        elif any(isinstance(kind, msgspec.inspect.BoolType) for kind in kinds):
            flags.add(field.name)
    return frozenset(nested), frozenset(flags)


_NESTED = (
    msgspec.inspect.DictType,
    msgspec.inspect.ListType,
    msgspec.inspect.VarTupleType,
    msgspec.inspect.StructType,
    msgspec.inspect.AnyType,
)
