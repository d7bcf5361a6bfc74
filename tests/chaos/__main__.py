"""`python -m tests.chaos SEED [--jobs N] [--seconds N] [--without FAULT ...]`: one seed, and its verdict.

The same seed plays the same people and the same fate. Exit status: how many promises were broken.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import re
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

from tests.chaos.collect import collect, job_rows, unfinished
from tests.chaos.facts import Answer, Facts
from tests.chaos.fate import Fate
from tests.chaos.installation import Installation, processes
from tests.chaos.judge import Violation, judge
from tests.chaos.people import People
from tests.chaos.script import CHIEF, FAULTS, draw

PATIENCE = 75.0  # seconds until what is left counts as stuck
DECISIONS = 3  # as often is a job decided upon that waits for a person: a broken one breaks at two stages
STEADY = 3.0  # seconds without a job under way: what was started late has begun by then


def main(arguments: list[str] | None = None) -> int:
    """Plays a seed, prints the verdict, and answers the number of violations."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("seed", type=int)
    parser.add_argument("--jobs", type=int, default=60)
    parser.add_argument("--seconds", type=float, default=40, help="that people and fate are at it")
    parser.add_argument("--without", action="append", default=[], choices=FAULTS, help="a fault left out")
    parser.add_argument(
        "--keep", action="store_true", help="leave the folder for a look, and say where it is"
    )
    given = parser.parse_args(arguments)
    folder = Path(tempfile.mkdtemp(prefix=f"chaos-{given.seed}-"))
    faults = tuple(fault for fault in FAULTS if fault not in given.without)
    try:
        facts, dealt = play(folder, given.seed, given.jobs, given.seconds, faults)
    finally:
        if not given.keep:
            shutil.rmtree(folder, ignore_errors=True)
    broken = judge(facts)
    report(given.seed, facts, dealt, broken)
    if given.keep:
        print(f"Kept: {folder}")
    return len(broken)


def play(
    folder: Path, seed: int, jobs: int, seconds: float, faults: tuple[str, ...]
) -> tuple[Facts, Counter[str]]:
    """The facts once all is quiet, and how often each fault was dealt."""
    script = draw(seed, jobs, seconds, faults)
    own_disk = any(blow.fault == "disk" for blow in script.blows)
    with Installation(folder, own_disk) as installation:
        people, fate = People(installation, folder), Fate(installation, script.blows)
        began = time.monotonic()
        dealing = threading.Thread(target=fate.run, args=[began])
        dealing.start()
        people.run(script.acts, began)
        dealing.join()
        quiet(installation)
        waited = [job for _ in range(DECISIONS) for job in decide(installation, people)]
        facts = asyncio.run(collect(installation))
        facts.answers, facts.waited = people.diary, waited
        facts.encoders_killed_at, facts.database_locked = fate.encoders_killed_at, "database" in fate.dealt
        facts.web_killed = "kill web" in fate.dealt
        facts.worker_killed = "kill worker" in fate.dealt
        installation.stop()
        facts.errors = re.findall(r"^web: [\w.]+(?:Error|Exception|Exist)\b.*", installation.log, re.M)
        left = time.monotonic() + 5
        while (found := processes(installation.product.home)) and time.monotonic() < left:
            time.sleep(0.2)
        facts.processes = [f"{pid} {command}" for pid, command in found]
    return facts, fate.dealt


def quiet(installation: Installation) -> None:
    """Waits until nothing has been under way for a moment; at most PATIENCE."""
    until = time.monotonic() + PATIENCE
    since = time.monotonic()
    while time.monotonic() < min(until, since + STEADY):
        time.sleep(0.2)
        if unfinished(installation):
            since = time.monotonic()


def decide(installation: Installation, people: People) -> list[str]:
    """Has each job retried or cancelled that waits for a person, and waits for its end; which there were."""
    waiting = [row for row in job_rows(installation) if row.state == "attention"]
    for number, row in enumerate(waiting):
        answer = Answer(("retry", "cancel")[number % 2], "web", CHIEF, [row.id])
        people.note(answer, functools.partial(people.press, answer))
    if waiting:
        quiet(installation)
    return [row.id for row in waiting]


def report(seed: int, facts: Facts, dealt: Counter[str], broken: list[Violation]) -> None:
    """Prints the figures, and every violation with its evidence."""
    states = Counter(row.state for row in facts.rows)
    submitted = [answer for answer in facts.answers if answer.verb == "submit"]
    answers = Counter(answer.verb for answer in facts.answers)
    table = {
        "seed": seed,
        "submissions": f"{len(submitted)}, {sum(bool(answer.made) for answer in submitted)} of them jobs",
        "asked": ", ".join(f"{verb} {number}" for verb, number in sorted(answers.items())),
        "faults": f"{sum(dealt.values())} ({', '.join(f'{k} {n}' for k, n in sorted(dealt.items()))})",
        "jobs at the end": ", ".join(f"{state} {number}" for state, number in sorted(states.items())),
        "tasks": len(facts.tasks),
        "violations": len(broken),
    }
    print("| what | figure |\n| --- | --- |")
    for what, figure in table.items():
        print(f"| {what} | {figure} |")
    for error, number in Counter(facts.errors).most_common(5):
        print(f"seed {seed}: {number} × {error}")
    for answer in (answer for answer in submitted if not answer.made):
        print(f"seed {seed}: {answer.title} ({answer.door}) made no job: {answer.status} {answer.sentence}")
    for each in broken:
        print(f"seed {seed}: {each.rule.replace('_', ' ')}: job {each.job or '-'}: {each.evidence}")
        tell(facts, each.job)


def tell(facts: Facts, job: str) -> None:
    """Prints all that is known of a job, in its order: what happened to it, and what people were told."""
    told = [answer for answer in facts.answers if job in (*answer.jobs, answer.made)]
    lines = [(a.answered_at, f"TOLD {a.person} {a.verb} {a.door} {a.status} {a.sentence}") for a in told]
    for row in (row for row in facts.rows if row.id == job):
        print(f"    {row.title}: {row.state}, run {row.run}, {row.error}")
        lines += [(e.at, f"{e.kind} {e.stage} {e.actor} {e.text}") for e in row.events]
    for at, line in sorted(lines) if job else []:
        print(f"    {time.strftime('%H:%M:%S', time.gmtime(at))}.{int(at % 1 * 10)} {line}")


if __name__ == "__main__":
    sys.exit(min(main(), 120))
