import unicodedata

from django.db import migrations, models

JOINERS = dict.fromkeys(map(ord, "\u200c\u200d"))


def fill(apps, schema_editor):
    """What jobs that are here are searched by."""
    Job = apps.get_model("jobs", "Job")
    for job in Job.objects.only("title", "source_filename").iterator():
        text = f"{job.title}\n{job.source_filename}".translate(JOINERS)
        folded = unicodedata.normalize("NFKC", text).casefold()
        Job.objects.filter(pk=job.pk).update(searched=unicodedata.normalize("NFKC", folded))


class Migration(migrations.Migration):

    dependencies = [
        ('jobs', '0007_webhook_secrets'),
    ]

    operations = [
        migrations.AddField(
            model_name='job',
            name='searched',
            field=models.TextField(default='', editable=False),
        ),
        migrations.RunPython(fill, migrations.RunPython.noop),
    ]
