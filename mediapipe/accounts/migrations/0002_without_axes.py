from django.db import migrations

TABLES = ("axes_accessattemptexpiration", "axes_accessattempt", "axes_accessfailurelog", "axes_accesslog")


class Migration(migrations.Migration):
    """Removes the tables of django-axes, which held the names and addresses of failed sign-ins."""

    dependencies = [("accounts", "0001_tries")]
    operations = [
        migrations.RunSQL(f"DROP TABLE IF EXISTS {table}", migrations.RunSQL.noop) for table in TABLES
    ]
