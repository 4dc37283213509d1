"""GX on DuckDB, which reads over httpfs with a SAS, into a table of the suite's columns first.

Stock duckdb-engine lets 4 of 49 expectations work; `_shim` mends what stands in the way of the others:
GX fetches after it has closed the connection, reflection asks for tables that DuckDB has not, and GX
knows no regular expressions for this dialect.
"""

from __future__ import annotations

from enum import StrEnum
from importlib.metadata import files
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import duckdb
import duckdb_engine
import sqlalchemy
from great_expectations.execution_engine import sqlalchemy_execution_engine as gx_sql

from bench.kit.facts import COLUMNS
from bench.kit.task import Task
from bench.peers.gx import context, failures

_DATABASE = ":memory:facts"  # with a name, it is one for all connections of a process


class _Dialect(StrEnum):
    """As GX names dialects."""

    DUCKDB = "duckdb"


def check(task: Task) -> list[str]:
    """Load the columns, and validate the table."""
    return on_duckdb(task, "table")


def on_duckdb(task: Task, kind: str) -> list[str]:
    """Validate a *kind* (`table` or `view`) of the blobs."""
    _shim()
    with duckdb.connect(_DATABASE) as connection:
        connection.execute(f"load '{_httpfs()}'")
        connection.execute(f"set threads = 2; set global timezone = 'UTC'; create {kind} facts as {_query(task)}")
        held = context()
        source = held.data_sources.add_sql("duckdb", connection_string=f"duckdb:///{_DATABASE}")
        asset = source.add_table_asset("facts", table_name="facts")
        return failures(held, asset.add_batch_definition_whole_table("all"))


def _query(task: Task) -> str:
    urls = ", ".join(f"'{url}'" for url in task.urls)
    return f"select {', '.join(COLUMNS)} from read_{'csv' if task.is_csv else 'parquet'}([{urls}])"


def _httpfs() -> Path:
    """Return the extension's file, which its package brings along."""
    found = files("duckdb-extension-httpfs") or []
    return next(Path(str(path.locate())) for path in found if path.name == "httpfs.duckdb_extension")


def _shim() -> None:
    gx_sql._PERSISTED_CONNECTION_DIALECTS += (_Dialect.DUCKDB,)  # noqa: SLF001 - there is no public way
    gx_sql.SqlAlchemyExecutionEngine.dialect_module = property(_dialect_module, lambda *_: None)
    duckdb_engine.Dialect.get_columns = _columns
    duckdb_engine.Dialect.connect = lambda *_, **__: duckdb_engine.ConnectionWrapper(duckdb.connect(_DATABASE))


def _dialect_module(_: Any) -> Any:
    """Return what GX takes for PostgreSQL when it looks for regular expressions."""
    return SimpleNamespace(dialect=duckdb_engine.Dialect)


def _columns(dialect: Any, connection: Any, table: str, schema: str | None = None, **_: Any) -> list[dict[str, Any]]:
    known = {"VARCHAR": sqlalchemy.String(), "BIGINT": sqlalchemy.BigInteger(), "DOUBLE": sqlalchemy.Double()}
    instant = sqlalchemy.TIMESTAMP(timezone=True)
    rows = connection.execute(sqlalchemy.text(f'describe "{table}"')).fetchall()
    return [{"name": row[0], "type": known.get(row[1], instant), "nullable": True, "default": None} for row in rows]
