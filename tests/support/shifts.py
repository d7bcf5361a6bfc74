"""What moves on a page by itself, as the browser counts it: layout shifts, and what leads to them.

Every shift is counted, also one within half a second of a click, which the metric of the web (CLS) forgives:
who has just ticked a row is about to click the next one.
"""

from __future__ import annotations

import os
from pathlib import Path
from uuid import uuid4

from tests.support.browsing import PATIENCE, wait_for_state
from tests.support.product import make_clip

LIMIT = 0.02  # of a page that is watched
COUNT = """
    window.shifts = [];
    new PerformanceObserver((list) => {
        for (const entry of list.getEntries())
            shifts.push([entry.value, entry.sources.map(({node, previousRect, currentRect}) => {
                const {tagName, className, id} = node?.nodeType === 1 ? node : (node?.parentElement ?? {});
                const from = `${previousRect.y} ${previousRect.height}`;
                const to = `${currentRect.y} ${currentRect.height}`;
                return `${tagName} ${id} ${className?.baseVal ?? className}: ${from} -> ${to}`;
            })]);
    }).observe({type: 'layout-shift', buffered: true});
"""


def counting(page):
    """The page, which from its next document on counts what moves."""
    page.set_default_timeout(PATIENCE)
    page.add_init_script(COUNT)
    return page


def shift(page) -> tuple[float, list]:
    """How much has moved since the page began, and what."""
    page.wait_for_timeout(300)  # the observer is told after the frame
    seen = page.evaluate("() => window.shifts")
    return round(sum(value for value, _ in seen), 4), seen


def watch(pages: dict) -> dict[str, tuple[float, list]]:
    """What moves on the pages of running jobs until the last one is done; by the keys of *pages*."""
    for page in pages.values():
        wait_for_state(page, "succeeded")
        page.wait_for_timeout(500)
    return {key: shift(page) for key, page in pages.items()}


def small_films(folder: Path, many: int) -> list[Path]:
    """So many films that nobody has uploaded before, nor begun to, by any of their names."""
    start = make_clip(folder / "start.mp4", 1, "160x120").read_bytes()
    films = [folder / f"film {uuid4().hex[:8]} {number:02}.mp4" for number in range(many)]
    for film in films:
        film.write_bytes(start + os.urandom(99))
    return films


def upload_all(page, films: list[Path]) -> tuple[float, list]:
    """What moves on the list from the choice of *films* until the last one is a job."""
    page.set_input_files("#upload-file", [str(each) for each in films])
    for film in films:
        page.wait_for_selector(
            f".job:has-text('{film.name}'), .upload[data-state=done]:has-text('{film.name}')"
        )
    page.wait_for_selector(".upload:not([data-state=done], [data-stopped])", state="detached")
    return shift(page)


def tick_some(page) -> tuple[float, list]:
    """What moves while rows of the list are ticked and unticked again."""
    before = len(page.evaluate("() => window.shifts"))
    for number in (0, 2, 0, 2):
        page.press(f".job >> nth={number} >> input", "Space")
        page.wait_for_timeout(100)
    value, seen = shift(page)
    return (0.0, []) if len(seen) == before else (value, seen[before:])
