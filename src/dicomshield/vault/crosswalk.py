"""The crosswalk: from a pseudonym back to its original, for those alone who can open the patient's key box.

A SQLite file in WAL mode, written by many processes at once. Of each original it holds

* a blind index, by which it is found again: ``HMAC-SHA-256(index key, lp(kind) lp(issuer) lp(original))[:16]``,
  with ``lp(x)`` the length of x as 4 bytes, big-endian, and then x; padding of DICOM is taken off before,
* the pseudonym, the pseudonym of the patient, and the name ``kid`` of a data key of that patient,
* ``sealed``, a nonce of 12 bytes and AES-256-GCM (SP 800-38D) under a key from that data key, of JSON
  ``{"kind", "original", "issuer", "more"}``; additional data are ``"xw1" kid bidx lp(pseudonym) lp(patient)``,
* ``tag``, ``HMAC-SHA-256(tag key, additional data, sealed)[:16]``, so that an edited row is refused
  also where only the index key is at hand.

Row key and tag key come by HKDF-Expand (RFC 5869 2.3) from the data key and the index key. Nothing here tells of a
row that somebody deleted, or of a file put back to an older state: the audit log does, which has every new index.
"""

from __future__ import annotations

import contextlib
import csv
import hmac
import io
import json
import os
import secrets
import sqlite3
import stat
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple
from urllib.parse import quote
from weakref import WeakSet

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ..encoding.pieces import Stream
from ..encoding.source import Source
from ..errors import PolicyError, Quarantined, Reason, VaultError
from ..identity.project import Project
from ..storage import Durability, Storage
from . import audit as _audit  # noqa: F401 - its hooks for forks come first, so that both take their locks in one order
from .files import sync_folder
from .keys import DataKey

__all__ = ["KINDS", "Crosswalk", "Entry", "Lookup", "Row", "index_key"]

KINDS: Final = ("patient", "study", "uid")
"""A patient by Patient ID; one without a Patient ID, by Study Instance UID; a UID."""
_APPLICATION: Final = 0x44435857
_SCHEMA: Final = (
    "CREATE TABLE about(index_check BLOB NOT NULL)",
    "CREATE TABLE entry(bidx BLOB PRIMARY KEY NOT NULL, pseudonym TEXT NOT NULL, patient TEXT NOT NULL, "
    "kid BLOB NOT NULL, sealed BLOB NOT NULL, tag BLOB NOT NULL) WITHOUT ROWID",
    "CREATE UNIQUE INDEX by_pseudonym ON entry(pseudonym)",
)
_COLUMNS: Final = "bidx, pseudonym, patient, kid, sealed, tag"
_CSV: Final = ("id_old", "issuer", "id_new", "kind", "patient")
_SECONDS: Final = 30
"""How long to wait for other writers."""
_LARGEST: Final = 1 << 16
_PAD: Final = 64
"""Plaintexts are padded to multiples of it, so that a row does not tell the length of a name."""
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "'")
"""Beginnings of cells that spreadsheets execute, and the mark that stops them."""
_MOUNTS = Path("/proc/self/mountinfo")
_REMOTE: Final = frozenset(
    "nfs nfs4 cifs smb3 smbfs 9p afs coda ceph beegfs gfs2 glusterfs gpfs lustre ncpfs ocfs2 orangefs pvfs2 sshfs "
    "s3fs davfs davfs2 rclone gcsfuse".split()
)
_WITHOUT_WAL: Final = (
    "SQLITE_CANTOPEN",
    "SQLITE_PROTOCOL",
    "SQLITE_IOERR_SHMOPEN",
    "SQLITE_IOERR_SHMMAP",
    "SQLITE_IOERR_SHMLOCK",
)
"""What SQLite says where WAL cannot be had."""
_NO_WAL: Final = (
    "the crosswalk cannot be on this file system: it keeps no memory in common between processes, or is a network's; "
    "write one crosswalk for each worker on a local disk, then merge them"
)
_DAMAGED: Final = "the crosswalk does not open: it is damaged, another project's, or none"
_GONE: Final = "the key of this row is gone: the patient's keys were shredded, or their folder is not here"
_CONTRADICTION: Final = (
    "one pseudonym for two originals, or one original with two pseudonyms: they are of different projects or lists"
)
_LIVING: Final[WeakSet[Crosswalk]] = WeakSet()


def index_key(project: Project) -> bytes:
    """Return the key of a project's blind indexes, derived as those of `identity.pseudonym` are."""
    return hmac.digest(project.secret, b"dicomshield/1/blind-index\1", "sha256")


class Row(NamedTuple):
    """What is to be entered.

    Attributes
    ----------
    kind : str
        One of `KINDS`. Whoever has no Patient ID is entered as ``"study"``.
    original : str
    issuer : str
        Issuer of Patient ID; empty for UIDs.
    pseudonym : str
    key : DataKey
        Of the patient. A UID that several patients share belongs to the first.
    more : mapping of str to str
        What else re-identification needs, by DICOM keyword.
    """

    kind: str
    original: str
    issuer: str
    pseudonym: str
    key: DataKey
    more: Mapping[str, str] = MappingProxyType({})

    def __repr__(self) -> str:
        return f"Row({self.kind})"


class Entry(NamedTuple):
    """An opened row; see `Row`. ``patient`` is the pseudonym of the patient it belongs to."""

    kind: str
    original: str
    issuer: str
    pseudonym: str
    patient: str
    more: dict[str, str]

    def __repr__(self) -> str:
        return f"Entry({self.kind}, {self.pseudonym})"


class Lookup(NamedTuple):
    """What the audit log is told of a lookup.

    Attributes
    ----------
    kind : str
        Empty if no row was opened.
    pseudonym : str
        Empty if there is no such row: what was asked for might be an original by mistake.
    bidx : str
        Blind index in hexadecimal.
    purpose : str
        Who asked and what for, in the words of the caller.
    rows : int
        How many rows were found.
    """

    kind: str
    pseudonym: str
    bidx: str
    purpose: str
    rows: int


class _Record(NamedTuple):
    """A row as it is stored."""

    bidx: bytes
    pseudonym: str
    patient: str
    kid: bytes
    sealed: bytes
    tag: bytes

    def associated(self) -> bytes:
        names = _prefixed(self.pseudonym.encode()) + _prefixed(self.patient.encode())
        return b"xw1" + self.kid + self.bidx + names


class Crosswalk:
    """A crosswalk file, made with its folder if there is none.

    It may be used by several threads, and on both sides of a fork, but not be forked from within its callbacks.

    Parameters
    ----------
    path : path-like
        On a local file system. SQLite keeps two more files at its side, ``-wal`` and ``-shm``: all three are one.
    index_key : bytes
        32 bytes; see `index_key`.
    durable : bool
        What is acknowledged survives a power cut, not only the death of the process (``synchronous=FULL``).
    on_lookup : callable, optional
        Called with each `Lookup` before its answer is given; if it raises, there is no answer.

    Raises
    ------
    PolicyError
        If the place cannot hold a crosswalk, or others can read it.
    VaultError
        If the file is damaged, of another project, or something else.
    Quarantined
        DISK, if the disk is full or fails, or other writers do not finish; for all methods alike.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        index_key: bytes,
        durable: bool = True,
        on_lookup: Callable[[Lookup], None] | None = None,
    ) -> None:
        if len(index_key) != 32:
            raise PolicyError("the index key must have 32 bytes")
        self._path, self._durable, self._on_lookup = Path(path).absolute(), durable, on_lookup
        self._index_key, self._tag_key = index_key, _expanded(index_key, b"tag")
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        _LIVING.add(self)
        with _errors():
            if not os.path.lexists(self._path):
                _create(self._path, self._mac(b"index key"))
        with self._guarded():
            pass

    def close(self) -> None:
        """Close the file; it opens again by itself when it is used."""
        with self._lock, _errors():
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def __enter__(self) -> Crosswalk:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Writing

    def add(self, kind: str, original: str, issuer: str, pseudonym: str, key: DataKey, **more: str) -> list[str]:
        """Enter one original; see `Row` and `add_many`."""
        return self.add_many([Row(kind, original, issuer, pseudonym, key, more)])

    def add_many(self, rows: Iterable[Row]) -> list[str]:
        """Enter originals, all or none; what is there already stays as it is.

        Returns
        -------
        list of str
            Blind indexes of the new ones, in hexadecimal, for the audit log.

        Raises
        ------
        PolicyError
            If a row cannot be entered, or contradicts one that is there.
        """
        with self._guarded():
            placed = [(self._index(row.kind, row.original, row.issuer), row) for row in rows]
            new = [self._sealed(bidx, row) for bidx, row in placed if not self._stands(bidx, row)]
            return self._insert(new) if new else []

    def enter(self, rows: Iterable[Row], key_for: Callable[[str], DataKey]) -> list[str]:
        """Enter rows whose keys have no secret yet; see `add_many`.

        Parameters
        ----------
        rows : iterable of Row
        key_for : callable
            Gives a data key for the pseudonym of a patient; asked once for each that has a new row.
        """
        keys: dict[str, DataKey] = {}
        new = []
        for row in rows:
            patient = row.key.patient
            if self._stands(self._index(row.kind, row.original, row.issuer), row):
                continue
            if patient not in keys:
                keys[patient] = key_for(patient)
            new.append(row._replace(key=keys[patient]))
        return self.add_many(new)

    def merge(self, others: Iterable[str | os.PathLike[str]]) -> list[str]:
        """Take over all rows of other crosswalks of the same project: each of them as a whole or not at all.

        No data key is needed. Returns and raises what `add_many` does, and VaultError.
        """
        new = []
        for path in others:
            if not os.path.lexists(path):
                raise PolicyError("a crosswalk that is to be merged is not there")
            with Crosswalk(path, index_key=self._index_key) as other, self._guarded():
                new += self._insert(other._records("bidx"))
        return new

    def forget(self, patient: str) -> int:
        """Remove the rows of a patient whose keys were shredded; without that, they could not be entered anew.

        What is overwritten in a file may be left on the medium.

        Returns
        -------
        int
            How many rows there were.
        """
        if not _fit(patient):
            return 0
        with self._guarded() as db:
            with self._transaction():
                gone = db.execute("DELETE FROM entry WHERE patient = ?", (patient,)).rowcount
            # the log still has the old pages; another reader can keep it from being cut
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        return gone

    def _insert(self, records: Iterable[_Record]) -> list[str]:
        new = []
        with self._transaction() as db:
            for record in records:
                insert = f"INSERT INTO entry({_COLUMNS}) VALUES (?,?,?,?,?,?) ON CONFLICT DO NOTHING"  # noqa: S608
                if db.execute(insert, record).rowcount:
                    new.append(record.bidx.hex())
                elif not self._stands(record.bidx, record):
                    there = self._one("pseudonym", record.pseudonym)
                    # found by its pseudonym and not by its index: the trees contradict each other
                    damaged = there is None or there.bidx == record.bidx
                    raise VaultError(_DAMAGED) if damaged else PolicyError(_CONTRADICTION)
        return new

    def _stands(self, bidx: bytes, row: Row | _Record) -> bool:
        """Say whether a row is there already; what is seen in WAL mode has been forced to the disk."""
        there = self._one("bidx", bidx)
        if there and there.pseudonym != row.pseudonym:
            raise PolicyError(_CONTRADICTION)
        return there is not None

    def _sealed(self, bidx: bytes, row: Row) -> _Record:
        problem = _problem(row, row.key.patient)
        if problem or len(row.key.kid) != 16 or len(row.key.secret) != 32:
            raise PolicyError(f"a row of the crosswalk: {problem or 'its key is none'}")
        content = {"kind": row.kind, "original": row.original, "issuer": row.issuer, "more": dict(row.more)}
        plain = json.dumps(content, separators=(",", ":")).encode()
        plain = plain.ljust(-(-len(plain) // _PAD) * _PAD)
        if len(plain) > _LARGEST:
            raise PolicyError("a row of the crosswalk: it is too long")
        record = _Record(bidx, row.pseudonym, row.key.patient, row.key.kid, b"", b"")
        nonce = secrets.token_bytes(12)
        sealed = nonce + _cipher(row.key).encrypt(nonce, plain, record.associated())
        record = record._replace(sealed=sealed)
        return record._replace(tag=self._mac(record.associated() + sealed))

    # Looking up

    def index(self, kind: str, original: str, issuer: str) -> str:
        """Return the blind index of an original in hexadecimal, whether it is entered or not."""
        return self._index(kind, original, issuer).hex()

    def holds(self, pseudonym: str) -> bool:
        """Say whether there is a row for a pseudonym, which is no secret."""
        return _fit(pseudonym) and self._one("pseudonym", pseudonym) is not None

    def pseudonym_of(
        self,
        kind: str,
        original: str,
        issuer: str,
        *,
        open_key: Callable[[bytes, str], DataKey] | None = None,
        purpose: str = "",
    ) -> str | None:
        """Return the pseudonym of an original, or None; the index key is all it takes.

        Parameters
        ----------
        kind, original, issuer : str
            As in `Row`.
        open_key : callable, optional
            As for `original_of`: answer those only who open the row.
        purpose : str
            For the audit log.

        Raises
        ------
        VaultError
            If the row does not open, or was edited.
        """
        bidx = self._index(kind, original, issuer)
        record = found = None
        try:
            with self._guarded():
                found = self._one("bidx", bidx)
            if found and open_key:
                self._opened(found, open_key)
            record = found
        finally:
            known = (kind, record.pseudonym) if record else ("", "")
            self._note(Lookup(*known, bidx.hex(), purpose, 1 if record else 0))
        return record.pseudonym if record else None

    def original_of(self, pseudonym: str, open_key: Callable[[bytes, str], DataKey], *, purpose: str = "") -> Entry:
        """Return what stands behind a pseudonym.

        Parameters
        ----------
        pseudonym : str
            Of a patient or a UID.
        open_key : callable
            Takes the kid and the patient's pseudonym, and opens the key box. It raises `LookupError` or
            `FileNotFoundError` if there is none any more, and VaultError if it does not open.
        purpose : str
            For the audit log.

        Raises
        ------
        VaultError
            If there is no such row, its key is gone or another one, or the row was edited.
        """
        entry = record = None
        try:
            with self._guarded():
                record = self._one("pseudonym", pseudonym) if _fit(pseudonym) else None
            if record is None:
                raise VaultError("no row of the crosswalk has this pseudonym")
            entry = self._opened(record, open_key)
        finally:
            known = (record.pseudonym, record.bidx.hex()) if record else ("", "")
            self._note(Lookup(entry.kind if entry else "", *known, purpose, 1 if entry else 0))
        return entry

    def _note(self, lookup: Lookup) -> None:
        if self._on_lookup is not None:
            self._on_lookup(lookup)

    def _one(self, column: str, value: bytes | str) -> _Record | None:
        select = f"SELECT {_COLUMNS} FROM entry WHERE {column} = ?"  # noqa: S608 - our own names
        with self._guarded() as db:
            found = db.execute(select, (value,)).fetchone()
        if found is None:
            return None
        record = self._checked(found)
        if getattr(record, column) != value:
            # the tree leads to a row that is sound and another one
            raise VaultError(_DAMAGED)
        return record

    def _opened(self, record: _Record, open_key: Callable[[bytes, str], DataKey]) -> Entry:
        try:
            key = open_key(record.kid, record.patient)
        except (LookupError, FileNotFoundError):
            raise _KeyGone(_GONE) from None
        if (key.kid, key.patient) != (record.kid, record.patient):
            raise VaultError(_DAMAGED)
        try:
            plain = _cipher(key).decrypt(record.sealed[:12], record.sealed[12:], record.associated())
            content = json.loads(plain)
            kind, original, issuer = content["kind"], content["original"], content["issuer"]
            entry = Entry(kind, original, issuer, record.pseudonym, record.patient, content["more"])
            if self._index(kind, original, issuer) != record.bidx or not _only_text(entry.more):
                raise VaultError(_DAMAGED)
        except (InvalidTag, ValueError, TypeError, LookupError, AttributeError, RecursionError):
            raise VaultError(_DAMAGED) from None
        return entry

    # The whole file

    def count(self) -> int:
        """Return the number of rows."""
        with self._guarded() as db:
            self._require_whole()
            found: int = db.execute("SELECT count(*) FROM entry").fetchone()[0]
        return found

    def check(self) -> int:
        """Check the file, and the form and tag of every row; return the number of rows.

        Raises
        ------
        VaultError
        """
        with self._guarded():
            return sum(1 for _ in self._records("bidx"))

    def import_csv(self, path: str | os.PathLike[str], key_for: Callable[[str], DataKey]) -> list[str]:
        """Enter the lines of a CSV file in UTF-8 (RFC 4180); they are all read before the first is entered.

        The header begins with ``id_old,issuer,id_new``, as in a list of patients, or is that of `export_csv`.
        ``kind`` is ``patient`` if it is not given; UIDs need a column ``patient``. Other columns
        become `Row.more` unless they are empty.

        Parameters
        ----------
        path : path-like
        key_for : callable
            Gives a data key for the pseudonym of a patient; asked once for each that has a new row.

        Raises
        ------
        PolicyError
            With the line number; the message repeats no value. See also `add_many`.
        """
        return self.enter(list(_read(path)), key_for)

    def export_csv(
        self, path: str | os.PathLike[str], open_key: Callable[[bytes, str], DataKey], *, purpose: str = ""
    ) -> tuple[int, int]:
        """Write all rows to a new file of mode 0600: CSV in UTF-8 (RFC 4180).

        The columns are those of `import_csv`, which reads it. Cells that a spreadsheet would execute get
        an apostrophe in front, and so does one that has it already; the import takes it off again.

        Parameters
        ----------
        path : path-like
        open_key : callable
            See `original_of`.
        purpose : str
            For the audit log, which gets one line for all.

        Returns
        -------
        (int, int)
            Rows written, and rows left out because their key is gone.

        Raises
        ------
        PolicyError
            If there is a file of that name.
        VaultError
            If a row does not open.
        """
        target = Path(path).absolute()
        if os.path.lexists(target):
            raise PolicyError("the export would replace a file: name one that is not there")
        export = _Export(self, open_key, purpose)
        # one view for both passes, whatever is entered in between
        with self._transaction("DEFERRED"), Storage(target.parent, Durability.FILE, mode=0o600) as storage:
            storage.remove_leftovers()
            storage.write(target.name, Source.of(b""), [export])
        sync_folder(target.parent)
        return export.written, export.gone

    def _records(self, order: str) -> Iterator[_Record]:
        """Yield all rows; the tree is checked before, as a crafted one could be walked for ever."""
        self._require_whole()
        with self._guarded() as db:
            return map(self._checked, db.execute(f"SELECT {_COLUMNS} FROM entry ORDER BY {order}"))  # noqa: S608

    def _require_whole(self) -> None:
        with self._guarded() as db:
            if db.execute("PRAGMA integrity_check(1)").fetchall() != [("ok",)]:
                raise VaultError(_DAMAGED)

    def _checked(self, found: tuple[Any, ...]) -> _Record:
        record = _Record(*found)
        if list(map(type, record)) != [bytes, str, str, bytes, bytes, bytes]:
            raise VaultError(_DAMAGED)
        if not hmac.compare_digest(self._mac(record.associated() + record.sealed), record.tag):
            raise VaultError(_DAMAGED)
        return record

    def _index(self, kind: str, original: str, issuer: str) -> bytes:
        try:
            # as `Pseudonymizer` has it, so that what has one pseudonym has one index
            parts = [part.strip(" \0").encode("utf-8", "surrogateescape") for part in (kind, issuer, original)]
        except UnicodeEncodeError:
            raise PolicyError("an identifier is no text that a DICOM object could hold") from None
        return hmac.digest(self._index_key, b"".join(map(_prefixed, parts)), "sha256")[:16]

    def _mac(self, data: bytes) -> bytes:
        return hmac.digest(self._tag_key, data, "sha256")[:16]

    # The connection

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[sqlite3.Connection]:
        """Give the connection to one thread at a time."""
        with self._lock, _errors():
            if self._connection is None:
                self._connection = _connect(self._path, self._mac(b"index key"), self._durable)
            yield self._connection

    @contextlib.contextmanager
    def _transaction(self, kind: str = "IMMEDIATE") -> Iterator[sqlite3.Connection]:
        """Begin as a writer at once: what begins as a reader cannot always become one."""
        with self._guarded() as db:
            db.execute(f"BEGIN {kind}")
            try:
                yield db
                db.execute("COMMIT")
            finally:
                if db.in_transaction:
                    db.execute("ROLLBACK")

    def _before_fork(self) -> None:
        """Close the file: a child would believe in locks that its parent holds, and lose rows."""
        self._lock.acquire()
        if self._connection is not None and not self._connection.in_transaction:
            self.close()

    def _after_fork(self) -> None:
        self._lock.release()


class _KeyGone(VaultError):
    """The key box of a row is no longer there."""


class _Export(Stream):
    """The CSV file, made while it is written."""

    def __init__(self, crosswalk: Crosswalk, open_key: Callable[[bytes, str], DataKey], purpose: str) -> None:
        self._crosswalk, self._open_key, self._purpose = crosswalk, open_key, purpose
        self.written = self.gone = 0

    def chunks(self) -> Iterator[bytes]:
        columns = sorted({name for entry in self._entries() for name in entry.more})
        yield _line([*_CSV, *columns])
        for entry in self._entries():
            mapped = [entry.more.get(name, "") for name in columns]
            yield _line([entry.original, entry.issuer, entry.pseudonym, entry.kind, entry.patient, *mapped])
        # before the file gets its name: what the log does not know of is not given away
        self._crosswalk._note(Lookup("", "", "", self._purpose, self.written))

    def _entries(self) -> Iterator[Entry]:
        self.written = self.gone = 0
        opened: dict[tuple[bytes, str], DataKey] = {}

        def open_once(kid: bytes, patient: str) -> DataKey:
            if (kid, patient) not in opened:
                opened.clear()
                opened[kid, patient] = self._open_key(kid, patient)
            return opened[kid, patient]

        for record in self._crosswalk._records("patient, kid, bidx"):
            try:
                entry = self._crosswalk._opened(record, open_once)
            except _KeyGone:
                self.gone += 1
            else:
                self.written += 1
                yield entry


def _read(path: str | os.PathLike[str]) -> Iterator[Row]:
    """Yield the lines of a CSV file, with keys that have no secret yet."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            lines = csv.reader(file, strict=True)
            header = [_unguarded(name) for name in next(lines, [])]
            if tuple(header[:3]) != _CSV[:3] or len(set(header)) != len(header) or "" in header:
                raise PolicyError("the CSV file must begin with id_old,issuer,id_new, and name no column twice")
            for line in filter(None, lines):
                row = _row(dict(zip(header, map(_unguarded, line), strict=False)))
                problem = "it has not as many fields as the header" if len(line) != len(header) else ""
                problem = problem or _problem(row, row.key.patient)
                if problem:
                    raise PolicyError(f"CSV file, line {lines.line_num}: {problem}")
                yield row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        what = error.strerror if isinstance(error, OSError) else "it is not CSV in UTF-8"
        raise PolicyError(f"the CSV file cannot be read: {what}") from None


def _row(cells: dict[str, str]) -> Row:
    kind, pseudonym = cells.get("kind") or "patient", cells.get("id_new", "")
    patient = cells.get("patient") or ("" if kind == "uid" else pseudonym)
    more = {name: value for name, value in cells.items() if value and name not in _CSV}
    key = DataKey(b"", b"", patient)
    return Row(kind, cells.get("id_old", ""), cells.get("issuer", ""), pseudonym, key, more)


def _problem(row: Row, patient: str) -> str:
    """Say why something cannot be entered, without repeating it."""
    original = row.original.strip(" \0")
    if row.kind not in KINDS:
        return f"the kind must be one of {', '.join(KINDS)}"
    if not original:
        return "the original is empty; a patient without a Patient ID is entered as kind study, by Study Instance UID"
    if original == row.pseudonym:
        return "the pseudonym is the original identifier"
    if not _fit(row.pseudonym) or not _fit(patient):
        return "pseudonym and patient must be printable ASCII, 1 to 64 characters, without backslash"
    if row.kind != "uid" and patient != row.pseudonym:
        return "the key belongs to another patient"
    if not _only_text(row.more) or not {"", *_CSV}.isdisjoint(row.more):
        return "further columns must be text, and have names of their own"
    return ""


def _fit(pseudonym: str) -> bool:
    return 1 <= len(pseudonym) <= 64 and pseudonym.isascii() and pseudonym.isprintable() and "\\" not in pseudonym


def _only_text(more: Mapping[str, str]) -> bool:
    return all(isinstance(part, str) for item in more.items() for part in item)


def _line(cells: list[str]) -> bytes:
    out = io.StringIO()
    csv.writer(out).writerow(["'" + cell if cell.startswith(_FORMULA) else cell for cell in cells])
    # what was no text in an object is none here; it is shown, and the file stays one that all can read
    return out.getvalue().encode("utf-8", "backslashreplace")


def _unguarded(cell: str) -> str:
    return cell[1:] if cell.startswith("'") and cell[1:].startswith(_FORMULA) else cell


def _prefixed(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


def _expanded(key: bytes, label: bytes) -> bytes:
    return hmac.digest(key, b"dicomshield/v1/crosswalk/" + label + b"\1", "sha256")


def _cipher(key: DataKey) -> AESGCM:
    return AESGCM(_expanded(key.secret, b"row"))


@contextlib.contextmanager
def _errors() -> Iterator[None]:
    """Turn what SQLite raises into our own; its messages name no values."""
    try:
        yield
    except (sqlite3.Error, UnicodeDecodeError) as error:
        name = getattr(error, "sqlite_errorname", "")
        if name.startswith(_WITHOUT_WAL):
            raise PolicyError(_NO_WAL) from None
        if name.startswith(("SQLITE_FULL", "SQLITE_IOERR", "SQLITE_BUSY")):
            raise Quarantined(Reason.DISK, f"the crosswalk could not be written: {error}") from None
        raise VaultError(_DAMAGED) from None


def _create(path: Path, index_check: bytes) -> None:
    """Make an empty crosswalk under another name, and link it: nobody finds a half-made one."""
    temporary = path.with_name(f".crosswalk-{secrets.token_hex(8)}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _require_local(path.parent)
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            # SQLite gives its other files the mode of this one
            _fill(temporary, index_check)
            os.fsync(fd)
        finally:
            os.close(fd)
        with contextlib.suppress(FileExistsError):
            os.link(temporary, path)
        sync_folder(path.parent)
    except OSError as error:
        raise PolicyError(f"the crosswalk cannot be made: {error.strerror}") from None
    finally:
        for suffix in ("", "-wal", "-shm"):
            with contextlib.suppress(OSError):
                os.unlink(f"{temporary}{suffix}")


def _fill(path: Path, index_check: bytes) -> None:
    db = _plain(path)
    try:
        _require_wal(db)
        db.execute(f"PRAGMA application_id={_APPLICATION}")
        db.execute("PRAGMA user_version=1")
        db.execute("BEGIN")
        for statement in _SCHEMA:
            db.execute(statement)
        db.execute("INSERT INTO about VALUES (?)", (index_check,))
        db.execute("COMMIT")
    finally:
        db.close()


def _connect(path: Path, index_check: bytes, durable: bool) -> sqlite3.Connection:
    try:
        # not opened to be looked at: closing any descriptor of a file gives up SQLite's locks on it
        status = os.stat(path)
        _require_local(path.parent)
    except OSError as error:
        raise PolicyError(f"the crosswalk cannot be opened: {error.strerror}") from None
    if not stat.S_ISREG(status.st_mode):
        raise PolicyError("the crosswalk is not a regular file")
    if stat.S_IMODE(status.st_mode) & 0o077:
        raise PolicyError("others can read the crosswalk: run chmod 600 on it")
    db = _plain(path)
    try:
        _require_ours(db, index_check)
        _require_wal(db)
        db.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
    except BaseException:
        db.close()
        raise
    return db


def _plain(path: Path) -> sqlite3.Connection:
    """Open a database, which may be anybody's: its schema is not trusted, its values are bounded.

    See https://sqlite.org/security.html.
    """
    uri = f"file:{quote(os.fsencode(path))}?mode=rw"
    db = sqlite3.connect(uri, uri=True, timeout=_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 4 * _LARGEST)
        for pragma in ("trusted_schema=OFF", "cell_size_check=ON", "secure_delete=ON"):
            db.execute(f"PRAGMA {pragma}").fetchall()
    except BaseException:
        db.close()
        raise
    return db


def _require_ours(db: sqlite3.Connection, index_check: bytes) -> None:
    """Refuse what is not exactly a crosswalk of this project, before anything of it is run or changed."""
    marks = [db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")]
    schema = db.execute("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY rowid").fetchmany(9)
    if marks != [_APPLICATION, 1] or [sql for (sql,) in schema] != list(_SCHEMA):
        raise VaultError(_DAMAGED)
    if db.execute("SELECT index_check FROM about").fetchmany(2) != [(index_check,)]:
        raise VaultError(_DAMAGED)


def _require_wal(db: sqlite3.Connection) -> None:
    if db.execute("PRAGMA journal_mode=WAL").fetchone()[0] != "wal":
        raise PolicyError(_NO_WAL)


def _require_local(folder: Path) -> None:
    """Refuse network file systems: there, processes on two machines would each have a memory of their own.

    See https://sqlite.org/wal.html. Systems without ``/proc`` are trusted.
    """
    device = os.stat(folder).st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    with contextlib.suppress(FileNotFoundError):
        for line in _MOUNTS.read_text("utf-8", "surrogateescape").splitlines():
            place, _, kind = line.partition(" - ")
            if place.split()[2] == number and kind.split()[0].removeprefix("fuse.") in _REMOTE:
                raise PolicyError(_NO_WAL)


_forking: list[Crosswalk] = []
_fork_lock = threading.Lock()


def _before_fork() -> None:
    _fork_lock.acquire()
    _forking.extend(_LIVING)
    for one in _forking:
        one._before_fork()


def _after_fork() -> None:
    while _forking:
        _forking.pop()._after_fork()
    _fork_lock.release()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)
