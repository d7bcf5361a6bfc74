"""TrashedFile: a file of a job in the trash, which no link leads to any more. It knows no storage."""

from __future__ import annotations

from django.db import models


class TrashedFile(models.Model):
    """A file, or a folder whose files are meant; its job's restore or end takes the row away."""

    job = models.ForeignKey("jobs.Job", on_delete=models.CASCADE, related_name="trashed_files")
    name = models.CharField(max_length=500, db_index=True)

    def __str__(self) -> str:
        return self.name

    @classmethod
    def hides(cls, name: str) -> bool:
        """Whether the file *name* is one of those, or in such a folder."""
        parts = name.split("/")
        return cls.objects.filter(
            name__in=["/".join(parts[:end]) for end in range(2, len(parts) + 1)]
        ).exists()
