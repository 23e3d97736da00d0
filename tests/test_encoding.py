"""The walk over encoded elements and what is written in their place (PS3.5 section 7, PS3.10 section 7)."""

from __future__ import annotations

import struct
from io import BytesIO
from itertools import product
from pathlib import Path

import pydicom
import pydicom.data
import pytest
from factories import (
    BORN,
    ENCODINGS,
    NAME,
    PATIENT_ID,
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
from pydicom.dataset import Dataset
from pydicom.uid import JPEGBaseline8Bit, RLELossless

from dicomshield import Action, Deidentifier, Option, Profile, Project, Quarantined, Reason
from dicomshield.encoding.container import unpack
from dicomshield.encoding.elements import Element
from dicomshield.encoding.pieces import joined
from dicomshield.encoding.scan import Scanner, Verdict
from dicomshield.encoding.source import Source
from dicomshield.identity.pseudonym import Patient, Pseudonymizer
from dicomshield.profile import ActionTable, Decision, vr_of
from dicomshield.rebuild import Rebuilder

LENGTHS = tuple(product((True, False), repeat=3))
"""Explicit VR; sequence delimited; items delimited."""
ANATOMY, CODE, MEANING = 0x00082218, 0x00080100, 0x00080104
LUT = 0x00281201


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return Project(tmp_path_factory.mktemp("project") / "p")


@pytest.fixture(scope="module")
def shield(project: Project) -> Deidentifier:
    return Deidentifier(project=project)


def read(data: bytes) -> Dataset:
    return pydicom.dcmread(BytesIO(data))


def leaves(ds: Dataset, path: tuple[int, ...] = ()) -> dict[tuple[int, ...], object]:
    """Return every element that is no sequence, by its place."""
    found: dict[tuple[int, ...], object] = {}
    for element in ds:
        if element.VR == "SQ":
            for number, item in enumerate(element.value):
                found |= leaves(item, (*path, int(element.tag), number))
        else:
            found[(*path, int(element.tag))] = element.value
    return found


def test_the_encoding_changes_nothing_of_the_result(shield: Deidentifier) -> None:
    """Implicit, deflated and big endian inputs give the values of the explicit one (PS3.5 A.1 to A.5)."""
    outputs = [leaves(read(shield.bytes(encoded(ct(), syntax)).data)) for syntax in ENCODINGS]

    assert len(outputs[0]) > 35
    assert outputs[1:] == [outputs[0]] * 3


@pytest.mark.parametrize("syntax", ENCODINGS[:3])
def test_a_native_transfer_syntax_stays(shield: Deidentifier, syntax: str) -> None:
    """The output is encoded as the input was (PS3.5 10, PS3.10 7.1)."""
    output = read(shield.bytes(encoded(ct(), syntax)).data)

    assert output.file_meta.TransferSyntaxUID == syntax


@pytest.mark.parametrize(("explicit", "open_sequence", "open_items"), LENGTHS)
def test_sequences_are_rewritten_in_any_form_of_lengths(
    shield: Deidentifier, explicit: bool, open_sequence: bool, open_items: bool
) -> None:
    """Names at depth 3 go, codes stay, the form of lengths stays (PS3.5 7.5.1, 7.5.2)."""
    body = raw(CODE, "SH", b"T-32000", explicit=explicit) + raw(MEANING, "LO", b"Heart", explicit=explicit)
    body += raw(0x00100010, "PN", NAME.encode(), explicit=explicit)
    for _ in range(3):
        items = raw_item(body, undefined=open_items) * 2
        body = raw(ANATOMY, "SQ", items, explicit=explicit, undefined=open_sequence)

    data = shield.bytes(raw_ct({ANATOMY: body}, explicit=explicit)).data

    deepest = read(data)[ANATOMY].value[1][ANATOMY].value[0][ANATOMY].value[1]
    assert (deepest.CodeValue, deepest.CodeMeaning) == ("T-32000", "Heart")
    assert deepest.PatientName == ""
    assert NAME.encode() not in data
    assert data.count(struct.pack("<HH", 0xFFFE, 0xE0DD)) == (7 if open_sequence else 0)
    assert data.count(struct.pack("<HH", 0xFFFE, 0xE00D)) == (14 if open_items else 0)


@pytest.mark.parametrize(("undefined", "known"), tuple(product((True, False), repeat=2)))
def test_a_sequence_under_unknown_vr_is_walked(shield: Deidentifier, undefined: bool, known: bool) -> None:
    """A UN that holds items is implicit VR inside, and follows the same rules (PS3.5 6.2.2)."""
    inside = raw(CODE, "", b"T-32000", explicit=False) + raw(0x00100010, "", NAME.encode(), explicit=False)
    body = raw(ANATOMY, "UN", raw_item(inside), undefined=undefined)
    if not known:
        body = raw(ANATOMY, "SQ", raw_item(body))

    item = read(shield.bytes(raw_ct({ANATOMY: body})).data)[ANATOMY].value[0]

    item = item if known else item[ANATOMY].value[0]
    assert item.CodeValue == "T-32000"
    assert item.PatientName == ""


def test_a_known_attribute_under_unknown_vr_follows_its_rule(shield: Deidentifier) -> None:
    """A name, a UID and a date encoded as UN are what the dictionary calls them (PS3.5 6.2.2)."""
    extra = {
        0x00100010: raw(0x00100010, "UN", NAME.encode()),
        0x0020000D: raw(0x0020000D, "UN", f"{UID_ROOT}.1".encode()),
        0x00080020: raw(0x00080020, "UN", b"20190822"),
    }

    result = shield.bytes(raw_ct(extra))

    output = read(result.data)
    assert output.PatientName == result.report.patient
    assert output.StudyInstanceUID == result.report.study
    assert output["StudyDate"].VR == "DA"
    assert output.StudyDate == ""


@pytest.mark.parametrize("explicit", [True, False])
def test_what_is_no_part_of_the_data_set_goes(shield: Deidentifier, explicit: bool) -> None:
    """Group lengths, groups 0002 to 0006, padding (FFFC,FFFC) and bytes behind it go (PS3.15 E.1.1, PS3.5 7.2)."""
    extra = {
        tag: raw(tag, vr, value, explicit=explicit)
        for tag, vr, value in (
            (0x00041130, "CS", b"QUASTELBERRY"), (0x00041500, "CS", b"XENOPHON\\IM1"),
            (0x00060010, "LO", b"Ulrika"), (0x00080000, "UL", bytes(4)), (0x00100000, "UL", bytes(4)),
            (0x00280000, "UL", bytes(4)), (0xFFFCFFFC, "OB", NAME.encode()),
        )
    }  # fmt: skip
    inside = raw(0x00080000, "UL", bytes(4), explicit=explicit) + raw(CODE, "SH", b"T-1", explicit=explicit)
    extra[ANATOMY] = raw(ANATOMY, "SQ", raw_item(inside), explicit=explicit)

    data = shield.bytes(raw_ct(extra, explicit=explicit, tail=b"Quastel")).data

    places = leaves(read(data))
    assert {place[-1] for place in places if place[-1] & 0xFFFF == 0} == set()
    assert min(places)[0] >> 16 == 0x0008
    assert max(places)[0] == 0x7FE00010
    assert (ANATOMY, 0, CODE) in places
    assert not [token for token in (*TOKENS, "quastel") if token.encode() in readable(data)]


def test_bytes_behind_the_pixels_go_whatever_they_look_like(shield: Deidentifier) -> None:
    """Nothing follows the last element: text and half an element are cut off (PS3.5 7.1)."""
    for tail in (NAME.encode(), NAME.encode() * 5000, b"\0" * 700, b"\xff" * 5, b"Q"):
        data = shield.bytes(raw_ct(tail=tail)).data
        assert data.endswith(raw(0x7FE00010, "OW", bytes(128)))


def test_preamble_and_file_meta_are_new(shield: Deidentifier) -> None:
    """Preamble and File Meta Information are this application's, whatever they were (PS3.15 E.1.1, PS3.10 7.1)."""
    meta = raw(0x00020013, "SH", b"QUASTELBERRY") + raw(0x00020016, "AE", b"FENNIMORE")
    meta += raw(0x00020100, "UI", b"1.2.3") + raw(0x00020102, "OB", NAME.encode())

    result = shield.bytes(raw_ct(preamble=b"II*\0" + NAME.encode().ljust(124), meta=meta))

    output = read(result.data)
    assert output.preamble == bytes(128)
    assert [int(element.tag) & 0xFFFF for element in output.file_meta] == [0, 1, 2, 3, 0x10, 0x12, 0x13]
    assert output.file_meta.MediaStorageSOPInstanceUID == output.SOPInstanceUID == result.report.instance
    assert output.file_meta.ImplementationClassUID != f"{UID_ROOT}.9"
    length = int(output.file_meta.FileMetaInformationGroupLength)
    assert result.data[144 + length :][:4] == b"\x08\0\x05\0"


@pytest.mark.parametrize("explicit", [True, False])
@pytest.mark.parametrize(("rows", "columns", "kept"), [(8, 8, 128), (5, 9, 90), (3, 4, 24)])
def test_bytes_behind_the_last_frame_go(
    shield: Deidentifier, explicit: bool, rows: int, columns: int, kept: int
) -> None:
    """Pixel Data are as long as the header says, no longer (PS3.5 8.1.1, PS3.3 C.7.6.3)."""
    frame = bytes(range(1, kept + 1))
    extra = {
        0x00280010: raw(0x00280010, "US", struct.pack("<H", rows), explicit=explicit),
        0x00280011: raw(0x00280011, "US", struct.pack("<H", columns), explicit=explicit),
    }

    data = shield.bytes(raw_ct(extra, explicit=explicit, pixels=frame + b"Xenophon")).data

    assert data.endswith(raw(0x7FE00010, "OW", frame, explicit=explicit))


@pytest.mark.parametrize("behind", [b"Q", b"Qu", b"Qua"])
def test_odd_frames_are_padded_with_a_zero(shield: Deidentifier, behind: bytes) -> None:
    """An odd number of bytes is padded by one zero byte, not by what stood there (PS3.5 8.1.1)."""
    extra = {
        0x00280010: raw(0x00280010, "US", b"\3\0"),
        0x00280011: raw(0x00280011, "US", b"\3\0"),
        0x00280100: raw(0x00280100, "US", b"\x08\0"),
        0x7FE00010: raw(0x7FE00010, "OB", b"123456789" + behind),
    }

    data = shield.bytes(raw_ct(extra)).data

    assert data.endswith(raw(0x7FE00010, "OB", b"123456789"))


def test_too_short_and_unexplained_pixels_are_held_back(shield: Deidentifier) -> None:
    """An object that cannot hold its frames, or holds much more, is not released (PS3.3 C.7.6.3)."""
    with pytest.raises(Quarantined) as short:
        shield.bytes(raw_ct(pixels=bytes(126)))
    with pytest.raises(Quarantined) as much:
        shield.bytes(raw_ct(pixels=bytes(600)))

    assert (short.value.reason, much.value.reason) == (Reason.TRUNCATED, Reason.MALFORMED)


@pytest.mark.parametrize("cut", [1, 60, 127, 129, 137, 300])
def test_a_cut_object_is_held_back(shield: Deidentifier, cut: int) -> None:
    """What ends before its data do is not released, wherever it was cut (PS3.5 7.1)."""
    with pytest.raises(Quarantined) as held:
        shield.bytes(raw_ct()[:-cut])

    assert held.value.reason in (Reason.TRUNCATED, Reason.INCOMPLETE, Reason.MALFORMED)


def windows() -> dict[str, dict[str, object]]:
    """Return objects whose parts lie across, or beyond, what is read at once (32 KiB, then 64 KiB)."""
    item = raw(CODE, "SH", b"T-32000") + raw(0x00100010, "PN", NAME.encode())
    found: dict[str, dict[str, object]] = {}
    for length in (32_600, 32_768, 65_500, 65_536, 70_000, 200_000):
        found[f"element {length}"] = {"extra": {LUT: raw(LUT, "OW", bytes(length))}}
        found[f"long text {length}"] = {"extra": {0x00104000: raw(0x00104000, "UT", NAME.encode() * (length // 20))}}
        many = raw_item(item) * (length // len(item))
        found[f"sequence {length}"] = {"extra": {ANATOMY: raw(ANATOMY, "SQ", many)}}
        found[f"open sequence {length}"] = {"extra": {ANATOMY: raw(ANATOMY, "SQ", many, undefined=True)}}
    for shift in range(-40, 40, 4):
        # moves the elements after it across the edge of the first window
        found[f"edge {shift}"] = {"extra": {0x00204000: raw(0x00204000, "UT", b"x" * (32_200 + shift))}}
        found[f"kept edge {shift}"] = {"extra": {LUT: raw(LUT, "OW", b"1" * (32_200 + shift))}}
    return found


@pytest.mark.parametrize("name", windows())
def test_windows_do_not_show(shield: Deidentifier, tmp_path: Path, name: str) -> None:
    """An object read from disk in windows gives the bytes of the same object in memory (PS3.5 7.1)."""
    data = raw_ct(**windows()[name])  # type: ignore[arg-type]
    path = tmp_path / "one"
    path.write_bytes(data)

    report = shield.file(path, tmp_path / "out")

    in_memory = shield.bytes(data)
    assert (tmp_path / "out" / report.name).read_bytes() == in_memory.data
    assert report.to_json() == in_memory.report.to_json()
    before, after = leaves(read(data)), leaves(read(in_memory.data))
    assert after[(0x7FE00010,)] == before[(0x7FE00010,)]
    assert after.get((LUT,)) == before.get((LUT,))
    assert sum(place[-1] == CODE for place in before) == sum(place[-1] == CODE for place in after) - 1
    assert NAME.encode() not in in_memory.data


def test_large_pixel_data_are_copied(shield: Deidentifier, tmp_path: Path) -> None:
    """A frame of 1 MiB comes out as it was, and what lay behind it does not (PS3.5 8.1.1)."""
    frame = struct.pack("<512I", *range(512)) * 512
    extra = {tag: raw(tag, "US", struct.pack("<H", size)) for tag, size in ((0x00280010, 512), (0x00280011, 1024))}
    path = tmp_path / "one"
    path.write_bytes(raw_ct(extra, pixels=frame + NAME.encode() + b"\0", tail=NAME.encode() * 99))

    report = shield.file(path, tmp_path / "out")

    data = (tmp_path / "out" / report.name).read_bytes()
    assert data.endswith(raw(0x7FE00010, "OW", frame))
    assert NAME.encode() not in data


@pytest.mark.parametrize("sizes", [(10, 20), (70_000, 8), (20_000, 20_000, 20_000, 90_000), (32_700, 65_536, 4)])
def test_fragments_are_copied(shield: Deidentifier, tmp_path: Path, sizes: tuple[int, ...]) -> None:
    """Encapsulated frames come out as they were, wherever the window ends; bytes behind them go (PS3.5 A.4)."""
    fragments = b"".join(raw_item(bytes([number + 1]) * size) for number, size in enumerate(sizes))
    pixels = raw(0x7FE00010, "OB", raw_item(b"") + fragments, undefined=True)
    path = tmp_path / "one"
    path.write_bytes(raw_ct({0x7FE00010: pixels}, syntax=RLELossless, tail=NAME.encode()))

    report = shield.file(path, tmp_path / "out")

    data = (tmp_path / "out" / report.name).read_bytes()
    assert data.endswith(pixels)
    assert read(data).file_meta.TransferSyntaxUID == RLELossless
    assert shield.bytes(path).data == data


def test_cut_fragments_are_held_back(shield: Deidentifier, tmp_path: Path) -> None:
    """Fragments without their delimiter are no whole object (PS3.5 A.4)."""
    pixels = raw(0x7FE00010, "OB", raw_item(b"") + raw_item(bytes(90_000)), undefined=True)
    path = tmp_path / "one"
    for cut in (4, 8, 50_000):
        path.write_bytes(raw_ct({0x7FE00010: pixels[:-cut]}, syntax=JPEGBaseline8Bit))
        with pytest.raises(Quarantined) as held:
            shield.file(path, tmp_path / "out")
        assert held.value.reason in (Reason.TRUNCATED, Reason.MALFORMED)
    assert not list((tmp_path / "out").rglob("*.dcm"))


def test_a_nest_too_deep_is_held_back(shield: Deidentifier) -> None:
    """An attack on the reader's stack is refused, not followed (PS3.5 7.5)."""
    body = raw(CODE, "SH", b"T")
    for _ in range(400):
        body = raw(ANATOMY, "SQ", raw_item(body))

    with pytest.raises(Quarantined) as held:
        shield.bytes(raw_ct({ANATOMY: body}))

    assert held.value.reason is Reason.TOO_LARGE


EDITS: dict[int, tuple[bytes, ...]] = {
    0x00080005: (b"ISO_IR 192", b"ISO_IR 144", b""),
    0x00080016: (b"1.2.840.10008.5.1.4.1.1.4",),
    0x00080018: (f"{UID_ROOT}.3.2".encode(), f"{UID_ROOT}.3.33".encode()),
    0x00080020: (b"20190823", b"", b"2019.08.22"),
    0x00080050: (b"ACC5550199", b"ACC5550198", PATIENT_ID.encode()),
    0x00080080: (b"Fennimore Harbour", b"Other Hospital"),
    0x00081030: (b"chest", NAME.encode()),
    0x00100010: (b"Vandersloot^Percival", "Кузнецова^Надежда".encode(), "Кузнецова^Надежда".encode("iso8859-5")),
    0x00100020: (b"74839202", b""),
    0x00100021: (b"ISSUER1",),
    0x00180050: (b"2.50", b"quastelberry", b"74839202", b"2.5 "),
    0x00180060: (b"120", b"140"),
    0x00200052: (f"{UID_ROOT}.4".encode(), b"1.2.840.10008.1.4.1.1"),
    0x00204000: (NAME.encode(), b"nothing"),
    0x00280010: (b"\4\0", b"\x09\0"),
}
BLOCKS = (b"ELSCINT1", b"SPI-P Release 1", b"Quastelberry private")


@st.composite
def small_edits(draw: st.DrawFn) -> bytes:
    """Draw an object that differs in little from the others of its series."""
    explicit = draw(st.sampled_from((True, True, False)))
    extra: dict[int, bytes] = {}
    for tag in draw(st.lists(st.sampled_from(sorted(EDITS)), max_size=4, unique=True)):
        vr = vr_of(tag).decode()
        value = draw(st.sampled_from((*EDITS[tag], None)))
        vr = draw(st.sampled_from((vr, vr, vr, "UN"))) if value is not None and tag != 0x00280010 else vr
        extra[tag] = b"" if value is None else raw(tag, vr, value, explicit=explicit)
    creator = draw(st.sampled_from((None, *BLOCKS)))
    inside = raw(CODE, "SH", draw(st.sampled_from((b"T-1", b"T-22"))), explicit=explicit)
    name = draw(st.sampled_from((b"", b"A^B", NAME.encode())))
    inside += raw(0x00100010, "PN", name, explicit=explicit) if name else b""
    if creator:
        place, value = draw(st.sampled_from((0x10, 0x11))), draw(st.sampled_from((b"1.5", b"74839201")))
        block = raw(0x00E10000 | place, "LO", creator, explicit=explicit)
        block += raw(0x00E10021 | place << 8, "DS", value, explicit=explicit)
        inside += block if draw(st.booleans()) else b""
        extra[0x00E10010] = block
    if draw(st.booleans()):
        open_item, undefined = draw(st.booleans()), draw(st.booleans())
        items = raw_item(inside, undefined=open_item) * draw(st.integers(0, 2))
        around = draw(st.sampled_from((ANATOMY, 0x00081110, 0x00400275)))
        extra[around] = raw(around, "SQ", items, explicit=explicit, undefined=undefined)
    tail = draw(st.sampled_from((b"", b"", raw(0xFFFCFFFC, "OB", NAME.encode(), explicit=explicit), b"\0\0\0")))
    return raw_ct(extra, explicit=explicit, pixels=bytes(draw(st.sampled_from((128, 130, 64)))), tail=tail)


def answer(shield: Deidentifier, data: bytes) -> tuple[object, ...]:
    try:
        result = shield.bytes(data)
    except Quarantined as held:
        return held.reason, held.detail, held.findings
    return result.data, result.report.to_json()


MIXED = (Option.RETAIN_SAFE_PRIVATE, Option.RETAIN_MODIFIED_DATES)


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(objects=st.lists(small_edits(), min_size=2, max_size=5))
def test_what_came_before_changes_nothing(project: Project, objects: list[bytes]) -> None:
    """An object's result does not depend on the objects before it, whatever was remembered of them (PS3.15 E.1.1)."""
    options = MIXED if len(objects) & 1 else ()
    one_for_all = Deidentifier(Profile.basic(*options), project=project)

    together = [answer(one_for_all, data) for data in objects]

    assert together == [answer(Deidentifier(Profile.basic(*options), project=project), data) for data in objects]
    assert [answer(one_for_all, data) for data in reversed(objects)] == together[::-1]


class KeepsAll(ActionTable):
    """Decides to keep whatever it is asked about."""

    def __init__(self) -> None:
        """Need no profile."""
        self.masked = False

    def decide(self, tag: int, vr: bytes, parent: int = 0) -> Decision:  # noqa: ARG002
        return Decision(Action.KEEP, Action.KEEP, "")

    def private(self, group: int, creator: str, number: int) -> tuple[Action, bytes]:  # noqa: ARG002
        return Action.KEEP, b""


def rebuilt(path: Path) -> tuple[bytes, bytes, int] | None:
    """Return a file's data set, the same after a rewrite that keeps all, and the number of noted elements."""
    with Source.open(path) as source:
        try:
            container = unpack(source)
            scanner = Scanner(lambda _tag, _vr: Verdict.NOTE, vr_of, explicit=container.explicit)
            scan = scanner.scan(container.source, container.start)
        except Quarantined:
            return None
        rebuilder = Rebuilder(KeepsAll(), Patient("P", -400), Pseudonymizer(bytes(32), (-2, -1)), b"")
        pieces = rebuilder.rebuild(container, scan).pieces
        new = joined(container.source, pieces)
        return container.source.slice(container.start, scan.end), new, count(scan.elements)


def count(elements: object) -> int:
    assert isinstance(elements, list)
    return sum(
        1 + sum(count(item.elements) for item in element.items or ())
        for element in elements
        if isinstance(element, Element)
    )


def bundled() -> list[Path]:
    folder = Path(pydicom.data.__file__).parent
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc"))


def test_keeping_everything_changes_nothing() -> None:
    """A rewrite that keeps every element gives the same bytes for every file that can be read (PS3.5 7)."""
    same, elements = 0, 0
    for path in bundled():
        found = rebuilt(path)
        if found is None:
            continue
        before, after, noted = found
        elements += noted
        assert before == after, path.name
        same += 1

    assert same > 160
    assert elements > 10_000


def kept_values(ds: Dataset, table: ActionTable) -> dict[tuple[int, ...], object]:
    """Return the values that a table keeps, by place, as pydicom reads them."""

    def keeps(path: tuple[int, ...]) -> bool:
        tags = path[::2]
        return all(
            not tag >> 16 & 1 and tag & 0xFFFF and table.decide(tag, vr_of(tag), parent).action is Action.KEEP
            for tag, parent in zip(tags, (0, *tags), strict=False)
        )

    return {path: value for path, value in leaves(ds).items() if keeps(path)}


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
def test_pydicom_finds_every_kept_value_again(project: Project) -> None:
    """A reader that had no part in writing sees each kept value where it was, equal (PS3.15 E.1.1)."""
    shield = Deidentifier(Profile.basic(trust_pixels=True), project=project)
    objects, values = 0, 0
    for path in bundled():
        try:
            result = shield.bytes(path)
        except Quarantined:
            continue
        before = pydicom.dcmread(path, force=True)
        if before.original_encoding[1] is False:
            # its words are swapped, and numbers in unknown elements with them
            continue
        kept = kept_values(before, shield.profile.table(str(before.SOPClassUID)))
        kept.pop((0x7FE00010,), None)
        after = leaves(read(result.data))
        assert {place: value for place, value in kept.items() if after.get(place) != value} == {}, path.name
        objects, values = objects + 1, values + len(kept)

    assert objects > 50
    assert values > 3000


def test_elements_come_out_in_order(shield: Deidentifier) -> None:
    """Elements come out in the order of their tags, whatever was inserted (PS3.5 7.1)."""
    output = read(shield.bytes(encoded(nested(ct(), ct(), 3))).data)

    tags = [int(element.tag) for element in output]
    assert tags == sorted(set(tags))
    assert not [token for token in TOKENS if token.encode() in readable(encoded(output))]
    assert BORN.encode() not in encoded(output)


def test_headers_longer_than_what_is_read_at_once_are_learned_from(tmp_path: Path) -> None:
    """A series of files whose headers reach beyond the first bytes read gives what each object gives alone."""
    shield = Deidentifier(Profile.basic(trust_pixels=True), project=tmp_path / "project")
    table = bytes(number % 251 for number in range(40000))
    for number in range(1, 6):
        data = encoded(ct(number, RedPaletteColorLookupTableData=table))
        (tmp_path / "one.dcm").write_bytes(data)
        report = shield.file(tmp_path / "one.dcm", tmp_path / "out")
        alone = Deidentifier(Profile.basic(trust_pixels=True), project=shield.project).bytes(data)
        assert (tmp_path / "out" / report.name).read_bytes() == alone.data


@pytest.mark.parametrize(("stored", "left"), [(128, 128), (192, 192), (200, 192), (140, 128)])
def test_subsampled_pixels_are_cut_where_they_end(shield: Deidentifier, stored: int, left: int) -> None:
    """YBR_FULL_422 has two bytes a pixel; who stores three all the same loses none (PS3.3 C.7.6.3.1.2)."""
    colour = ct(SamplesPerPixel=3, PhotometricInterpretation="YBR_FULL_422", PlanarConfiguration=0, BitsAllocated=8)
    colour.BitsStored, colour.HighBit, colour.PixelData = 8, 7, bytes(range(stored))
    output = pydicom.dcmread(BytesIO(shield.bytes(encoded(colour)).data))
    assert output.PixelData == bytes(range(left))
