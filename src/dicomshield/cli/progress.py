"""Show how far a long run is; nothing of what it works on."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import click

__all__ = ["tracked"]

_Item = TypeVar("_Item")


def tracked(items: Iterable[_Item], what: str, total: Callable[[], int]) -> Iterator[_Item]:
    """Yield items and show progress: a bar on a terminal, else a line every ten seconds.

    Parameters
    ----------
    items : iterable
    what : str
        What is done with them.
    total : callable
        Counts them; asked on a terminal only.
    """
    if not sys.stderr.isatty():
        yield from _plain(items)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]:.0f}/s"),
        TimeRemainingColumn(),
    )  # fmt: skip
    began = time.monotonic()
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(what, total=total(), rate=0)
        for number, item in enumerate(items, start=1):
            progress.update(task, advance=1, rate=number / max(time.monotonic() - began, 1e-3))
            yield item


def _plain(items: Iterable[_Item]) -> Iterator[_Item]:
    began = said = time.monotonic()
    for number, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now - said >= 10:
            said = now
            click.echo(f"{number} objects, {number / (now - began):.0f}/s", err=True)
