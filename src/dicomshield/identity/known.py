"""What an object itself tells of its patient, and the spellings under which it must not be found again.

Harvested from the original, only in memory, and only from attributes that the profile takes away: names of
everyone, identifiers, dates, contacts, institutions, UIDs.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from datetime import date
from functools import lru_cache
from itertools import chain, permutations
from types import MappingProxyType
from typing import Any, Final, NamedTuple, TypeVar

from ..encoding.text import codecs_of, decodings
from ..standard import tables

__all__ = [
    "KIND_OF",
    "Harvest",
    "Known",
    "Needle",
    "Shared",
    "Spellings",
    "divided",
    "kind_of",
    "known_spellings",
    "lowered",
    "needles",
    "shared",
    "uid_spellings",
    "undivided",
]

_SHARED: Final = 1 << 14


class Needle(NamedTuple):
    """A spelling to look for: lower-case bytes without NULs.

    Attributes
    ----------
    text : bytes
    kind : str
        As in `errors.Finding`.
    edges : bytes
        ``b""`` if it counts wherever it stands; ``b"9"`` if a digit next to it makes it another number;
        ``b"a"`` if a letter before it, or two behind it, make it part of another word.
    """

    text: bytes
    kind: str
    edges: bytes = b""


Known = tuple[tuple[bytes, tuple[Needle, ...]], ...]
"""Spellings in groups: where the bytes that a group shares are absent, none of it can be there."""


class Harvest(NamedTuple):
    """A value of the original that goes: its kind, the bytes, and the character set in force."""

    kind: str
    raw: bytes
    charset: bytes


_T = TypeVar("_T")


class Shared(tuple[_T, ...]):
    """A tuple of which equal ones are the same object, so that a cache knows it by identity, at once."""

    __slots__ = ()
    __hash__ = object.__hash__
    __eq__ = object.__eq__


_one_of_each: dict[tuple[Any, ...], Shared[Any]] = {}


def shared(values: Iterable[_T]) -> Shared[_T]:
    """Return the one `Shared` of these values."""
    key = tuple(values)
    found = _one_of_each.get(key)
    if found is None:
        if len(_one_of_each) > _SHARED:
            _one_of_each.clear()
        found = _one_of_each[key] = Shared(key)
    return found


class Spellings(NamedTuple):
    """What to look for in bytes as they are, and in the same without the signs that divide long numbers."""

    plain: Known = ()
    undivided: Known = ()

    def also(self, more: Known) -> Spellings:
        """Return these and more plain ones."""
        return Spellings(self.plain + more, self.undivided)


@lru_cache(maxsize=256)
def known_spellings(harvests: tuple[Shared[Harvest], ...]) -> Spellings:
    """Return all spellings of the values harvested from one object; a series shares them."""
    plain: dict[bytes, dict[Needle, None]] = {}
    undivided: dict[bytes, dict[Needle, None]] = {}
    for value in dict.fromkeys(chain.from_iterable(harvests)):
        for common, needle in _with_shared_bytes(*value):
            plain.setdefault(common, {})[needle] = None
            if needle.kind in ("identifier", "contact") and len(needle.text) >= _LONG_NUMBER and needle.text.isalnum():
                undivided.setdefault(needle.text, {})[needle] = None
    return Spellings(
        *(tuple((common, tuple(group)) for common, group in found.items()) for found in (plain, undivided))
    )


@lru_cache(maxsize=4096)
def uid_spellings(raw: bytes) -> Known:
    """Return the UIDs of one value that must not be found again; registered ones may."""
    found = []
    for part in raw.split(b"\\"):
        text = part.strip(b" \0")
        if len(text) > 8 and text.decode("latin-1") not in tables.registered_uids():
            found.append((text.lower(), (Needle(text.lower(), "uid", b"" if len(text) > 20 else b"9"),)))
    return tuple(found)


@lru_cache(maxsize=4096)
def _with_shared_bytes(kind: str, raw: bytes, charset: bytes) -> list[tuple[bytes, Needle]]:
    return [(_shared_bytes(needle), needle) for needle in needles(kind, raw, charset)]


def _shared_bytes(needle: Needle) -> bytes:
    """Return bytes that stand in a spelling and in many others of its value: the year, for a date."""
    if needle.kind != "date":
        return needle.text
    year = re.search(rb"\d{4}", needle.text)
    return year[0] if year else needle.text


def _kinds() -> dict[int, str]:
    named = {
        "identifier": """PatientID OtherPatientIDs AccessionNumber StudyID AdmissionID ServiceEpisodeID
            RequestedProcedureID ScheduledProcedureStepID PerformedProcedureStepID MedicalRecordLocator
            PlacerOrderNumberImagingServiceRequest FillerOrderNumberImagingServiceRequest MilitaryRank
            InsurancePlanIdentification ContainerIdentifier SpecimenIdentifier ClinicalTrialSubjectID
            ClinicalTrialSubjectReadingID DeviceSerialNumber PlateID DetectorID GantryID CassetteID
            GeneratorID LabelText BarcodeValue StructureSetLabel RTPlanLabel UniqueDeviceIdentifier""",
        "contact": """PatientAddress PatientTelephoneNumbers PatientTelecomInformation InstitutionAddress
            ReferringPhysicianAddress ReferringPhysicianTelephoneNumbers PersonAddress PersonTelephoneNumbers
            PersonTelecomInformation""",
        "institution": """InstitutionName InstitutionalDepartmentName StationName IssuerOfPatientID
            RequestingService CurrentPatientLocation ScheduledStationName PerformedStationName
            ClinicalTrialSiteName StationAETitle RetrieveAETitle ScheduledStationAETitle
            PerformedStationAETitle SourceOfPreviousValues ModifyingSystem""",
        "date": "PatientBirthDate StudyDate SeriesDate AcquisitionDate ContentDate AcquisitionDateTime",
    }
    keywords = tables.keywords()
    return {keywords[word]: kind for kind, words in named.items() for word in words.split() if word in keywords}


KIND_OF: Final = MappingProxyType(_kinds())
"""Tags whose values are looked for, beside everything of VR PN and every UID that is replaced."""

_SHORTEST_WORD: Final = 4
_SHORTEST_NUMBER: Final = 5
_LONG_NUMBER: Final = 7
"""Characters of an identifier that people divide, as in 748-39-201."""
_HOSPITAL_WORDS: Final = frozenset(
    "hospital hospitals klinik kliniken klinikum krankenhaus hopital hôpital clinic clinics clinica clinico clinique "
    "center centre centro zentrum medical medicine medizin memorial regional general university universität "
    "universitaet universitair universitario universitaire institute institut instituto radiology radiologie "
    "radiologia radiologico imaging diagnostic diagnostics diagnostico department dept abteilung health healthcare "
    "saint sankt santa north south east west central national county city community children childrens cancer heart "
    "foundation system systems service services care group practice ward room unit school college research hosp "
    "main campus mobile outpatient inpatient emergency veterans".split()
)
_MAKERS: Final = frozenset(
    "siemens philips toshiba canon hitachi fujifilm fuji agfa carestream kodak hologic samsung mindray esaote acuson "
    "elscint picker marconi varian elekta konica minolta shimadzu bruker hamamatsu leica olympus topcon zeiss "
    "heidelberg nidek medison aloka healthcare healthineers".split()
)
_IMAGING_WORDS: Final = frozenset(
    "original derived primary secondary axial sagittal coronal oblique localizer localiser scout topogram perfusion "
    "diffusion angio angiography projection volume average maximum minimum mosaic subtraction jpeg lossless lossy "
    "baseline progressive head neck chest abdomen pelvis spine brain breast extremity shoulder knee hand foot ankle "
    "wrist elbow hip skull sinus orbit liver kidney thorax lung aorta carotid cardiac whole body left right supine "
    "prone helical spiral sequence contrast enhanced routine screening standard protocol research trial demo "
    "sample".split()
)


@lru_cache(maxsize=1)
def _vocabulary() -> frozenset[str]:
    """Words of the standard's own names, of hospitals and makers: alone they identify nobody."""
    words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+", " ".join(tables.keywords()))
    other = "anonymous anonymized anonymised anonym phantom test patient unknown none null name removed dummy"
    return frozenset(
        {word.lower() for word in set(words)} | set(other.split()) | _HOSPITAL_WORDS | _MAKERS | _IMAGING_WORDS
    )


def kind_of(tag: int, vr: bytes) -> str | None:
    """Say what kind of value an attribute holds, ``None`` if its values are not looked for."""
    if vr == b"PN":
        return "name"
    if vr == b"UI":
        return "uid"
    return KIND_OF.get(tag)


def needles(kind: str, raw: bytes, charset: bytes) -> tuple[Needle, ...]:
    """Return the spellings of one harvested value other than a UID.

    Parameters
    ----------
    kind : str
        As from `kind_of`.
    raw : bytes
        The value as encoded, all of it.
    charset : bytes
        Specific Character Set (0008,0005) in force.
    """
    found: dict[bytes, Needle] = {}
    for value in _split(raw):
        for text in decodings(value, charset):
            for needle in _SPELLINGS[kind](text.strip(" \0")):
                for encoded in _encodings(needle.text.decode("utf-8"), charset):
                    found[encoded] = needle._replace(text=encoded)
        if kind == "name" and not (value.isascii() and b"\x1b" not in value):
            # the very bytes, whatever character set they are in
            for part in re.split(rb"[\^= ]+", value):
                plain = lowered(part)
                if (len(plain) >= _SHORTEST_WORD and not plain.isascii()) or len(plain) > 7:
                    found[plain] = Needle(plain, kind)
    return tuple(found.values())


_LOWER: Final = bytes(range(256)).lower()


def lowered(data: bytes) -> bytes:
    """Write ASCII letters small and leave NULs out, so that UTF-16 of ASCII reads like ASCII."""
    return data.translate(_LOWER, b"\0")


def undivided(hay: bytes) -> bytes:
    """Leave out the signs that divide numbers."""
    return hay.translate(None, b"-/._ ()+")


@lru_cache(maxsize=1024)
def divided(text: bytes) -> re.Pattern[bytes]:
    """Match an identifier with or without such signs, but not as a part of a longer number."""
    signs = rb"[-/._ ()+]{0,2}"
    return re.compile(rb"(?<!\d)" + signs.join(re.escape(bytes((byte,))) for byte in text) + rb"(?!\d)")


def _split(raw: bytes) -> list[bytes]:
    # a backslash byte can be half of a character in some sets, so the whole is looked for as well
    parts = raw.split(b"\\")
    return parts if len(parts) == 1 else [*parts, raw]


def _name_spellings(text: str) -> Iterable[Needle]:
    for group in text.split("="):
        parts = [part.strip() for part in re.split(r"[\^,\s]+", group) if part.strip(" .-'")]
        for part in parts:
            for word in _variants(part):
                if _distinctive(word):
                    yield _word(word, "name")
        folded = [part.casefold() for part in parts if len(part) > 1 or not part.isascii()]
        for pair in permutations(folded[:4], 2):
            # a distinctive word is found alone
            ascii_pair = "".join(pair).isascii()
            if (len("".join(pair)) >= 5 or not ascii_pair) and not any(map(_distinctive, pair)):
                for joint in ("^", " ", ", ", ",", "_", "-", ".", *(() if ascii_pair else ("",))):
                    yield Needle(joint.join(pair).encode(), "name", b"a" if ascii_pair else b"")


_SPELLED_OUT: Final = str.maketrans(
    {"ä": "ae", "ö": "oe", "ü": "ue", "ß": "ss", "å": "aa", "æ": "ae", "ø": "oe", "œ": "oe"}
)
_WITHOUT_MARK: Final = str.maketrans(
    {"ø": "o", "æ": "ae", "œ": "oe", "ı": "i", "ł": "l", "đ": "d", "ð": "d", "þ": "th"}
)
"""Letters that Unicode does not take apart."""


def _variants(word: str) -> set[str]:
    """Return spellings of one word of a name: without marks, apostrophes and hyphens."""
    folded = word.casefold().strip(".-'")
    forms = {folded, word.lower().strip(".-'"), folded.replace("'", "").replace("’", "").replace("`", "")}
    forms |= {part for part in re.split(r"['’`-]", folded) if part}
    for form in list(forms):
        plain = "".join(letter for letter in unicodedata.normalize("NFKD", form) if not unicodedata.combining(letter))
        forms |= {plain, unicodedata.normalize("NFC", form), unicodedata.normalize("NFD", form)}
        forms |= {form.translate(_SPELLED_OUT), plain.translate(_WITHOUT_MARK)}
    if not word.isascii():
        # only ASCII letters are compared without their case
        forms |= {word, word.upper(), word.title(), folded.upper(), folded.title()}
    return forms


def _distinctive(word: str) -> bool:
    if not word.isascii():
        return len(word) > 1
    if len(word) < _SHORTEST_WORD or word.isdigit():
        return False
    known = _vocabulary()
    return word not in known and not any(word[:cut] in known and word[cut:] in known for cut in range(3, len(word) - 2))


def _word(word: str, kind: str) -> Needle:
    # short words are common inside longer ones
    return Needle(word.encode(), kind, b"a" if word.isascii() and len(word) < 6 else b"")


def _identifier_spellings(text: str) -> Iterable[Needle]:
    folded = text.casefold()
    for form in {folded, re.sub(r"[-/. _]", "", folded)}:
        if form.isdigit():
            if len(form) >= _SHORTEST_NUMBER and len(set(form)) > 1:
                yield Needle(form.encode(), "identifier", b"9")
        elif len(form) >= _SHORTEST_NUMBER and form not in _vocabulary():
            yield Needle(form.encode(), "identifier", b"a" if len(form) < 8 else b"")


def _contact_spellings(text: str) -> Iterable[Needle]:
    folded = text.casefold()
    digits = re.sub(r"\D", "", folded)
    if len(digits) >= 7 and len(digits) >= 0.5 * len(folded):
        yield Needle(digits.encode(), "contact", b"9")
    for line in re.split(r"[,;\n\r]+", folded):
        if len(line.strip()) >= 7 and line.strip() not in _vocabulary():
            yield Needle(line.strip().encode(), "contact")
    for word in re.findall(r"[\w.+-]+@[\w.-]+", folded):
        yield Needle(word.encode(), "contact")


def _institution_spellings(text: str) -> Iterable[Needle]:
    folded = text.casefold()
    words = re.findall(r"[^\W_]+", folded)
    telling = [word for word in words if len(word) >= 6 and _distinctive(word)]
    if telling:
        yield from (_word(word, "institution") for word in telling)
    elif len(folded) >= 6 and not set(words) <= _vocabulary():
        yield Needle(folded.encode(), "institution")


def _date_spellings(text: str) -> Iterable[Needle]:
    match = re.match(r"(\d{4})[.]?(\d{2})[.]?(\d{2})", text)
    if not match:
        return
    year, month, day = match.groups()
    if f"{year}{month}{day}" == _DUMMY_DATE:
        return
    try:
        moment = date(int(year), int(month), int(day))
    except ValueError:
        return
    name = _MONTHS[moment.month - 1]
    yield Needle(f"{year}{month}{day}".encode(), "date", b"9")
    orders = ((year, month, day), (day, month, year), (month, day, year))
    short = ((day, month, year[2:]), (month, day, year[2:]))
    for order in (*orders, *short):
        for joint in ("-", "/", "."):
            yield Needle(joint.join(order).encode(), "date", b"9")
    for a_day in {day, str(moment.day)}:
        for a_name in (name, name[:3]):
            for form in (
                f"{a_day} {a_name} {year}",
                f"{a_name} {a_day}, {year}",
                f"{a_name} {a_day} {year}",
                f"{a_day}-{a_name}-{year}",
                f"{a_day}-{a_name}-{year[2:]}",
                f"{a_day}. {a_name} {year}",
            ):
                yield Needle(form.encode(), "date", b"9")


_DUMMY_DATE: Final = "19000101"
"""What a date is replaced by; it says nothing of anybody."""
_MONTHS: Final = (
    "january february march april may june july august september october november december".split()
)  # fmt: skip
_SPELLINGS: Final = MappingProxyType(
    {
        "name": _name_spellings,
        "identifier": _identifier_spellings,
        "contact": _contact_spellings,
        "institution": _institution_spellings,
        "date": _date_spellings,
    }
)


_CODECS: Final = (
    "utf-8 utf-16-le utf-16-be latin-1 cp1250 cp1251 cp1252 cp1253 cp1254 cp1255 cp1256 cp1257 iso8859-2 iso8859-3 "
    "iso8859-4 iso8859-5 iso8859-6 iso8859-7 iso8859-8 iso8859-9 iso8859-15 koi8-r tis-620 gb18030 big5 shift_jis "
    "euc_jp iso2022_jp euc_kr".split()
)  # fmt: skip
"""Sets that text is found in, whatever the object declares."""


def _encodings(text: str, charset: bytes) -> Iterable[bytes]:
    """Write a spelling as bytes in each character set it may be found in, UTF-16 among them."""
    if text.isascii():
        yield text.encode()
        return
    for codec in dict.fromkeys((*codecs_of(charset), *_CODECS)):
        try:
            encoded = text.encode(codec)
        except UnicodeEncodeError:
            continue
        for form in (encoded, re.sub(rb"\x1b\$?[()]?.", b"", encoded)):
            plain = lowered(form)
            if len(plain) >= 4:
                yield plain
