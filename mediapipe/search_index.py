"""SearchIndex: by which a search in the middle of words needs not read every row. It knows databases alone.

SQLite reads the index in place of the rows, which are fifty times as large. Postgres looks up three letters
at a time, where its extension pg_trgm is; without it there is no such index, and searches read every name.
"""

from __future__ import annotations

from typing import Any

from django.db import DatabaseError, models, transaction
from django.db.backends.base.schema import BaseDatabaseSchemaEditor

NO_OPERATION = "SELECT 1"
TRIGRAMS = "CREATE INDEX {name} ON {table} USING gin ({searched} gin_trgm_ops)"


def make_trigrams(apps: Any, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """For migrations: Postgres' extension, where this user may make it."""
    if schema_editor.connection.vendor == "postgresql":
        try:
            with transaction.atomic(schema_editor.connection.alias):
                schema_editor.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")
        except DatabaseError:
            pass


def learn(table: str) -> Any:
    """For migrations, once there is such an index: what Postgres has to know of a table's names to use it."""

    def analyze(apps: Any, schema_editor: BaseDatabaseSchemaEditor) -> None:
        if schema_editor.connection.vendor == "postgresql":
            schema_editor.execute(f"ANALYZE {schema_editor.quote_name(table)}")

    return analyze


class SearchIndex(models.Index):
    """An index for `contains` on the field `searched`; the others are what such a query needs beside it."""

    searched = "searched"
    on_sqlite = True

    def create_sql(
        self,
        model: type[models.Model],
        schema_editor: BaseDatabaseSchemaEditor,
        using: str = "",
        **kwargs: Any,
    ) -> Any:
        """The statement that makes it in this database."""
        if schema_editor.connection.vendor != "postgresql" and self.on_sqlite:
            return super().create_sql(model, schema_editor, using, **kwargs)
        if not _knows_trigrams(schema_editor):
            return NO_OPERATION
        quote = schema_editor.quote_name
        table = quote(model._meta.db_table)
        return TRIGRAMS.format(name=quote(self.name), table=table, searched=self.searched)

    def remove_sql(
        self, model: type[models.Model], schema_editor: BaseDatabaseSchemaEditor, **kwargs: Any
    ) -> Any:
        """The statement that removes it; it may never have been made."""
        return f"DROP INDEX IF EXISTS {schema_editor.quote_name(self.name)}"


class NameIndex(SearchIndex):
    """An index for `icontains` on the field `name`, as Django asks Postgres for it; none on SQLite."""

    searched = "upper(name::text)"
    on_sqlite = False


def _knows_trigrams(schema_editor: BaseDatabaseSchemaEditor) -> bool:
    if schema_editor.connection.vendor != "postgresql":
        return False
    with schema_editor.connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM pg_extension WHERE extname = 'pg_trgm'")
        return cursor.fetchone() is not None
