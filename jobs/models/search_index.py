"""SearchIndex: by which a search in the middle of words needs not read every row. It knows databases alone.

SQLite reads the index in place of the rows, which are fifty times as large. Postgres looks up three letters
at a time, where its extension pg_trgm is; without it there is no such index, and searches read every title.
"""

from __future__ import annotations

from typing import Any

from django.db import models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor

NOTHING = "SELECT 1"
TRIGRAMS = "CREATE INDEX {name} ON {table} USING gin (searched gin_trgm_ops)"


class SearchIndex(models.Index):
    """An index for `contains` on the field `searched`; the others are what such a query needs beside it."""

    def create_sql(
        self,
        model: type[models.Model],
        schema_editor: BaseDatabaseSchemaEditor,
        using: str = "",
        **kwargs: Any,
    ) -> Any:
        """The statement that makes it in this database."""
        if schema_editor.connection.vendor != "postgresql":
            return super().create_sql(model, schema_editor, using, **kwargs)
        if not _knows_trigrams(schema_editor):
            return NOTHING
        quote = schema_editor.quote_name
        return TRIGRAMS.format(name=quote(self.name), table=quote(model._meta.db_table))

    def remove_sql(
        self, model: type[models.Model], schema_editor: BaseDatabaseSchemaEditor, **kwargs: Any
    ) -> Any:
        """The statement that removes it; it may never have been made."""
        return f"DROP INDEX IF EXISTS {schema_editor.quote_name(self.name)}"


def _knows_trigrams(schema_editor: BaseDatabaseSchemaEditor) -> bool:
    with schema_editor.connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM pg_extension WHERE extname = 'pg_trgm'")
        return cursor.fetchone() is not None
