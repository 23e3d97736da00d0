"""One object: the steps in order. What cannot be proved clean does not leave."""

from __future__ import annotations

import copy
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property, partial
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, NamedTuple

from ._version import __version__
from .encoding.container import Container, deflate, deflate_around
from .encoding.elements import PIXEL_TAGS, Element, Noted, Run, Scan, tag_name
from .encoding.pieces import Envelope, Piece, Range, joined
from .encoding.source import Source
from .encoding.write import element, file_meta, item
from .errors import Finding, MissingExtra, PolicyError, Quarantined, Reason
from .evidence import residual
from .evidence.report import Mask, Report
from .finders.burned_in import suspicion
from .identity.known import Spellings, known_spellings, uid_spellings
from .identity.project import Project
from .identity.pseudonym import Patient, PatientList, Pseudonymizer
from .opened import Header, Opened, opened, overlay_in_pixels, pixel_element
from .pixels.layout import Layout
from .pixels.masking import Masking, masked
from .pixels.region import compiled
from .profile import (
    BURNED_IN_ANNOTATION,
    LISTED_REFERENCES,
    LOSSY,
    PHOTOMETRIC,
    Action,
    ActionTable,
    Decision,
    Marks,
    Option,
    Profile,
)
from .rebuild import ENCAPSULATED_DOCUMENT, ENCLOSED, Enclose, Rebuilder, Rebuilt, as_it_is
from .standard import tables
from .storage import Durability, Outcome, Storage, object_name

if TYPE_CHECKING:
    from pydicom import Dataset

    from .finders.finder import Image
    from .finders.search import PixelSearch, Searched
    from .vault.encrypted_attributes import Encloser
    from .vault.entering import Original

__all__ = ["Deidentifier", "Result"]

_Bytes = bytes
_Readable = bytes | bytearray | memoryview | BinaryIO | str | os.PathLike[str]
_META: Final = 1 << 12
"""Bytes of an output that are searched beside its data set, if it has no File Meta Information."""
_SEARCH: Final = 1 << 22
_LONGEST: Final = 1 << 12
"""Bytes of the longest value that goes into a crosswalk."""
_OVERLAP: Final = 1 << 10
"""Bytes searched at once in a long run, and how far one search reaches into the next."""
_CLEAR: Final = 1 << 12
"""How many pieces are remembered as searched."""


class Result(NamedTuple):
    """A released object in memory, and its report."""

    data: bytes
    report: Report

    def write(self, out_folder: str | os.PathLike[str]) -> None:
        """Write the object to its place in a folder, as a whole or not at all.

        Raises
        ------
        Quarantined
            COLLISION if another object has its name already, DISK if it cannot be written.
        """
        with Storage(out_folder) as storage:
            storage.write(self.report.name, Source.of(b""), [self.data])


class Prepared(NamedTuple):
    """An object ready to be released: where ranges come from, all pieces of the file, and whom it was of."""

    source: Source
    pieces: list[Piece]
    report: Report
    original: Original | None

    @classmethod
    def of(
        cls, container: Container, meta: bytes, pieces: list[Piece], report: Report, original: Original | None
    ) -> Prepared:
        """Put File Meta Information and data set together, deflated if that is its transfer syntax."""
        if not container.deflated:
            return cls(container.source, [meta, *pieces], report, original)
        for at, piece in enumerate(pieces):
            if isinstance(piece, Envelope):
                before, after = (joined(container.source, part) for part in (pieces[:at], pieces[at + 1 :]))
                return cls(Source.of(b""), [meta, *deflate_around(before, piece, after)], report, original)
        return cls(Source.of(b""), [meta, deflate(joined(container.source, pieces))], report, original)

    def write(self, storage: Storage) -> Report:
        """Write it to its place.

        Raises
        ------
        Quarantined
            COLLISION, DISK or CHANGED; nothing is written then.
        """
        outcome = storage.write(self.report.name, self.source, self.pieces, self.report.patient)
        self.report.name = storage.named(self.report.name)
        self.report.outcome = "released" if outcome is Outcome.NEW else "unchanged"
        return self.report


class Deidentifier:
    """Makes DICOM objects safe to share by their headers and masks; the same object gives the same result everywhere.

    Parameters
    ----------
    profile : Profile, optional
        The Basic Profile if not given.
    project : path-like or Project
        Folder of the project secret; created on first use.
    patients : PatientList, optional
        Curated pseudonyms.
    verify_fully : bool
        Read each output again with pydicom and check it against the Types of its SOP class.
    durability : Durability
        When files are forced to the disk.
    encloser : Encloser, optional
        Put the original attributes, encrypted, into each object (PS3.15 E.1.1). Two runs then give the same objects
        but for these.
    keep_originals : bool
        Let prepared objects tell whom they were of, for a crosswalk.

    Raises
    ------
    PolicyError
        If the policy keeps Encrypted Attributes Sequences and there is an encloser.

    Notes
    -----
    Can be pickled and sent to other processes. The input is never changed.
    """

    def __init__(
        self,
        profile: Profile | None = None,
        *,
        project: str | os.PathLike[str] | Project,
        patients: PatientList | None = None,
        verify_fully: bool = False,
        durability: Durability = Durability.NONE,
        encloser: Encloser | None = None,
        keep_originals: bool = False,
    ) -> None:
        self.profile = profile or Profile.basic()
        if encloser is not None and ENCLOSED in self.profile.overrides:
            raise PolicyError("the policy has an override for (0400,0500), which is to hold the encrypted attributes")
        self.encloser, self.keep_originals = encloser, keep_originals
        self.project = project if isinstance(project, Project) else Project(project)
        self.pseudonymizer = Pseudonymizer(
            self.project.secret, self.profile.date_range, patients, only_listed=self.profile.only_listed
        )
        self.verify_fully = verify_fully
        self.durability = durability
        self._current: tuple[object, Rebuilder] | None = None
        self._search = _Search()

    def __call__(self, dataset: Dataset) -> Dataset:
        """De-identify a pydicom data set; its ``report`` attribute is the `Report`.

        Raises
        ------
        Quarantined
            If it may not be released.
        """
        import pydicom

        if not isinstance(dataset, pydicom.Dataset):
            raise TypeError("a pydicom Dataset is needed")
        buffer, own = BytesIO(), copy.copy(dataset)
        # pydicom completes the File Meta Information it writes, and this is not ours to change
        own.file_meta = copy.deepcopy(getattr(dataset, "file_meta", None)) or pydicom.dataset.FileMetaDataset()
        complete = "TransferSyntaxUID" in own.file_meta
        form = {"enforce_file_format": True} if complete else {"implicit_vr": False, "little_endian": True}
        try:
            pydicom.dcmwrite(buffer, own, **form)
        except Exception as error:
            # pydicom's message may quote values
            raise Quarantined(
                Reason.MALFORMED, f"pydicom cannot write this data set ({type(error).__name__})"
            ) from None
        result = self.bytes(buffer.getvalue())
        clean = pydicom.dcmread(BytesIO(result.data))
        clean.report = result.report
        return clean

    def bytes(self, data: _Readable) -> Result:
        """De-identify an object given as bytes, as an open binary file, or by a path or fsspec URL.

        Raises
        ------
        Quarantined
            If it may not be released.
        """
        source = Source.of(_read(data))
        clean = self.prepare(source)
        return Result(joined(clean.source, clean.pieces), clean.report)

    def file(self, source: str | os.PathLike[str], out_folder: str | os.PathLike[str]) -> Report:
        """De-identify a file into ``out_folder/patient/study/series/instance.dcm``.

        Raises
        ------
        Quarantined
            If it may not be released; nothing is written then.
        """
        with Storage(out_folder, self.durability) as storage:
            return self.release(source, storage)

    def folder(
        self, in_folder: str | os.PathLike[str], out_folder: str | os.PathLike[str], *, workers: int = 1
    ) -> Iterator[Report]:
        """De-identify every file of a folder; objects held back are reported, never raised.

        Raises
        ------
        PolicyError
            If the folders lie within each other or do not exist.
        """
        from .bulk.folder import Run

        with Run(self, Path(in_folder), Path(out_folder), workers=workers) as run:
            for done in run:
                yield done.report

    def release(self, path: str | os.PathLike[str], storage: Storage, report: Report | None = None) -> Report:
        """De-identify one file into a storage."""
        with Source.open(path) as source:
            return self.prepare(source, report).write(storage)

    def prepare(self, source: Source, report: Report | None = None) -> Prepared:
        """Take all steps up to the bytes that may leave, and fill in ``report`` as far as the work comes.

        Raises
        ------
        Quarantined
            If it may not be released.
        """
        report = Report("") if report is None else report
        report.profile = self.profile.digest
        container, scan, header = found = self._open(source)
        report.transfer_syntax = container.transfer_syntax
        sop_class = _uid(header, _SOP_CLASS)
        self._accept(header, sop_class, report)
        patient = self._patient(header)
        pixels, no_text = self._pixels(found, patient, report)
        marks = _pixel_marks(self.profile, container.transfer_syntax, header, pixels, no_text)
        done = self._markers(container.explicit, marks)
        rebuilder = self._rebuilder(header, patient, container.explicit, marks)
        report.patient = patient.pseudonym
        report.study, report.series, report.instance = (
            self._new_uid(rebuilder.table, tag, header[tag]) for tag in (_STUDY, _SERIES, _INSTANCE)
        )
        rebuilt = rebuilder.rebuild(
            container, scan, insert=done.elements, codes=done.codes, pixel_length=_pixel_length(scan, header),
            pixels=pixels.stream, enclose=self._enclose(container, header, report.instance),
        )  # fmt: skip
        report.parts = tuple(outcome.changes for outcome in rebuilt.outcomes)
        report.dropped = rebuilt.dropped + sum(outcome.dropped for outcome in rebuilt.outcomes)
        report.claims = done.claims
        report.name = object_name(report.patient, report.study, report.series, report.instance)
        meta = file_meta(sop_class.encode(), report.instance.encode(), container.transfer_syntax)
        self._search(container.source, rebuilt, report.name)
        original = self._original(container, scan, header) if self.keep_originals else None
        clean = Prepared.of(container, meta, rebuilt.pieces, report, original)
        report.outcome, report.checks = "released", ("residual",)
        if self.verify_fully:
            from .evidence.verify import check

            check(joined(clean.source, clean.pieces), report)
            report.checks = ("residual", "full")
        return clean

    def _open(self, source: Source) -> Opened:
        return opened(source, self.profile.scanner, self.profile.facts)

    def plan(self, path: str | os.PathLike[str]) -> Iterator[tuple[tuple[int, ...], Decision]]:
        """Yield what would be done with each attribute of a file that a rule names, and why.

        Raises
        ------
        Quarantined
            If the file cannot be read.
        """
        with Source.open(path) as source:
            _, scan, header = self._open(source)
        element, (names, _) = pixel_element(scan), self.profile.masks_of(header)
        if self.profile.searches_pixels:
            names = "what looks for text"
        masked = element is not None and bool(names)
        yield from _planned(self._table(header, Marks((), masked=True) if masked else None), scan.elements, ())
        if element is not None and masked:
            yield (element.tag,), Decision(Action.MASK, Action.MASK, f"masked by {names}")

    def verify(self, original: str | os.PathLike[str], output: str | os.PathLike[str]) -> list[Finding]:
        """Search an output, whatever made it, for values that this profile takes out of the original.

        Raises
        ------
        Quarantined
            If one of them cannot be read.
        """
        with Source.open(original) as source:
            container, scan, header = self._open(source)
            rebuilder = self._rebuilder(header, self._patient(header), container.explicit)
            spelled, uids = _known(rebuilder.rebuild(container, scan))
        with Source.open(output) as source:
            container, scan, _ = self._open(source)
            meta = source.window(0, container.start or _META)
            pieces, pixels = as_it_is(container, scan)
            return _found(container.source, [meta, *pieces], pixels, spelled.also(_spelled(uids).plain), {})

    def _patient(self, header: Header) -> Patient:
        patient_id, issuer = (_text(header.get(tag, b"")) for tag in (0x00100020, 0x00100021))
        issuer = "" if self.profile.ignore_issuer else issuer
        return self.pseudonymizer.patient(patient_id, issuer, _uid(header, _STUDY))

    def _original(self, container: Container, scan: Scan, header: Header) -> Original:
        """Return whom an object is of, for a crosswalk."""
        from .vault.entering import ATTRIBUTES, Original

        patient_id, issuer = (_text(header.get(tag, b"")) for tag in (0x00100020, 0x00100021))
        issuer = "" if self.profile.ignore_issuer else self.pseudonymizer.issuer_of(patient_id, issuer)
        values = {tag: value for tag, value in header.items() if tag in ATTRIBUTES}
        return Original(patient_id, issuer, _values(container.source, scan, ATTRIBUTES) | values)

    def _enclose(self, container: Container, header: Header, instance: str) -> Enclose | None:
        """Return what makes the Encrypted Attributes Sequence of an object, if there is to be one."""
        if self.encloser is None:
            return None
        always = {tag: header[tag] for tag in (0x00080005, _INSTANCE) if tag in header}
        return partial(self.encloser.enclose, instance, always, container.explicit)

    def _accept(self, header: Header, sop_class: str, report: Report) -> None:
        """Hold back what is incomplete, or of a SOP class that the profile does not accept."""
        for tag in (_SOP_CLASS, _INSTANCE, _STUDY, _SERIES):
            if not _uid(header, tag):
                raise Quarantined(Reason.INCOMPLETE, f"{tag_name(tag)} is missing or empty")
        if sop_class in tables.registered_uids():
            report.sop_class = sop_class
        if not self.profile.accepts(sop_class):
            raise Quarantined(Reason.SOP_CLASS, tables.sop_classes().get(sop_class, "unknown, retired or private"))
        last = tables.last_attributes().get(sop_class)
        if last and last not in header and not (last in PIXEL_TAGS and PIXEL_TAGS & header.keys()):
            raise Quarantined(Reason.INCOMPLETE, f"{tag_name(last)} is missing; the object may have been cut off")
        if ENCAPSULATED_DOCUMENT in header and _text(header.get(0x00420012, b"")) != "application/pdf":
            raise Quarantined(Reason.DOCUMENT)

    def _pixels(self, opened: Opened, patient: Patient, report: Report) -> tuple[Masking, bool]:
        """Decide what is done with the pixels, and whether it may be said that no text is left.

        Raises
        ------
        Quarantined
            If the pixels may carry text that no mask covers.
        """
        container, scan, header = opened
        element = pixel_element(scan)
        if element is None:
            report.pixels = "none"
            return Masking(None), False
        names, shapes = self.profile.masks_of(header)
        why = suspicion(header, _uid(header, _SOP_CLASS))
        overlay, searched = overlay_in_pixels(header), None
        if self._finders is not None:
            image = self._image(opened, element, patient)
            searched = self._finders(image)
            overlay = overlay or searched.overlay
            names, shapes = ", ".join(searched.finders), searched.shapes
            report.findings = searched.findings
        elif why and not shapes and not self.profile.trust_pixels:
            raise Quarantined(Reason.BURNED_IN, why)
        pixels = masked(container.source, element, header, container.transfer_syntax, shapes, overlay=overlay)
        report.pixels = _done(pixels, names, searched, why)
        if pixels.touched:
            layout = Layout.of(header)
            plans = compiled(shapes, layout.rows, layout.columns, layout.frames)
            report.mask = Mask.of(plans, layout.rows, layout.columns, searched.finders if searched else [names])
        return pixels, searched.covers if searched else pixels.complete

    @cached_property
    def _finders(self) -> PixelSearch | None:
        """What looks for text in pixels, if the profile asks for it."""
        if not self.profile.searches_pixels:
            return None
        from .finders.search import PixelSearch

        return PixelSearch(self.profile)

    def _image(self, opened: Opened, element: Element, patient: Patient) -> Image:
        """Return an image as finders see it, with what they are to recognize of the patient."""
        from .finders.finder import Image
        from .finders.text.harmless import own_values

        container, scan, header = opened
        rebuilt = self._rebuilder(header, patient, container.explicit).rebuild(container, scan)
        spelled, _ = _known(rebuilt)
        harvests = tuple([outcome.harvest for outcome in rebuilt.outcomes if outcome.harvest])
        return Image.of(opened, element, spelled, own_values(harvests))

    def _table(self, header: Header, marks: Marks | None = None) -> ActionTable:
        lists_references = LISTED_REFERENCES in header
        return self.profile.table(_uid(header, _SOP_CLASS), lists_references=lists_references, marks=marks)

    def _rebuilder(self, header: Header, patient: Patient, explicit: bool, marks: Marks | None = None) -> Rebuilder:
        """Return the rebuilder of the series at hand, which remembers what the objects share."""
        table, charset = self._table(header, marks), header.get(0x00080005, b"")
        key = (table, patient, charset, explicit)
        current = self._current
        if current is None or current[0] != key:
            # other threads may be at another series: nobody changes what somebody else holds
            self._current = current = key, Rebuilder(table, patient, self.pseudonymizer, charset)
        return current[1]

    def _new_uid(self, table: ActionTable, tag: int, raw: _Bytes) -> str:
        action = table.decide(tag, b"UI").action
        new = self.pseudonymizer.uid(raw) if action is Action.UID else raw
        text = _text(new)
        if not _IS_UID.fullmatch(text) or action not in (Action.UID, Action.KEEP):
            raise Quarantined(Reason.INCOMPLETE, f"no valid {tag_name(tag)} would be left")
        return text

    def _markers(self, explicit: bool, marks: Marks | None) -> _Markers:
        """Return what the output says was done."""
        if (explicit, marks) not in self._known_markers:
            self._known_markers[explicit, marks] = _markers_of(self.profile, explicit, marks)
        return self._known_markers[explicit, marks]

    @cached_property
    def _known_markers(self) -> dict[tuple[bool, Marks | None], _Markers]:
        return {}

    def __getstate__(self) -> dict[str, object]:
        state = {**self.__dict__, "_current": None, "_search": _Search()}
        state.pop("_known_markers", None)
        return state


class _Markers(NamedTuple):
    """What an output says was done.

    ``claims`` are codes of CID 7050, ``codes`` their encoded items, ``elements`` the other elements by tag.
    """

    claims: tuple[str, ...]
    codes: bytes
    elements: list[tuple[int, bytes]]


_SOP_CLASS, _INSTANCE, _STUDY, _SERIES = 0x00080016, 0x00080018, 0x0020000D, 0x0020000E
_IS_UID: Final = re.compile(r"[0-9][0-9.]{0,63}")


_JPEG: Final = "1.2.840.10008.1.2.4."
_LOSSY_SYNTAXES: Final = frozenset(f"{_JPEG}{end}" for end in (50, 51, 81))
"""JPEG Baseline and Extended, JPEG-LS Near-Lossless: lossy whatever the object says of itself."""
_JPEG_2000: Final = frozenset(f"{_JPEG}{end}" for end in (90, 91, 201, 202, 203))


def _done(pixels: Masking, names: str, searched: Searched | None, why: str | None) -> str:
    """Say in a report what was done with the pixels."""
    done = f"masked by {names}, {pixels.touched} of {pixels.frames} frames" if pixels.touched else "kept"
    if searched is not None:
        return f"{done}; {searched.note}"
    return f"{done}, trusted by policy: {why}" if why and not pixels.touched else done


def _pixel_marks(profile: Profile, syntax: str, header: Header, pixels: Masking, no_text: bool) -> Marks | None:
    """Return what an object says of its pixels (PS3.15 E.3.1, PS3.3 C.7.6.1.1.5); ``None`` if nothing was done."""
    elements = []
    if pixels.complete and syntax in _JPEG_2000 and _text(header.get(PHOTOMETRIC, b"")) == "YBR_ICT":
        # every frame was encoded again, reversibly: PS3.5 8.2.4
        elements.append((PHOTOMETRIC, b"CS", b"YBR_RCT"))
    if no_text and profile.conforms:
        elements.append((BURNED_IN_ANNOTATION, b"CS", b"NO"))
    if pixels.touched and syntax in _LOSSY_SYNTAXES:
        elements.append((LOSSY, b"CS", b"01"))
    return Marks(tuple(elements), pixels.touched > 0) if elements or pixels.touched else None


def _markers_of(profile: Profile, explicit: bool, marks: Marks | None) -> _Markers:
    """Build what an output says was done (PS3.15 E.1.1, E.2, E.3.1, E.3.6)."""
    claimed = {option.name for option in profile.options - {Option.CLEAN_PIXEL_DATA}}
    if marks and BURNED_IN_ANNOTATION in marks.tags:
        claimed.add(Option.CLEAN_PIXEL_DATA.name)
    names = ["BASIC_PROFILE", *sorted(claimed)] if profile.conforms else []
    codes = [tables.method_codes()[name] for name in names]
    items = b"".join(
        item(
            element(0x00080100, b"SH", value.encode(), explicit=explicit)
            + element(0x00080102, b"SH", b"DCM", explicit=explicit)
            + element(0x00080104, b"LO", meaning.encode(), explicit=explicit)
        )
        for value, meaning in codes
    )
    dates = {Option.RETAIN_FULL_DATES: b"UNMODIFIED", Option.RETAIN_MODIFIED_DATES: b"MODIFIED"}
    temporal = next((word for option, word in dates.items() if option in profile.options), b"REMOVED")
    basis = f"PS3.15 {tables.EDITION}" if profile.conforms else "policy of this site"
    texts = [
        (0x00120062, b"CS", b"YES"),
        (0x00120063, b"LO", f"dicomshield {__version__}, {basis}".encode()),
        (0x00280303, b"CS", temporal),
    ]
    texts += marks.elements if marks else ()
    elements = [(tag, element(tag, vr, value, explicit=explicit)) for tag, vr, value in sorted(texts)]
    return _Markers(tuple(value for value, _ in codes), items, elements)


def _pixel_length(scan: Scan, header: Header) -> int | None:
    """Return the bytes of native Pixel Data that are frames; hold back what the header does not explain."""
    pixels = pixel_element(scan)
    if pixels is None or not pixels.defined:
        return None
    found = pixels.end - pixels.value
    expected = Layout.read(header).native_length(found)
    if found < expected:
        raise Quarantined(Reason.TRUNCATED, "Pixel Data are shorter than the header says")
    if found > 2 * expected + 1:
        raise Quarantined(Reason.MALFORMED, "Pixel Data hold more than the header says")
    return expected


def _known(rebuilt: Rebuilt) -> tuple[Spellings, frozenset[bytes]]:
    """Return the spellings of all values that the rewrite took out, and the values that are UIDs."""
    outcomes = rebuilt.outcomes
    spelled = known_spellings(tuple([outcome.harvest for outcome in outcomes if outcome.harvest]))
    return spelled, frozenset(chain.from_iterable([outcome.uids for outcome in outcomes]))


def _spelled(uids: frozenset[bytes]) -> Spellings:
    return Spellings(tuple(chain.from_iterable([uid_spellings(uid) for uid in uids])))


def _found(
    source: Source, pieces: list[Piece], pixels: Range | None, known: Spellings, written: Mapping[bytes, int]
) -> list[Finding]:
    """Search all pieces but the pixel data."""
    findings = residual.search(
        b"".join([piece for piece in pieces if isinstance(piece, bytes)]), known, written=written
    )
    for piece in pieces:
        if isinstance(piece, Range) and piece != pixels:
            for at in range(piece.start, piece.end, _SEARCH):
                findings += residual.search(source.window(at, min(_SEARCH + _OVERLAP, piece.end - at)), known)
    return findings


class _Search:
    """The residual check of a series: bytes that were searched for the same spellings are not searched again."""

    def __init__(self) -> None:
        self._state: tuple[Spellings | None, frozenset[bytes], set[bytes]] = None, frozenset(), set()

    def __call__(self, source: Source, rebuilt: Rebuilt, name: str) -> None:
        """Search all that goes out, its name too, for values of the patient.

        Raises
        ------
        Quarantined
            RESIDUAL, with the kinds of values that would have gone out.
        """
        spelled, uids = _known(rebuilt)
        searched_for, searched_uids, clear = self._state
        if spelled is not searched_for or len(clear) > _CLEAR:
            # one tuple: in another thread, what was searched must not be paired with other spellings
            searched_uids, clear = uids, set()
            self._state = spelled, uids, clear
        # in what is encrypted, the shortest values would be found by chance
        pieces = [name.encode() + b"\n", *(one for one in rebuilt.pieces if not isinstance(one, Envelope))]
        every = [piece for piece in pieces if isinstance(piece, bytes)]
        fresh = [piece for piece in every if piece not in clear]
        unsearched = b"".join(fresh)
        # fresh bytes face every UID of the series, also those this object lacks: they will count as clear for all
        of_the_series = residual.suspects(unsearched, _spelled(searched_uids))
        suspected = (
            of_the_series
            or residual.suspects(unsearched, spelled)
            or residual.suspects(b"".join(every), _spelled(uids - searched_uids))
        )
        if suspected or any([isinstance(piece, Range) and piece != rebuilt.pixels for piece in pieces]):
            written = Counter(chain.from_iterable([outcome.dates for outcome in rebuilt.outcomes]))
            findings = _found(source, pieces, rebuilt.pixels, spelled.also(_spelled(uids).plain), written)
            if findings:
                kinds = ", ".join(sorted({finding.kind for finding in findings}))
                raise Quarantined(Reason.RESIDUAL, f"found by kind: {kinds}", tuple(findings))
        if not of_the_series:
            clear.update(fresh)


def _planned(
    table: ActionTable, elements: Iterable[Noted], path: tuple[int, ...]
) -> Iterator[tuple[tuple[int, ...], Decision]]:
    for noted in elements:
        if isinstance(noted, Run):
            yield from _planned(table, noted.stretch.elements, path)
        elif isinstance(noted, Element) and not noted.tag >> 16 & 1:
            decision = table.decide(noted.tag, noted.vr, path[-1] if path else 0)
            inside = (*path, noted.tag)
            if decision.action is not Action.KEEP:
                yield inside, decision
            else:
                for one in noted.items or ():
                    yield from _planned(table, one.elements, inside)


def _values(source: Source, scan: Scan, tags: frozenset[int]) -> dict[int, bytes]:
    """Return values of noted attributes of the top level, also those that are no facts."""
    values: dict[int, bytes] = {}
    for noted in scan.elements:
        if isinstance(noted, Run):
            raw = noted.stretch.raw
            inside = [one for one in noted.stretch.elements if isinstance(one, Element) and one.tag in tags]
            values |= {one.tag: raw[one.value : one.end] for one in inside}
        elif isinstance(noted, Element) and noted.tag in tags and noted.end - noted.value <= _LONGEST:
            values[noted.tag] = source.slice(noted.value, noted.end)
    return values


def _text(value: bytes) -> str:
    return value.decode("latin-1").strip(" \0")


def _uid(header: Header, tag: int) -> str:
    return _text(header.get(tag, b""))


def _read(data: _Readable) -> bytes:
    if isinstance(data, bytes | bytearray | memoryview):
        return bytes(data)
    if not isinstance(data, str | os.PathLike):
        content = data.read() if hasattr(data, "read") else None
        if not isinstance(content, bytes):
            raise TypeError("bytes, an open binary file, a path or a URL is needed")
        return content
    if "://" in os.fspath(data):
        try:
            import fsspec
        except ImportError:
            raise MissingExtra("distributed") from None
        with fsspec.open(os.fspath(data), "rb") as file:
            return bytes(file.read())
    with Source.open(data) as source:
        return source.slice(0, source.size)
