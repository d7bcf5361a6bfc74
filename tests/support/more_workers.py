"""More workers beside those of `up`, each a process of its own under a name of its own."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.product import MANAGE, Product, until

PATIENCE = 60  # seconds for a start, or an end, on a busy machine


class Machine:
    """A worker of the engine, which can be stopped and started again."""

    def __init__(self, product: Product, name: str) -> None:
        self.product, self.name = product, name
        self.log = product.home / f"{name}.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> Machine:
        """Returns when it takes work, or would."""
        environment = {**self.product.environment, "MEDIAPIPE_WORKER_NAME": self.name}
        with open(self.log, "w") as out:
            command = [*MANAGE, "worker", "--queue", "media-engine"]
            self.process = subprocess.Popen(command, env=environment, stdout=out, stderr=out)
        until(lambda: "worker: ready" in self.log.read_text(), PATIENCE)
        return self

    def stop(self) -> None:
        """As a person would: it hands over what it has."""
        if self.process:
            self.process.terminate()
            self.process.wait(PATIENCE)
            self.process = None


@contextmanager
def more_workers(product: Product, *names: str) -> Iterator[list[Machine]]:
    """So many more, until the block ends."""
    machines = [Machine(product, name) for name in names]
    try:
        yield [each.start() for each in machines]
    finally:
        for each in machines:
            each.stop()
