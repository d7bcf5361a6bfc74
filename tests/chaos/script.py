"""What people and fate will do: drawn from a seed before anything begins, so that a seed repeats it.

Pure: it knows numbers and moments, and no product. People and each kind of fate draw from sources of their
own: what is switched off changes nothing in the rest.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from random import Random

PEOPLE = ("ada", "grace", "maria")
CHIEF = "chief"  # staff: sees and changes everybody's jobs
DOORS = ("form", "form", "link", "link", "link", "tus", "command")
# How a job's tasks go at the stand-in API; the rest of the jobs simply succeed.
FATES = ("", "", "", "flaky", "broken", "long", "slow")
FAULTS = {  # by name: how long one lasts, in seconds
    "kill": (0.0, 0.0),
    "redeploy": (0.0, 0.0),
    "freeze": (1.0, 6.0),
    "api": (1.0, 6.0),
    "network": (1.0, 6.0),  # Temporal's line
    "line": (1.0, 6.0),  # every other one
    "database": (1.0, 8.0),
    "disk": (1.0, 6.0),
    "history": (0.0, 0.0),
    "move": (0.0, 0.0),
}
RARE = ("history", "move")  # at most once each: they stop everything
LINES = ("reset", "slow", "hole")
VICTIMS = {
    "kill": ("worker", "worker", "web", "temporal", "encoder"),
    "redeploy": ("worker",),
    "freeze": ("worker", "web", "temporal", "encoder"),
    "api": ("502", "503", "html", "429 1", "slow 2", "drop"),
    "network": LINES,
    "line": tuple(f"{line} {how}" for line in ("browser", "engine", "api") for how in LINES),
    "disk": ("reserve", "full"),
}


@dataclass(frozen=True)
class Act:
    """What a person does: *targets* are numbers of submissions, *again* who does what at the same moment."""

    at: float
    person: str
    verb: str  # submit, cancel, retry, delete, look
    door: str  # form, link, tus, command; web, command, bulk
    targets: tuple[int, ...]
    key: str = ""
    fate: str = ""
    again: tuple[str, str] | None = None  # person, verb


@dataclass(frozen=True)
class Blow:
    """What fate does."""

    at: float
    fault: str
    victim: str
    seconds: float


@dataclass(frozen=True)
class Script:
    """All of it."""

    seed: int
    acts: list[Act]
    blows: list[Blow]


def draw(seed: int, jobs: int, seconds: float, faults: tuple[str, ...] = tuple(FAULTS)) -> Script:
    """The script of a seed: *jobs* submissions within half of *seconds*, and everything else around them."""
    return Script(seed, _acts(Random(f"{seed} people"), jobs, seconds), _blows(seed, seconds, faults))


def _acts(chance: Random, jobs: int, seconds: float) -> list[Act]:
    acts = [_submission(chance, number, seconds * number / jobs / 2) for number in range(jobs)]
    for _ in range(jobs):
        at = chance.uniform(seconds * 0.05, seconds)
        until = max(1, min(jobs, int(at / seconds * 2 * jobs)))
        verb = chance.choice(("cancel", "cancel", "retry", "retry", "delete", "look"))
        door = chance.choice(("web", "web", "web", "bulk", "command"))
        number = chance.randrange(until)
        latest = chance.random() < 0.4  # most that goes wrong goes wrong at the beginning
        number = until - 1 if latest else number
        targets = tuple(sorted(chance.sample(range(until), min(until, 6)))) if door == "bulk" else (number,)
        person = CHIEF if door == "bulk" or chance.random() < 0.3 else acts[number].person
        again = None
        if chance.random() < 0.4:
            again = (CHIEF, chance.choice(("cancel", "retry", "delete", "look")))
        acts.append(Act(at, person, verb, door, targets, again=again))
    return sorted(acts, key=lambda act: act.at)


def _submission(chance: Random, number: int, at: float) -> Act:
    door = chance.choice(DOORS)
    fate = "real" if number % 10 == 4 else chance.choice(FATES) if door in ("link", "command") else ""
    door = "form" if fate == "real" and door in ("link", "command") else door
    key = str(uuid.UUID(int=chance.getrandbits(128), version=4))
    return Act(at, chance.choice(PEOPLE), "submit", door, (number,), key=key, fate=fate)


def _blows(seed: int, seconds: float, faults: tuple[str, ...]) -> list[Blow]:
    """A seed plays about half of the faults; each of those that are no rare ones, every few seconds."""
    blows = []
    for fault, (shortest, longest) in FAULTS.items():
        chance = Random(f"{seed} {fault}")
        plays = chance.random() < (0.3 if fault in RARE else 0.6)
        at = chance.uniform(0.1, 0.6) * seconds
        while at < seconds and plays:
            victim = chance.choice(VICTIMS.get(fault, ("",)))
            blow = Blow(at, fault, victim, chance.uniform(shortest, longest))
            at += seconds if fault in RARE else chance.uniform(4, 16)
            if fault in faults:
                blows.append(blow)
    return sorted(blows, key=lambda blow: blow.at)
