"""Whatever the patient's name stands in: it is gone, or the object is held back (PS3.15 E.1.1)."""

from __future__ import annotations

import copy
import logging
import pickle
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import fsspec
import pydicom
import pytest
from factories import (
    BORN,
    HOSPITAL,
    NAME,
    PATIENT_ID,
    STUDY_DATE,
    TOKENS,
    UID_ROOT,
    ct,
    encoded,
    nested,
    raw,
    raw_ct,
    raw_item,
    readable,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom._dicom_dict import DicomDictionary
from pydicom.uid import DeflatedExplicitVRLittleEndian

from dicomshield import Action, Deidentifier, MissingExtra, Option, Profile, Project, Quarantined, Reason, Report

ANATOMY = 0x00082218
TEXT_VRS = frozenset("AE AS CS DA DS DT IS LO LT PN SH ST TM UC UI UR UT".split())
TEXTS = sorted((tag, row[0]) for tag, row in DicomDictionary.items() if row[0] in TEXT_VRS and tag >> 16 >= 8)
BINARIES = sorted(
    (tag, row[0].split(" or ")[0])
    for tag, row in DicomDictionary.items()
    if row[0].startswith(("OB", "OW", "UN")) and 8 <= tag >> 16 < 0x7FE0
)
SPELLINGS = (
    NAME, NAME.upper(), NAME.lower(), "Xenophon Quastelberry", "Quastelberry, X.", "x_quastelberry_ct", "XenophonQ",
    "Mr. Quastelberry's chest", PATIENT_ID, f"ID:{PATIENT_ID}.", f"MRN {PATIENT_ID} / ward 3",
)  # fmt: skip
ALPHABETS = (
    # declared set, its codec, name, how the name stands elsewhere
    ("ISO_IR 100", "latin-1", "Çelebioglusuz^Désirée", ("Désirée", "DÉSIRÉE", "Desiree", "celebioglusuz")),
    ("ISO_IR 100", "latin-1", "Schönwetterling^Jörgen", ("Schönwetterling", "SCHOENWETTERLING", "schonwetterling")),
    ("ISO_IR 192", "utf-8", "Кузнецовская^Надежда", ("Кузнецовская", "НАДЕЖДА", "Надежда Кузнецовская")),
    ("ISO_IR 144", "iso8859-5", "Кузнецовская^Надежда", ("Кузнецовская", "КУЗНЕЦОВСКАЯ")),
    ("ISO_IR 192", "utf-8", "Ouyang^Xiaoming=欧阳^小明", ("欧阳小明", "小明", "ouyang xiaoming")),
    ("GB18030", "gb18030", "Ouyang^Xiaoming=欧阳^小明", ("欧阳小明", "欧阳")),
    ("\\ISO 2022 IR 87", "iso2022_jp", "Yamagataya^Tarouji=山形屋^太郎次", ("山形屋", "太郎次", "YAMAGATAYA")),
    ("\\ISO 2022 IR 149", "euc_kr", "Gildonghwan^Hongsu=\x1b$)C길동환^\x1b$)C홍수민", ("길동환", "gildonghwan")),
)  # fmt: skip


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return Project(tmp_path_factory.mktemp("project") / "p")


@cache
def shields(project: Project) -> tuple[Deidentifier, ...]:
    every = [option for option in Option if option.name.startswith("RETAIN")]
    most = [option for option in every if option is not Option.RETAIN_MODIFIED_DATES]
    chosen = ((), (Option.RETAIN_MODIFIED_DATES, Option.RETAIN_SAFE_PRIVATE), most)
    return tuple(Deidentifier(Profile.basic(*options), project=project) for options in chosen)


class Records(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__(0)
        self.text = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.text += record.getMessage() + repr(record.args) + repr(record.exc_info)


@contextmanager
def listening() -> Iterator[Records]:
    records, root = Records(), logging.getLogger()
    level = root.level
    root.addHandler(records)
    root.setLevel(1)
    try:
        yield records
    finally:
        root.removeHandler(records)
        root.setLevel(level)


def chained(error: BaseException | None) -> str:
    """Return all that an exception and those behind it tell to whoever prints them."""
    text = ""
    while error is not None:
        text += repr(error) + str(error) + repr(error.args) + repr(getattr(error, "__notes__", ""))
        text += repr({key: value for key, value in vars(error).items() if not key.startswith("__")})
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return text


def everything(shield: Deidentifier, data: bytes) -> tuple[str, bytes]:
    """Return what became of an object, and all that anybody could see of it, in lower case without NULs."""
    before = bytes(bytearray(data))
    with listening() as records:
        try:
            result = shield.bytes(data)
        except Quarantined as held:
            report = Report("").held_back(held)
            what, seen = held.reason.name, (chained(held) + report.to_json() + repr(report)).encode()
        else:
            report = result.report
            seen = readable(result.data) + report.to_json().encode() + repr(report).encode() + report.name.encode()
            what = "released"
    assert data == before
    return what, (seen + records.text.encode()).lower().replace(b"\0", b"")


def leaks(seen: bytes, tokens: tuple[str | bytes, ...]) -> list[str | bytes]:
    """Return the tokens found; case is only folded in ASCII, as it is in what was seen."""
    found = []
    for token in tokens:
        wanted = token.encode() if isinstance(token, str) else token
        if wanted.lower().replace(b"\0", b"") in seen:
            found.append(token)
    return found


def placed(element: bytes, tag: int, depth: int, *, explicit: bool, undefined: bool = False) -> dict[int, bytes]:
    for _ in range(depth):
        element = raw(ANATOMY, "SQ", raw_item(element, undefined=undefined), explicit=explicit, undefined=undefined)
        tag = ANATOMY
    return {tag: element}


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    where=st.sampled_from(TEXTS),
    spelling=st.sampled_from(SPELLINGS),
    depth=st.integers(0, 4),
    explicit=st.booleans(),
    undefined=st.booleans(),
    number=st.integers(0, 2),
)
def test_no_text_attribute_leaks(
    project: Project, where: tuple[int, str], spelling: str, depth: int, explicit: bool, undefined: bool, number: int
) -> None:
    """The name or ID in any text attribute of PS3.6, at any depth, does not get out (E.1.1)."""
    element = raw(where[0], where[1], spelling.encode(), explicit=explicit)
    data = raw_ct(placed(element, where[0], depth, explicit=explicit, undefined=undefined), explicit=explicit)

    what, seen = everything(shields(project)[number], data)

    assert leaks(seen, TOKENS) == [], what


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    where=st.sampled_from(BINARIES),
    spelling=st.sampled_from(SPELLINGS),
    codec=st.sampled_from(("ascii", "utf-16-le", "utf-16-be", "utf-8-sig")),
    before=st.binary(max_size=40),
    depth=st.integers(0, 2),
    explicit=st.booleans(),
)
def test_no_binary_attribute_leaks(
    project: Project, where: tuple[int, str], spelling: str, codec: str, before: bytes, depth: int, explicit: bool
) -> None:
    """Text inside OB, OW and UN values, UTF-16 too, does not get out (E.1.1, E.3.10)."""
    tag, vr = where
    element = raw(tag, vr, before + b"-" + spelling.encode(codec) + b"-", explicit=explicit)
    data = raw_ct(placed(element, tag, depth, explicit=explicit), explicit=explicit)

    what, seen = everything(shields(project)[0], data)

    assert leaks(seen, TOKENS) == [], what


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    group=st.sampled_from((0x0009, 0x0019, 0x0029, 0x00E1, 0x2001, 0x7FE1)),
    creator=st.sampled_from((None, "ELSCINT1", "SIEMENS CSA HEADER", "Quastelberry", "Philips Imaging DD 001", "")),
    low=st.integers(0, 255),
    vr=st.sampled_from(("LO", "OB", "UN", "UT", "SQ", "PN", "CS")),
    codec=st.sampled_from(("ascii", "utf-16-le", "utf-16-be")),
    spelling=st.sampled_from(SPELLINGS),
    depth=st.integers(0, 2),
    explicit=st.booleans(),
    number=st.integers(0, 2),
)
def test_no_private_attribute_leaks(
    project: Project, group: int, creator: str | None, low: int, vr: str, codec: str, spelling: str, depth: int,
    explicit: bool, number: int,
) -> None:  # fmt: skip
    """The name in a private element, known to be safe or not, with or without a creator, does not get out (E.3.10)."""
    value = spelling.encode(codec)
    if vr == "SQ":
        value = raw_item(raw(0x00081030, "LO", value, explicit=explicit))
    element = b"" if creator is None else raw(group << 16 | 0x10, "LO", creator.encode(), explicit=explicit)
    element += raw(group << 16 | 0x1000 | low, vr, value, explicit=explicit)
    data = raw_ct(placed(element, group << 16 | 0x10, depth, explicit=explicit), explicit=explicit)

    what, seen = everything(shields(project)[number], data)

    assert leaks(seen, TOKENS) == [], what


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    alphabet=st.sampled_from(ALPHABETS),
    which=st.integers(0, 3),
    where=st.sampled_from(TEXTS),
    codec=st.sampled_from((None, None, "utf-8", "utf-16-le", "utf-16-be")),
    depth=st.integers(0, 2),
    explicit=st.booleans(),
)
def test_no_alphabet_leaks(
    project: Project, alphabet: tuple[str, str, str, tuple[str, ...]], which: int, where: tuple[int, str],
    codec: str | None, depth: int, explicit: bool,
) -> None:  # fmt: skip
    """Names in Latin, Cyrillic, Chinese, Japanese and Korean sets are known in their bytes (PS3.5 6.1, E.1.1)."""
    charset, own, name, elsewhere = alphabet
    token = elsewhere[which % len(elsewhere)].encode(codec or own)
    extra = {
        0x00080005: raw(0x00080005, "CS", charset.encode(), explicit=explicit),
        0x00100010: raw(0x00100010, "PN", name.encode(own), explicit=explicit),
    }
    tag, vr = where
    if tag not in extra:
        element = raw(tag, vr, b"about " + token + b" here", explicit=explicit)
        extra |= placed(element, tag, depth, explicit=explicit)
    data = raw_ct(extra, explicit=explicit)

    what, seen = everything(shields(project)[0], data)

    assert leaks(seen, (token,)) == [], what
    assert leaks(seen, tuple(part.encode(own) for part in name.split("=")[0].split("^"))) == [], what


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    spelling=st.sampled_from(SPELLINGS),
    codec=st.sampled_from(("ascii", "utf-16-le")),
    place=st.sampled_from(
        ("preamble", "meta text", "meta private", "meta unknown", "tail", "padding", "behind pixels", "directory",
         "command", "group length", "un", "open un", "curve", "overlay", "signature", "original")
    ),
    syntax=st.sampled_from(("", DeflatedExplicitVRLittleEndian)),
)  # fmt: skip
def test_no_corner_of_the_file_leaks(project: Project, spelling: str, codec: str, place: str, syntax: str) -> None:
    """Preamble, meta, directory records, bytes behind the pixels or the data set: nothing goes over (E.1.1)."""
    text = spelling.encode(codec)
    inside = raw(0x00081030, "", text, explicit=False) + raw(0x00100010, "", text, explicit=False)
    extra = {
        "padding": {0xFFFCFFFC: raw(0xFFFCFFFC, "OB", text)},
        "directory": {0x00041130: raw(0x00041130, "CS", text)},
        "command": {0x00000002: raw(0x00001000, "SH", text)},
        "group length": {0x00100000: raw(0x00100000, "LO", text)},
        "un": {ANATOMY: raw(ANATOMY, "UN", raw_item(inside))},
        "open un": {ANATOMY: raw(ANATOMY, "UN", raw_item(inside, undefined=True), undefined=True)},
        "curve": {0x50003000: raw(0x50003000, "OB", text)},
        "overlay": {0x60001500: raw(0x60001500, "LO", text), 0x60023000: raw(0x60023000, "OW", text)},
        "signature": {0xFFFAFFFA: raw(0xFFFAFFFA, "SQ", raw_item(raw(0x04000115, "OB", text)))},
        "original": {0x04000561: raw(0x04000561, "SQ", raw_item(raw(0x04000563, "LO", text)))},
    }.get(place, {})
    meta = {
        "meta text": raw(0x00020016, "AE", text[:16]) + raw(0x00020026, "UR", text),
        "meta private": raw(0x00020100, "UI", b"1.2.3") + raw(0x00020102, "OB", text),
        "meta unknown": raw(0x00020FFF, "UT", text),
    }.get(place, b"")
    data = raw_ct(
        extra,
        preamble=text.ljust(128) if place == "preamble" else bytes(128),
        meta=meta,
        tail=raw(0xFFFCFFFC, "OB", text) + b"\0" * 8 if place == "tail" else b"",
        pixels=bytes(128) + (text if place == "behind pixels" else b""),
        syntax=syntax,
    )

    what, seen = everything(shields(project)[0], data)

    assert leaks(seen, (*TOKENS, text)) == [], what


def test_what_is_tested_is_released_as_well_as_held_back(project: Project) -> None:
    """The tests above see both ends: most attributes let the object go, some hold it back (E.1.1)."""
    outcomes: Counter[str] = Counter()
    for tag, vr in TEXTS[::12]:
        what, seen = everything(shields(project)[0], raw_ct({tag: raw(tag, vr, NAME.encode())}))
        assert leaks(seen, TOKENS) == [], hex(tag)
        outcomes[what] += 1

    assert outcomes["released"] > 50
    assert outcomes["RESIDUAL"] > 50
    assert outcomes.keys() <= {"released", "RESIDUAL", "INCOMPLETE", "SOP_CLASS", "BURNED_IN", "MALFORMED"}


@pytest.mark.parametrize("number", range(3))
def test_a_whole_patient_leaves_no_trace(project: Project, number: int) -> None:
    """A full set of identifiers, nested too, in every option: none of them is in what leaves (E.1.1)."""
    ds = nested(ct(InstitutionName="Plain Place", StationName="CT7", StudyDescription=f"for {NAME}"), ct(2), 3)
    if number == 2:
        # the hospital is kept here, and its name stands in the nested object
        ds.AnatomicRegionSequence[0].AnatomicRegionSequence[0].AnatomicRegionSequence[0].InstitutionName = "Plain Place"
        ds.AnatomicRegionSequence[0].AnatomicRegionSequence[0].AnatomicRegionSequence[0].StationName = "CT7"
    with listening() as records:
        result = shields(project)[number].bytes(encoded(ds))

    seen = readable(result.data) + (result.report.to_json() + repr(result.report) + records.text).lower().encode()
    tokens = [token for token in TOKENS if token != STUDY_DATE]
    assert leaks(seen, tuple(tokens)) == []
    if number < 2:
        assert leaks(seen, (STUDY_DATE, UID_ROOT, HOSPITAL)) == []


def test_file_names_do_not_go_over(project: Project, tmp_path: Path) -> None:
    """The name of the source is neither in the output's name, nor in the report, nor in an error (E.1.1)."""
    shield = shields(project)[0]
    folder = tmp_path / f"{PATIENT_ID} {NAME}"
    folder.mkdir()
    good, bad = folder / f"{NAME}.dcm", folder / f"{BORN}.txt"
    good.write_bytes(raw_ct())
    bad.write_bytes(b"Quastelberry" * 99)

    report = shield.file(good, tmp_path / "out")
    with pytest.raises(Quarantined) as held:
        shield.file(bad, tmp_path / "out")
    with pytest.raises(Quarantined) as missing:
        shield.file(folder / "Xenophon", tmp_path / "out")

    written = [str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert written == [report.name]
    said = report.name + report.to_json() + repr(report) + chained(held.value) + chained(missing.value)
    assert leaks(said.lower().encode(), TOKENS) == []
    assert (held.value.reason, missing.value.reason) == (Reason.NOT_DICOM, Reason.UNREADABLE)


def test_the_input_is_never_changed(project: Project, tmp_path: Path) -> None:
    """Bytes, files and data sets are as they were, released or not (E.1.1)."""
    shield = shields(project)[0]
    path = tmp_path / "one"
    path.write_bytes(raw_ct())
    before = path.stat()
    good, bad = nested(ct(), ct(2), 2), ct(BurnedInAnnotation="YES")
    copies = copy.deepcopy((good, bad))

    shield.file(path, tmp_path / "out")
    shield(good)
    with pytest.raises(Quarantined):
        shield(bad)

    assert (good, bad) == copies
    assert not hasattr(good, "report")
    assert path.read_bytes() == raw_ct()
    assert (path.stat().st_mtime_ns, path.stat().st_mode) == (before.st_mtime_ns, before.st_mode)


@pytest.mark.parametrize(
    ("keyword", "value", "kind"),
    [
        ("StudyDescription", f"chest of {NAME}", "name"),
        ("SeriesDescription", "dr Grimsdottir", "name"),
        ("ImageComments", f"see {PATIENT_ID}", "identifier"),
        ("PatientComments", "born 23.05.1947", "date"),
        ("StudyDescription", "born May 23, 1947", "date"),
        ("SeriesDescription", f"compare {UID_ROOT}.2", "uid"),
        ("StudyDescription", "scan at Fennimore", "institution"),
        ("StudyDescription", "order acc5550199.", "identifier"),
    ],
)
def test_a_value_kept_on_purpose_is_still_found(project: Project, keyword: str, value: str, kind: str) -> None:
    """An override keeps an attribute, not the patient: the residual check reads it like anything else (E.1.1)."""
    tag = pydicom.datadict.tag_for_keyword(keyword)
    assert tag is not None
    shield = Deidentifier(Profile(overrides={tag: Action.KEEP}), project=project)
    plain, telling = ct(), ct()
    setattr(plain, keyword, "chest, venous phase")
    setattr(telling, keyword, value)

    with pytest.raises(Quarantined) as held:
        shield(telling)

    assert held.value.reason is Reason.RESIDUAL
    assert kind in {finding.kind for finding in held.value.findings}
    assert leaks(chained(held.value).lower().encode(), (*TOKENS, value)) == []
    assert shield(plain)[keyword].value == "chest, venous phase"


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("Bone^Ann", "bone kernel, annular"), ("Head^Chester", "Head first"), ("Li^Bo", "lithium body"),
        ("Ann^Lee", "channel, sleep"), ("Test^Patient", "patients, tests"), ("Long^Tim", "longitudinal time"),
        ("Brown^Art", "arterial"), ("Hart^Ian", "median"), ("Axial^Primary", "Axial view"), ("Lung^", "LUNG"),
    ],
)  # fmt: skip
def test_words_that_hold_a_short_name_are_no_alarm(project: Project, name: str, kept: str) -> None:
    """A name that is part of a longer word, or a word of the standard, holds nothing back (demand 16)."""
    output = shields(project)[0](ct(PatientName=name, ConvolutionKernel="X", ManufacturerModelName=kept))

    assert output.ManufacturerModelName == kept


@pytest.mark.parametrize("number", ["12345", "00042", "11111", "7483"])
def test_numbers_that_hold_an_identifier_are_no_alarm(project: Project, number: str) -> None:
    """An ID that is only a part of a longer number, as in a pixel spacing, holds nothing back (demand 16)."""
    output = shields(project)[0](ct(PatientID=number, SliceThickness=f"0.9{number}1", StudyID="", AccessionNumber=""))

    assert str(output["SliceThickness"].value.original_string) == f"0.9{number}1"


def test_a_deidentifier_can_be_sent_to_other_processes(project: Project) -> None:
    """After pickling, used or not, it gives the same bytes and reports (E.1.1-04)."""
    data = encoded(nested(ct(), ct(2)))
    for shield in shields(project)[:2]:
        fresh = pickle.loads(pickle.dumps(shield))  # noqa: S301
        before = shield.bytes(data)
        used = pickle.loads(pickle.dumps(shield))  # noqa: S301

        for other in (fresh, used):
            assert other.bytes(data).data == before.data
            assert other.bytes(data).report.to_json() == before.report.to_json()
        again = pickle.loads(pickle.dumps(before))  # noqa: S301
        assert (again.data, again.report.changes) == (before.data, before.report.changes)


def test_a_quarantine_can_be_sent_to_other_processes(project: Project) -> None:
    """A held-back object keeps its reason, detail and findings over a process border (E.1.1)."""
    with pytest.raises(Quarantined) as held:
        shields(project)[0].bytes(raw_ct({0x00180060: raw(0x00180060, "DS", NAME.encode())}))

    again = pickle.loads(pickle.dumps(held.value))  # noqa: S301
    assert (again.reason, again.detail, again.findings) == (Reason.RESIDUAL, held.value.detail, held.value.findings)
    assert again.findings


def test_every_kind_of_input_gives_the_same(project: Project, tmp_path: Path) -> None:
    """Bytes, buffers, open files, paths and fsspec URLs are the same object (demand 28)."""
    data = encoded(ct())
    path = tmp_path / "one"
    path.write_bytes(data)
    with fsspec.open("memory://quastelberry/one.dcm", "wb") as file:
        file.write(data)
    shield = shields(project)[0]

    with path.open("rb") as opened:
        inputs: tuple[bytes | BinaryIO | str | Path, ...] = (data, BytesIO(data), opened, path, str(path))
        results = [shield.bytes(one) for one in inputs]
    results.append(shield.bytes("memory://quastelberry/one.dcm"))

    assert {result.data for result in results} == {results[0].data}
    assert {result.report.to_json() for result in results} == {results[0].report.to_json()}


def test_a_url_without_fsspec_says_what_to_install(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing extra is named with the command that installs it; the URL, which may hold a name, is not."""
    monkeypatch.setitem(sys.modules, "fsspec", None)

    with pytest.raises(MissingExtra) as raised:
        shields(project)[0].bytes("memory://quastelberry/one.dcm")

    assert "pip install 'dicomshield[distributed]'" in str(raised.value)
    assert "quastelberry" not in str(raised.value)


def test_a_data_set_gives_what_its_file_gives(project: Project) -> None:
    """The call on a data set is the call on its encoding, with the report attached (demand 28)."""
    shield = shields(project)[0]
    ds = ct()
    from_file = pydicom.dcmread(BytesIO(encoded(ds)))

    output = shield(ds)

    assert output == shield(from_file) == pydicom.dcmread(BytesIO(shield.bytes(encoded(ds)).data))
    assert output.report.patient == output.PatientID


@pytest.mark.parametrize(
    ("charset", "codec", "name", "elsewhere"),
    [
        ("ISO_IR 100", "latin-1", "Weiß^Otto", "Weiß".encode("latin-1")),
        ("ISO_IR 100", "latin-1", "Großkopf^Anna", b"GROSSKOPF"),
        ("ISO_IR 192", "utf-8", "Wang^Dong=王^东", "王东".encode()),
        ("ISO_IR 192", "utf-8", "Ouyang^Xiaoming=欧阳^小明", "欧阳小明".encode("gb18030")),
        ("ISO_IR 144", "iso8859-5", "Кузнецовская^Надежда", "Кузнецовская".encode("cp1251")),
        ("ISO_IR 148", "iso8859-9", "Yıldızlı^Öykü", "YILDIZLI".encode("iso8859-9")),
    ],
)
def test_names_are_known_in_other_sets_and_letters(
    project: Project, charset: str, codec: str, name: str, elsewhere: bytes
) -> None:
    """A name is found as another program would write it: other set, other case, without its mark (PS3.5 6.1)."""
    elements = {
        0x00080005: raw(0x00080005, "CS", charset.encode()),
        0x00100010: raw(0x00100010, "PN", name.encode(codec)),
        0x00180060: raw(0x00180060, "DS", elsewhere),
    }
    with pytest.raises(Quarantined) as held:
        shields(project)[0].bytes(raw_ct(elements))
    assert held.value.reason is Reason.RESIDUAL


@pytest.mark.parametrize("divided", ["748-39-201", "7483 9201", "74.839.201", "(748) 39201", PATIENT_ID])
def test_divided_numbers_are_known(project: Project, divided: str) -> None:
    """An identifier with signs between its digits is the same identifier."""
    with pytest.raises(Quarantined) as held:
        shields(project)[0].bytes(encoded(ct(KVP=None, ConvolutionKernel=f"B30 {divided}")))
    assert held.value.reason is Reason.RESIDUAL


@pytest.mark.parametrize(
    ("name", "word"), [("Tran^Minh", "TRANSVERSE"), ("Mark^Rose", "ROSETTE MARKER"), ("June^Li", "JUNETTE")]
)
def test_words_that_begin_like_a_short_name_are_no_alarm(project: Project, name: str, word: str) -> None:
    """A patient called Tran does not hold back every transverse image."""
    report = shields(project)[0](ct(PatientName=name, ManufacturerModelName=word)).report
    assert report.outcome == "released"


@pytest.mark.parametrize("option", [Option.RETAIN_FULL_DATES, Option.RETAIN_MODIFIED_DATES])
def test_a_newborn_can_be_released(project: Project, option: Option) -> None:
    """Who is scanned on the day of birth is no alarm where study dates stay (PS3.15 E.3.6); that day in a text is."""
    shield = Deidentifier(Profile.basic(option), project=project)
    assert shield(ct(PatientBirthDate=STUDY_DATE)).report.outcome == "released"
    with pytest.raises(Quarantined) as held:
        shield(
            ct(PatientBirthDate=STUDY_DATE, ConvolutionKernel=f"B{STUDY_DATE[:4]}-{STUDY_DATE[4:6]}-{STUDY_DATE[6:]}")
        )
    assert held.value.reason is Reason.RESIDUAL


def test_what_was_clear_for_one_object_is_searched_for_the_uids_of_the_next(project: Project) -> None:
    """A UID that two objects of a series lose is found in the second, whatever an object between them held."""
    event = f"{UID_ROOT}.77.1"
    shield = Deidentifier(Profile.basic(), project=project)
    shield(ct(1, IrradiationEventUID=event))
    shield(ct(2, SoftwareVersions=event))

    with pytest.raises(Quarantined) as held:
        shield(ct(3, IrradiationEventUID=event, SoftwareVersions=event))
    assert held.value.findings[0].kind == "uid"
