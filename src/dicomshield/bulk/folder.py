"""De-identify a folder: batches of files in parallel processes, results as they come."""

from __future__ import annotations

import contextlib
import csv
import os
import secrets
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from ..deidentifier import Deidentifier
from ..encoding.pieces import Range
from ..encoding.source import Source
from ..errors import PolicyError, Quarantined, Reason, VaultError
from ..evidence.report import Report
from ..storage import Storage
from .inputs import find_files, refuse_nested

if TYPE_CHECKING:
    from concurrent.futures import Future, ProcessPoolExecutor
    from multiprocessing.process import BaseProcess

    from ..vault.entering import Entering
    from ..vault.ledger import Ledger

__all__ = ["Batch", "Done", "Run"]

_AT_ONCE: Final = 8
_BATCH: Final = 64
"""Files of one task: enough to make its cost small, few enough to show progress."""
_LOOK: Final = 1.0
"""Seconds without a result after which it is looked whether all processes live."""


class Done(NamedTuple):
    """One file of a run.

    Attributes
    ----------
    path : str
        The source. PHI: paths often hold names.
    report : Report
    line : str
        The report as JSON, if the run was asked for it.
    """

    path: str
    report: Report
    line: str


class Batch(NamedTuple):
    """The files of one task, and the identifiers and UIDs that were replaced in them for the first time.

    ``indexes`` are the blind indexes of the rows that a crosswalk has of each object, by its number.
    """

    done: list[Done]
    patients: dict[str, str]
    uids: dict[str, str]
    indexes: dict[int, tuple[str, ...]]


class Run:
    """One pass over a folder; iterate over it for what became of each file.

    Parameters
    ----------
    deidentifier : Deidentifier
    in_folder, out_folder : Path
    workers : int
        Processes; 1 works in this one.
    quarantine : Path, optional
        Where originals that are held back are copied to, named by their number.
    lines : bool
        Render each report as JSON instead of carrying its changes.
    storage : Storage, optional
        How objects are written to ``out_folder``; plain files if not given.
    crosswalk : Entering, optional
        Enters who is who before an object gets its name. The deidentifier must keep originals.
    ledger : Ledger, optional
        Gets a line for each object after it has its name, and before it is told of here.

    Attributes
    ----------
    list_path : Path
        The list in the project folder that ties object numbers to source paths.
    patients, uids : dict
        Original -> new of everything replaced so far, if the pseudonymizer records it.

    Raises
    ------
    PolicyError
        If a folder is missing, or lies within another, or a list of patients and a crosswalk do not go together.
    """

    def __init__(
        self,
        deidentifier: Deidentifier,
        in_folder: Path,
        out_folder: Path,
        *,
        workers: int = 1,
        quarantine: Path | None = None,
        lines: bool = False,
        storage: Storage | None = None,
        crosswalk: Entering | None = None,
        ledger: Ledger | None = None,
    ) -> None:
        if crosswalk is not None and not deidentifier.pseudonymizer.unambiguous:
            raise PolicyError(
                "the list gives one pseudonym to two patients, and a crosswalk leads back to one: give each identifier "
                "a pseudonym of its own, or leave the issuer empty if it is one identifier with several issuers"
            )
        if workers < 1:
            raise PolicyError("there must be at least one worker")
        if not in_folder.is_dir():
            raise PolicyError("the input folder does not exist or is no folder")
        project = deidentifier.project.folder
        refuse_nested(input=in_folder, output=out_folder, quarantine=quarantine)
        refuse_nested(output=out_folder, project=project)
        self._skip = (project, *([quarantine] if quarantine else []))
        for folder, name in ((out_folder, "output"), (quarantine, "quarantine")):
            if folder is not None:
                _make(folder, name)
        name = time.strftime("run-%Y%m%dT%H%M%S-") + secrets.token_hex(4)
        held = Storage(quarantine / name, mode=0o600) if quarantine else None
        storage = storage or Storage(out_folder, deidentifier.durability)
        self._task, self._ledger = _Task(deidentifier, storage, held, lines, crosswalk), ledger
        self._in_folder, self._workers = in_folder, workers
        self._task.storage.remove_leftovers()
        self.patients: dict[str, str] = {}
        self.uids: dict[str, str] = {}
        self.list_path = project / f"{name}.csv"
        self._list = deidentifier.project.private_file(self.list_path.name)
        self._rows = csv.writer(self._list)
        self._list.write("# PHI: this list ties object numbers to source paths; keep it with the project secret\n")
        self._rows.writerow(("object", "source", "outcome", "output", "reason", "detail", "what to do"))
        # processes are forked before anything starts a thread
        self._pool: ProcessPoolExecutor | None = None
        self._children: list[BaseProcess] = []
        if workers > 1:
            self._start_pool(workers)

    def count(self) -> int:
        """Count the files of the input folder."""
        return sum(1 for _ in find_files(self._in_folder, self._skip))

    def __iter__(self) -> Iterator[Done]:
        numbered = enumerate(find_files(self._in_folder, self._skip), start=1)
        batches = iter(lambda: list(islice(numbered, _BATCH)), [])
        for batch in self._parallel(batches) if self._pool else map(self._task, batches):
            self.patients |= batch.patients
            self.uids |= batch.uids
            if self._ledger is not None:
                self._ledger.note((one.report, batch.indexes.get(one.report.number, ())) for one in batch.done)
            self._note(batch)
            yield from map(_up_to_date, batch.done)

    def _note(self, batch: Batch) -> None:
        try:
            for path, report, _ in batch.done:
                advice = Reason[report.reason].value if report.reason else ""
                self._rows.writerow(
                    (report.number, _printable(path), report.outcome, report.name, report.reason, report.detail, advice)
                )
            self._list.flush()
        except OSError as error:
            raise PolicyError(f"the list in the project folder cannot be written: {error.strerror}") from None

    def _parallel(self, batches: Iterator[_Numbered]) -> Iterator[Batch]:
        """Work in a pool; if a process dies, find out over which file, and hold that one back."""
        from concurrent.futures import FIRST_COMPLETED, wait
        from concurrent.futures.process import BrokenProcessPool
        from multiprocessing import connection

        running: dict[Future[Batch], _Numbered] = {}
        while True:
            assert self._pool is not None  # noqa: S101 - for the type checker
            for batch in islice(batches, 2 * self._workers - len(running)):
                running[self._pool.submit(_work, batch)] = batch
            if not running:
                return
            finished, _ = wait(running, _LOOK, FIRST_COMPLETED)
            if not finished and connection.wait([child.sentinel for child in self._children], 0):
                # one died in the middle of its result, whose rest is waited for while any other could still write it
                self._kill()
            broken = []
            for future in finished:
                batch = running.pop(future)
                try:
                    yield future.result()
                except BrokenProcessPool:
                    broken.append(batch)
            if broken:
                broken += running.values()
                running.clear()
                self._end_pool()
                yield from self._one_by_one(chain.from_iterable(broken))
                self._start_pool(self._workers)

    def _one_by_one(self, files: Iterable[tuple[int, str]]) -> Iterator[Batch]:
        from concurrent.futures.process import BrokenProcessPool

        for number, path in files:
            if self._pool is None:
                self._start_pool(1)
            assert self._pool is not None  # noqa: S101 - for the type checker
            try:
                yield self._pool.submit(_work, [(number, path)]).result()
            except BrokenProcessPool:
                self._end_pool()
                cause = Quarantined(Reason.INTERNAL, "the process that read it died")
                yield Batch([self._task.held_back(Report("", number), path, cause)], {}, {}, {})
        self._end_pool()

    def _start_pool(self, workers: int) -> None:
        # one process alone starts faster without the machinery for many
        from concurrent.futures import ProcessPoolExecutor
        from multiprocessing import active_children, get_context

        others = active_children()
        self._pool = ProcessPoolExecutor(workers, get_context("fork"), _begin, (self._task, os.getpid()))
        self._pool.submit(os.getpid).result()
        self._children = [child for child in active_children() if child not in others]
        # all workers are there; while this process could write results, too, it would wait for ever for the rest of one
        # whose worker was killed in the middle of it
        self._pool._result_queue._writer.close()  # type: ignore[attr-defined]

    def _end_pool(self) -> None:
        """End the processes of the pool; one that died may hold a lock that the others wait for."""
        if self._pool is not None:
            self._kill()
            self._pool.shutdown(cancel_futures=True)
            self._pool = None

    def _kill(self) -> None:
        for child in self._children:
            child.kill()

    def close(self) -> None:
        """Close the list, end the processes and remove scratch files."""
        self._end_pool()
        with contextlib.suppress(OSError):
            self._list.close()
        self._task.close()
        self._task.storage.remove_leftovers()

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


_Numbered = list[tuple[int, str]]


class _Task:
    """What is done with a batch, in whichever process."""

    def __init__(
        self,
        deidentifier: Deidentifier,
        storage: Storage,
        held: Storage | None,
        lines: bool,
        crosswalk: Entering | None,
    ) -> None:
        self.deidentifier, self.storage, self.held, self.lines = deidentifier, storage, held, lines
        self.crosswalk = crosswalk
        self._indexes: dict[int, tuple[str, ...]] = {}

    def __call__(self, batch: _Numbered) -> Batch:
        done: list[Done] = []
        for at in range(0, len(batch), _AT_ONCE):
            if self.crosswalk is not None:
                self.crosswalk.begin()
            steps = [self.one(number, path) for number, path in batch[at : at + _AT_ONCE]]
            # all headers, then all pixels: copying fills the processor's caches, and headers are slow without them
            first = [next(step) for step in steps]
            done += [result or _result(step) for result, step in zip(first, steps, strict=True)]
        self.storage.settle()
        indexes, self._indexes = self._indexes, {}
        return Batch(done, *self.deidentifier.pseudonymizer.take_record(), indexes)

    def one(self, number: int, path: str) -> Iterator[Done | None]:
        """De-identify one file, with a pause (``None``) before its pixels are copied.

        Whatever happens, something is said of it and nothing else stops.
        """
        report = Report("", number)
        try:
            with Source.open(path) as source:
                prepared = self.deidentifier.prepare(source, report)
                if self.crosswalk is not None and prepared.original is not None:
                    self._indexes[number] = self.crosswalk.add(prepared.original, report)
                if prepared.source is source:
                    # what had to be taken into memory is written at once
                    yield None
                if self.crosswalk is not None:
                    # the first one enters the rows of all those whose headers were read
                    self.crosswalk.settle()
                prepared.write(self.storage)
        except Quarantined as cause:
            yield self.held_back(report, path, cause)
        except (PolicyError, VaultError):
            # nothing that could go better with the next file
            raise
        except MemoryError:
            yield self.held_back(report, path, Quarantined(Reason.TOO_LARGE, "out of memory"))
        except Exception as error:
            # the message may quote a value, so only the place in the code is told
            yield self.held_back(report, path, Quarantined(Reason.INTERNAL, _place(error)))
        else:
            yield self.done(path, report)

    def close(self) -> None:
        """Forget keys, and remove scratch files."""
        self.storage.close()
        if self.crosswalk is not None:
            self.crosswalk.close()

    def held_back(self, report: Report, path: str, cause: Quarantined) -> Done:
        """Report a quarantine, and copy the original if that was asked for."""
        report.held_back(cause)
        if self.held is not None:
            try:
                with Source.open(path) as source:
                    self.held.write(f"{report.number:08d}.dcm", source, [Range(0, source.size)])
            except Quarantined as error:
                report.detail = f"{report.detail}; not copied: {error.reason.name}".lstrip("; ")
        return self.done(path, report)

    def done(self, path: str, report: Report) -> Done:
        line = ""
        if self.lines:
            line, report.parts = report.to_json(), ()
        return Done(path, report, line)


def _up_to_date(done: Done) -> Done:
    """Render a report anew if it may have become that of a quarantine."""
    return done._replace(line=done.report.to_json()) if done.line and done.report.reason else done


def _result(step: Iterator[Done | None]) -> Done:
    done = next(step)
    assert done is not None  # noqa: S101 - there is one pause only
    return done


_task: _Task | None = None


def _begin(task: _Task, parent: int) -> None:
    """Start a worker process: the parent answers Ctrl-C, and the worker ends when the parent is gone."""
    global _task
    _task = task
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _work(batch: _Numbered) -> Batch:
    assert _task is not None  # noqa: S101 - set by the initializer
    return _task(batch)


def _place(error: Exception) -> str:
    """Name an error and where in this package it happened."""
    place, trace = "", error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        if "dicomshield" in code.co_filename:
            place = f" in {Path(code.co_filename).stem}.{code.co_name}, line {trace.tb_lineno}"
        trace = trace.tb_next
    return f"{type(error).__name__}{place}"


def _printable(path: str) -> str:
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _make(folder: Path, name: str) -> None:
    try:
        folder.mkdir(0o700 if name == "quarantine" else 0o777, parents=True, exist_ok=True)
    except OSError as error:
        raise PolicyError(f"the {name} folder cannot be made: {error.strerror}") from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PolicyError(f"the {name} folder cannot be written to")
