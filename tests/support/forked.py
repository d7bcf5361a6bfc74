"""Management commands without their start: a process that has imported everything forks one for each.

`python -m tests.support.forked` reads command lines, one a line (JSON), each with what its environment has
besides, and answers each with its exit status and what it printed. What a command does, it does in a process
of its own, which ends as a command ends. Django's settings are those of the first process.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import traceback


def serve() -> None:
    """Until standard input is closed."""
    import django
    from django.core.checks import run_checks
    from django.core.management import execute_from_command_line

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mediapipe.settings")
    django.setup()
    import jobs.management.commands.submit  # noqa: F401 - what most commands import

    run_checks()  # as each command does first: they import every view, which takes 0.4 s

    for line in sys.stdin:
        arguments, variables = json.loads(line)
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            child = os.fork()
            if not child:
                os.dup2(out.fileno(), 1)
                os.dup2(err.fileno(), 2)
                os.environ.update(variables)
                run(lambda arguments=arguments: execute_from_command_line(["manage.py", *arguments]))
            _, status = os.waitpid(child, 0)
            texts = [_text(file) for file in (out, err)]
        print(json.dumps([os.waitstatus_to_exitcode(status), *texts]), flush=True)


def run(command) -> None:
    """Runs it as a program would be run, and never returns."""
    status = 0
    try:
        command()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _text(file) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")


if __name__ == "__main__":
    serve()
