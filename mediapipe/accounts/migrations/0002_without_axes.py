from django.db import migrations

TABLES = ("axes_accessattemptexpiration", "axes_accessattempt", "axes_accessfailurelog", "axes_accesslog")


def empty(apps, schema_editor):
    """Those that there are."""
    connection = schema_editor.connection
    for table in TABLES:
        if table in connection.introspection.table_names():
            schema_editor.execute(f"DELETE FROM {table}")  # noqa: S608 - one of the names above


class Migration(migrations.Migration):
    """Empties the tables of django-axes, which held the names and addresses of failed sign-ins.

    The tables stay: with the version before, which may still run, nobody could sign in without them.
    """

    dependencies = [("accounts", "0001_tries")]
    operations = [migrations.RunPython(empty, migrations.RunPython.noop)]
