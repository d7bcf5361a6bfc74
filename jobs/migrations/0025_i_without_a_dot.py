from django.db import migrations
from django.db.models import Q, Value
from django.db.models.functions import Replace

DOT = "i\u0307"  # what İ is folded to


def fold(apps, schema_editor):
    """What jobs that are here are searched by, where their names have an İ or an ı."""
    without = Replace(Replace("searched", Value(DOT), Value("i")), Value("ı"), Value("i"))
    found = Q(searched__contains=DOT) | Q(searched__contains="ı")
    apps.get_model("jobs", "Job").objects.filter(found).update(searched=without)


class Migration(migrations.Migration):

    dependencies = [
        ('jobs', '0024_of_owner_and_pipeline'),
    ]

    operations = [
        migrations.RunPython(fold, migrations.RunPython.noop),
    ]
