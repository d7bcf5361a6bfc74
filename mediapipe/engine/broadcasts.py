"""What a transport stream's own tables say: programmes, and numbers that change.

For a sandboxed child (probe.py). The standard library alone; a file that lies raises, and is asked by
probe.py in a way that survives it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

ENDS = 1 << 20  # bytes at each end, of which the tables are compared
TABLES = 8 << 20  # bytes at the start, among which the tables are looked for


def programmes(path: str) -> dict[int, int]:
    """The programme of each track (by its id) of a transport stream that has several; else nothing."""
    with open(path, "rb") as file:
        data = file.read(TABLES)
    found: dict[int, int] = {}
    tables: dict[int, int] = {}  # the programme of each table, by its packets' id
    for at, pid in _beginnings(data):
        if pid == 0 and not tables:
            tables = {table: number for number, table in _programmes(_section(data, at))}
            if len(tables) < 2:
                return {}
        elif pid in tables and tables[pid] not in found.values():
            found |= dict.fromkeys((track for _, track in _tracks(_section(data, at))), tables[pid])
        if tables and set(tables.values()) <= set(found.values()):
            break
    return found


def renumbered(path: str) -> tuple[bool, bool]:
    """Whether a transport stream of one programme ends under other numbers than it began.

    Of its tracks alone, so that FFmpeg can go on with them; or of its programme, or of others: it can't.
    """
    with open(path, "rb") as file:
        first = next(_tables(file.read(ENDS)), None)
        file.seek(max(0, file.seek(0, 2) - ENDS))
        last = next(iter(deque(_tables(file.read()), maxlen=1)), None) if first else None
    if first is None or last is None or first == last:
        return False, False
    kinds, others = ([kind for kind, _ in table[2]] for table in (first, last))
    alike = first[:2] == last[:2] and kinds == others
    return alike, not alike and not {pid for _, pid in first[2]} & {pid for _, pid in last[2]}


def goes_on_renumbered(path: str) -> bool:
    """Whether FFmpeg has to go on with tracks that get other numbers."""
    return renumbered(path)[0]


def _tables(data: bytes) -> Iterator[tuple[int, int, list[tuple[int, int]]]]:
    """The tables of one programme: its number, their packets' id, and the kinds and ids of its tracks."""
    programme = (0, 0)
    for at, pid in _beginnings(data):
        if pid == 0:
            named = _programmes(_section(data, at))
            if len(named) != 1:
                return
            programme = named[0]
        elif pid == programme[1]:
            yield *programme, _tracks(_section(data, at))


def _beginnings(data: bytes) -> Iterator[tuple[int, int]]:
    """Where the packets are that begin something, with their ids; nothing where these aren't packets."""
    for size in (188, 192, 204):
        first = _first(data, size)
        if first is not None:
            for at in range(first, len(data) - 187, size):
                if data[at] == 0x47 and data[at + 1] & 0x40:
                    yield at, (data[at + 1] & 0x1F) << 8 | data[at + 2]
            return


def _first(data: bytes, size: int) -> int | None:
    """Where the first of five packets of *size* bytes is that follow each other from near the start."""
    return next((at for at in range(size) if data[at : at + 4 * size + 1 : size] == b"G" * 5), None)


def _section(data: bytes, at: int) -> bytes:
    """The table that begins in the packet at *at*, as far as that packet holds it."""
    start = at + 4 + (1 + data[at + 4] if data[at + 3] & 0x20 else 0)
    start += 1 + data[start]
    length = 3 + ((data[start + 1] & 0x0F) << 8 | data[start + 2])
    return data[start : min(start + length, at + 188)]


def _programmes(section: bytes) -> list[tuple[int, int]]:
    """The numbers of the programmes that a stream's own table names, each with its table's packets' id."""
    entries = (section[i : i + 4] for i in range(8, len(section) - 4, 4))
    return [(e[0] << 8 | e[1], (e[2] & 0x1F) << 8 | e[3]) for e in entries if e[0] | e[1]]


def _tracks(section: bytes) -> list[tuple[int, int]]:
    """The kinds and ids of the tracks that a programme's table names."""
    found = []
    at = 12 + ((section[10] & 0x0F) << 8 | section[11])
    while at + 5 <= len(section) - 4:
        found.append((section[at], (section[at + 1] & 0x1F) << 8 | section[at + 2]))
        at += 5 + ((section[at + 3] & 0x0F) << 8 | section[at + 4])
    return found
