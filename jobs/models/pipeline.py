"""Pipeline: what can be requested, in versions that never change, and who may request it.

Those of the code come first (jobs.pipelines) and are kept in step with it; an admin's are versions beside
them. A job holds its plan itself, so nothing here touches one that was submitted. It knows no pages.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.db import connection, models, transaction
from django.db.models import F, Max, Q
from django.utils import timezone

from jobs.pipelines import DEFAULT, PIPELINES, PipelineDefinition, StageDefinition, for_engine
from mediapipe.accounts import audit
from mediapipe.accounts.audit import Act
from mediapipe.retention import in_days

KEPT_OPEN = "Standard is what a job gets where nothing is chosen, so everybody keeps it."


class NotChangeable(Exception):
    """What was asked for isn't possible; its text says why."""


class Audience(models.TextChoices):
    """Who may use a pipeline; an admin may use every one."""

    EVERYBODY = "everybody", "Everybody"
    ADMINS = "admins", "Admins"
    NAMED = "named", "Admins and the people chosen here"


class Pipeline(models.Model):
    """A pipeline by its name: which of its versions is used, and by whom."""

    name = models.SlugField(max_length=40, unique=True)
    current = models.PositiveIntegerField(default=0)  # the number of the version that new jobs get; 0: none
    audience = models.CharField(max_length=10, choices=Audience.choices, default=Audience.EVERYBODY)
    people = models.ManyToManyField(settings.AUTH_USER_MODEL, blank=True, related_name="pipelines")
    retired_at = models.DateTimeField(null=True, blank=True)
    # for how many days its jobs keep theirs; 0: for ever, null: as the settings say
    keep_sources = models.PositiveIntegerField(null=True, blank=True)
    keep_failed_sources = models.PositiveIntegerField(null=True, blank=True)
    keep_outputs = models.PositiveIntegerField(null=True, blank=True)

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return self.name

    @classmethod
    def usable_by(cls, person: AbstractBaseUser | AnonymousUser) -> dict[str, PipelineDefinition]:
        """The pipelines that *person* may use for a new job, by their names, as the engine can do them."""
        used = PipelineVersion.objects.filter(number=F("pipeline__current"), pipeline__retired_at=None)
        if not getattr(person, "is_staff", False):
            named = cls.objects.filter(audience=Audience.NAMED, people=person.pk)
            used = used.filter(Q(pipeline__audience=Audience.EVERYBODY) | Q(pipeline__in=named))
        versions = used.select_related("pipeline").order_by("pipeline_id")
        return {version.pipeline.name: version.offered() for version in versions}

    @classmethod
    def chosen_by(cls, person: AbstractBaseUser | AnonymousUser, name: str) -> PipelineDefinition:
        """The pipeline of that name, where *person* may use it; else the default."""
        usable = cls.usable_by(person)
        return usable.get(name) or usable[DEFAULT]

    @property
    def is_default(self) -> bool:
        """Whether it's what a job gets where nothing is chosen."""
        return self.name == DEFAULT

    def version(self, number: int) -> PipelineVersion | None:
        """The version of that *number*; None where there is none."""
        return self.versions.filter(number=number).first()

    @transaction.atomic
    def add_version(self, definition: PipelineDefinition, made_by: str, *, use: bool) -> PipelineVersion:
        """One more version, made by that person; *use*: new jobs get it from now on."""
        Pipeline.objects.select_for_update().get(pk=self.pk)
        last = self.versions.aggregate(last=Max("number"))["last"] or 0
        version = self.versions.create(
            number=last + 1,
            label=definition.label[:60],
            description=definition.description[:300],
            engine=definition.engine,
            stages=[asdict(stage) for stage in definition.stages],
            made_by=made_by,
        )
        if made_by:  # nobody: it came with the code
            audit.record(Act.SAVE_PIPELINE, made_by, key=self.name, name=version.label, text=str(version))
        if use:
            self.use(version, made_by)
        return version

    def copy_of(self, version: PipelineVersion, label: str, made_by: str) -> PipelineVersion:
        """Begins with the stages of another one's *version*, called *label*."""
        return self.add_version(replace(version.definition, label=label), made_by, use=True)

    @transaction.atomic
    def use(self, version: PipelineVersion, actor: str) -> None:
        """Gives new jobs that *version*."""
        self.current = version.number
        self.save(update_fields=["current"])
        if actor:
            audit.record(Act.USE_PIPELINE, actor, key=self.name, name=version.label, text=str(version))

    @transaction.atomic
    def open_to(self, audience: str, people: list[int], actor: str) -> None:
        """Says who may use it. Raises NotChangeable for the default."""
        if self.is_default and audience != Audience.EVERYBODY:
            raise NotChangeable(KEPT_OPEN)
        self.audience = audience
        self.save(update_fields=["audience"])
        self.people.set(people if audience == Audience.NAMED else [])
        names = ", ".join(person.get_username() for person in self.people.all())
        text = f"{Audience(audience).label}: {names}" if names else Audience(audience).label
        audit.record(Act.OPEN_PIPELINE, actor, key=self.name, name=self.name, text=text)

    @transaction.atomic
    def keep(self, days: dict[str, int | None], actor: str) -> None:
        """Says for how many *days* its jobs keep what: "sources", "failed_sources", "outputs"."""
        Pipeline.objects.filter(pk=self.pk).update(**{f"keep_{what}": value for what, value in days.items()})
        said = (f"{what} {in_days(value)}" for what, value in days.items() if value is not None)
        text = ", ".join(said).replace("_", " ") or "as the settings say"
        audit.record(Act.KEEP, actor, key=self.name, name=self.name, text=text)

    @transaction.atomic
    def retire(self, retired: bool, actor: str) -> None:
        """Offers it for no new job any more, or again; jobs that have it go on. Raises NotChangeable."""
        if self.is_default and retired:
            raise NotChangeable(KEPT_OPEN)
        self.retired_at = timezone.now() if retired else None
        self.save(update_fields=["retired_at"])
        act = Act.RETIRE_PIPELINE if retired else Act.OFFER_PIPELINE
        audit.record(act, actor, key=self.name, name=self.name)


class PipelineVersion(models.Model):
    """A pipeline as somebody has saved it. It never changes; without a *made_by* it came with the code."""

    pipeline = models.ForeignKey(Pipeline, on_delete=models.CASCADE, related_name="versions")
    number = models.PositiveIntegerField()
    label = models.CharField(max_length=60)
    description = models.CharField(max_length=300, blank=True)
    engine = models.CharField(max_length=20, blank=True)
    stages = models.JSONField(default=list)
    made_by = models.CharField(max_length=150, blank=True)
    made_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["-number"]
        constraints = [models.UniqueConstraint(fields=["pipeline", "number"], name="one_version_of_a_number")]

    def __str__(self) -> str:
        return f"{self.label}, version {self.number}"

    @property
    def definition(self) -> PipelineDefinition:
        """What was saved."""
        stages = tuple(StageDefinition.from_plan(stage) for stage in self.stages)
        return PipelineDefinition(
            self.pipeline.name, self.label, self.description, stages, self.engine, self.number
        )

    def offered(self) -> PipelineDefinition:
        """The same, as the engine of this installation can do it."""
        return for_engine(self.definition, embedded=settings.EMBEDDED_ENGINE)


def keep_in_step(**kwargs: Any) -> None:
    """After each migrate: a version for each pipeline of the code that has changed since.

    Who has not chosen another version gets the code's newest.
    """
    if Pipeline._meta.db_table not in connection.introspection.table_names():
        return  # migrated to a time before it
    for code in PIPELINES.values():
        pipeline, _ = Pipeline.objects.get_or_create(name=code.name)
        ours = pipeline.versions.filter(made_by="").first()
        if ours is None or replace(ours.definition, version=0) != code:
            follows = pipeline.current == (ours.number if ours else 0)
            pipeline.add_version(code, "", use=follows)
