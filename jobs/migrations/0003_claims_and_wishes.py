from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('jobs', '0002_job_version'),
    ]

    operations = [
        migrations.AddField(
            model_name='job',
            name='claimed_at',
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name='job',
            name='kept_wishes',
            field=models.JSONField(blank=True, null=True),
        ),
        migrations.AddIndex(
            model_name='job',
            index=models.Index(condition=models.Q(('kept_wishes__isnull', False)), fields=['id'], name='jobs_with_wishes'),
        ),
    ]
