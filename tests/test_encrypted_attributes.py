"""The Encrypted Attributes Sequence (PS3.15 E.1.1, E.1.2): other people's tools read ours and we theirs; attacks."""

from __future__ import annotations

import hashlib
import hmac
import random
import re
import shutil
import struct
import subprocess
import warnings
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import pydicom
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.padding import AsymmetricPadding
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES128, AES256
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.serialization import pkcs7
from cryptography.x509.oid import NameOID
from factories import ENCODINGS, NAME, PATIENT_ID, UID_ROOT, ct, encoded, nested, raw, raw_ct, raw_item, shared
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from dicomshield import Deidentifier, PolicyError, Profile, Quarantined, Reason
from dicomshield.errors import VaultError
from dicomshield.vault import cms
from dicomshield.vault.encrypted_attributes import (
    Mode,
    certificate_warnings,
    collect,
    embed,
    open_attributes,
    restore,
    seal_attributes,
)

KEY = hashlib.sha256(b"mac key of these tests").digest()
UID = "2.25.1234567890"
BEGAN, ENDED, NOW = (datetime(year, 1, 1, tzinfo=UTC) for year in (2020, 2090, 2050))
MODES: tuple[Mode, ...] = ("ps3.15", "oaep")
GDCM_CIPHERS = ("des3", "aes128", "aes192", "aes256")
UMLAUTS = "Müller^Jürgen"


class Party(NamedTuple):
    """Somebody who has a certificate and its key."""

    certificate: x509.Certificate
    key: rsa.RSAPrivateKey

    def files(self, folder: Path) -> tuple[str, str]:
        certificate, key = folder / "party.crt", folder / "party.key"
        certificate.write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))
        pem = self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        key.write_bytes(pem)
        return str(certificate), str(key)


def certified(
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey,
    name: str = "Recipient",
    *,
    encipherment: bool | None = None,
    serial: int = 4711,
) -> x509.Certificate:
    """Return a certificate with a subject key identifier, and key usage if ``encipherment`` is told."""
    names = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = x509.CertificateBuilder(names, names, key.public_key(), serial, BEGAN, ENDED)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    if encipherment is not None:
        usage = x509.KeyUsage(True, False, encipherment, False, False, False, False, False, False)
        builder = builder.add_extension(usage, critical=True)
    return builder.sign(key, hashes.SHA256())


@cache
def party(name: str, bits: int = 2048) -> Party:
    key = rsa.generate_private_key(65537, bits)
    return Party(certified(key, name), key)


def alice() -> Party:
    return party("Alice")


def bob() -> Party:
    # one letter longer or shorter makes the envelope odd or even
    return party("Bobby2", 3072)


def tool(name: str) -> str:
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")
    return name


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False, errors="replace")
    assert done.returncode == 0, done.stderr[-1000:]
    return done


def originals(identifier: str = "MRN0012345", **changes: object) -> bytes:
    """Return encoded original attributes."""
    ds = Dataset()
    ds.SpecificCharacterSet, ds.SOPInstanceUID = "ISO_IR 192", f"{UID_ROOT}.3.1"
    ds.PatientName, ds.PatientID = f"{UMLAUTS}^of a name that fills a block", identifier
    for keyword, value in changes.items():
        setattr(ds, keyword, value)
    file = pydicom.filebase.DicomBytesIO()
    file.is_little_endian, file.is_implicit_VR = True, False
    pydicom.filewriter.write_dataset(file, ds)
    return file.getvalue()


def value_of(element: bytes) -> bytes:
    """Return the value of an encoded (0400,0500), explicit VR."""
    return element[12:]


def envelope_of(element: bytes) -> bytes:
    """Return the CMS in an encoded (0400,0500), explicit VR, padding included."""
    ds = pydicom.filereader.read_dataset(BytesIO(element), is_implicit_VR=False, is_little_endian=True)
    return bytes(ds.EncryptedAttributesSequence[0].EncryptedContent)


def value_with(envelope: bytes) -> bytes:
    """Return the value of (0400,0500) that holds this CMS."""
    return raw_item(raw(0x04000510, "UI", b"1.2.840.10008.1.2.1") + raw(0x04000520, "OB", envelope))


@pytest.fixture(scope="module")
def shield(tmp_path_factory: pytest.TempPathFactory) -> Deidentifier:
    return Deidentifier(Profile.basic(trust_pixels=True), project=tmp_path_factory.mktemp("project"))


def study() -> Dataset:
    """Return a CT with UTF-8 names, and a name in nested sequences."""
    inner = Dataset()
    inner.PatientName, inner.CodeMeaning = UMLAUTS, "chest"
    ds = nested(ct(1, PatientName=UMLAUTS, SpecificCharacterSet="ISO_IR 192"), inner, 3)
    other = Dataset()
    other.PatientID, other.PatientName = PATIENT_ID, NAME
    ds.OtherPatientIDsSequence = Sequence([other, Dataset(), other])
    return ds


def read(data: bytes | str | Path) -> Dataset:
    return pydicom.dcmread(BytesIO(data) if isinstance(data, bytes) else data)


def assert_same(original: Dataset, restored: Dataset, *, also: tuple[int, ...] = (0x00120062,)) -> None:
    """Compare data sets as pydicom reads them; ``also`` are the tags that only the restored one has."""
    assert {*restored.keys()} - {*original.keys()} <= {*also}
    for element in original:
        assert element.tag.group == 0x7FE0 or restored.get(element.tag) == element, element.tag
    assert restored.pixel_array.tolist() == original.pixel_array.tolist()


# The way out and back


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("syntax", ENCODINGS)
def test_everything_comes_back(shield: Deidentifier, syntax: str, mode: Mode) -> None:
    """PS3.15 E.1.2: the original attributes replace those of the object; Patient Identity Removed becomes NO."""
    original = encoded(study(), syntax)
    released = shield.bytes(original).data
    sealed = embed(original, released, [alice().certificate, bob().certificate], KEY, mode=mode)
    for one in (alice(), bob()):
        restored = restore(sealed, *one, KEY)
        back = read(restored)
        assert_same(read(original), back)
        assert back.PatientIdentityRemoved == "NO"
        assert back.file_meta.MediaStorageSOPInstanceUID == back.SOPInstanceUID == f"{UID_ROOT}.3.1"
        assert back.file_meta.TransferSyntaxUID == read(released).file_meta.TransferSyntaxUID


def test_released_object_shows_nothing(shield: Deidentifier) -> None:
    """Apart from the new sequence, the sealed object is the released one, and names nobody."""
    original = encoded(study())
    released = shield.bytes(original).data
    sealed = embed(original, released, [alice().certificate], KEY)
    ds = read(sealed)
    assert [len(ds.EncryptedAttributesSequence), len(ds.EncryptedAttributesSequence[0])] == [1, 2]
    assert ds.EncryptedAttributesSequence[0].EncryptedContentTransferSyntaxUID == ExplicitVRLittleEndian
    assert_same(read(released), ds, also=(0x04000500,))
    assert UMLAUTS.encode() not in sealed
    assert PATIENT_ID.encode() not in sealed


def test_values_come_back_byte_for_byte() -> None:
    """Padding, empty values and items, and the values of ambiguous VRs survive the change of encoding."""
    for explicit in (True, False):

        def one(tag: int, vr: str, value: bytes = b"", *, explicit: bool = explicit, undefined: bool = False) -> bytes:
            return raw(tag, vr, value, explicit=explicit, undefined=undefined)

        inner = one(0x00100010, "PN", b"A^B ") + one(0x00081120, "SQ")
        items = raw_item(b"") + raw_item(inner, undefined=True) + raw_item(b"", undefined=True) + raw_item(inner)
        extra = {
            0x00100020: one(0x00100020, "LO", b" 007  "), 0x00100030: one(0x00100030, "DA"),
            0x00101002: one(0x00101002, "SQ", items, undefined=True), 0x00280106: one(0x00280106, "SS", b"\xff\x80"),
            0x00081110: one(0x00081110, "SQ", items), 0x00081115: one(0x00081115, "SQ"),
            0x00102201: one(0x00102201, "LO", b"\xc4\xd6"),
        }  # fmt: skip
        original = raw_ct(extra, explicit=explicit)
        released = raw_ct(dict.fromkeys(extra, b"") | {0x00100010: b"", 0x00080020: b""}, explicit=explicit)
        back = restore(embed(original, released, [alice().certificate], KEY), *alice(), KEY)
        before, after = read(original), read(back)
        for tag in (*extra, 0x00100010, 0x00080020):
            was, now = before.get_item(tag), after.get_item(tag)
            if isinstance(was, RawDataElement) and before[tag].VR != "SQ":
                assert isinstance(now, RawDataElement)
                assert was.value == now.value, hex(tag)
            assert before[tag] == after[tag], hex(tag)
        assert [len(item) for item in after[0x00101002].value] == [0, 2, 0, 2]


def test_value_too_long_for_its_vr() -> None:
    """PS3.5 6.2.2: a value over 64 KiB has room in implicit VR, and goes through explicit VR as UN."""
    points = b"\\".join([b"1.25"] * 20001)
    original = raw_ct({0x30060050: raw(0x30060050, "DS", points, explicit=False)}, explicit=False)
    found = collect(original, raw_ct(explicit=False))
    assert b"\x06\x30\x50\x00UN\0\0" in found
    back = restore(embed(original, raw_ct(explicit=False), [alice().certificate], KEY), *alice(), KEY)
    assert read(back).get_item(0x30060050).value == points + b" " * (len(points) & 1)


def test_collect_takes_what_changed_and_no_more() -> None:
    """Top-level attributes that were removed or changed; not pixels, group lengths, or private ones unless asked."""
    private = {
        0x00090000: raw(0x00090000, "UL", bytes(4)), 0x00090010: raw(0x00090010, "LO", b"ACME"),
        0x00091001: raw(0x00091001, "LO", b"secret"), 0x00080000: raw(0x00080000, "UL", bytes(4)),
    }  # fmt: skip
    changed = {0x00100010: raw(0x00100010, "PN", b"Anon"), 0x00100020: b"", 0x00091001: b""}

    def tags(*, private_too: bool) -> list[int]:
        found = collect(raw_ct(private), raw_ct(private | changed, pixels=bytes(126) + b"\1\1"), private=private_too)
        return [*pydicom.filereader.read_dataset(BytesIO(found), False, True).keys()]

    assert tags(private_too=False) == [0x00080005, 0x00080018, 0x00100010, 0x00100020]
    assert tags(private_too=True) == [0x00080005, 0x00080018, 0x00090010, 0x00091001, 0x00100010, 0x00100020]


def test_collect_has_bounds() -> None:
    """An object without a SOP Instance UID, or with too much to hide, is held back with a reason."""
    with pytest.raises(Quarantined) as caught:
        collect(raw_ct({0x00080018: b""}), raw_ct())
    assert caught.value.reason is Reason.INCOMPLETE
    with pytest.raises(Quarantined) as caught:
        collect(raw_ct({0x00420011: raw(0x00420011, "OB", bytes(17 << 20))}), raw_ct())
    assert caught.value.reason is Reason.TOO_LARGE


def test_files_and_bytes_are_the_same(tmp_path: Path) -> None:
    """A path gives what its bytes give; a missing file is a typed error that does not name it."""
    sealed = embed(raw_ct(), raw_ct({0x00100010: b""}), [alice().certificate], KEY)
    path = tmp_path / "Quastelberry.dcm"
    path.write_bytes(sealed)
    assert restore(path, *alice(), KEY) == restore(sealed, *alice(), KEY)
    with pytest.raises(Quarantined) as caught:
        restore(tmp_path / "Quastelberry2.dcm", *alice(), KEY)
    assert "Quastelberry" not in str(caught.value)
    with pytest.raises(VaultError, match=r"\(0400,0500\) is missing"):
        restore(raw_ct(), *alice(), KEY)


def test_deidentified_twice() -> None:
    """What the original said of an earlier de-identification comes back with it."""
    earlier = {
        0x00120062: raw(0x00120062, "CS", b"YES"), 0x00120063: raw(0x00120063, "LO", b"by hand"),
        0x00280303: raw(0x00280303, "CS", b"MODIFIED"),
    }  # fmt: skip
    now = {0x00120063: raw(0x00120063, "LO", b"again"), 0x00280303: b"", 0x00120064: raw(0x00120064, "SQ")}
    back = read(restore(embed(raw_ct(earlier), raw_ct(earlier | now), [alice().certificate], KEY), *alice(), KEY))
    assert back.PatientIdentityRemoved == "YES"
    assert back.DeidentificationMethod == "by hand"
    assert back.LongitudinalTemporalInformationModified == "MODIFIED"
    assert "DeidentificationMethodCodeSequence" not in back


def test_real_files(shield: Deidentifier) -> None:
    """Every public top-level value of real objects comes back, byte for byte as pydicom reads it."""
    checked = 0
    for path in sorted((shared() / "corpora").rglob("*.dcm"))[::4]:
        data = path.read_bytes()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                released = shield.bytes(data).data
            except Quarantined:
                continue
            back = read(restore(embed(data, released, [alice().certificate], KEY), *alice(), KEY))
            original = pydicom.dcmread(BytesIO(data), force=True)
            for tag in [*original.keys()]:
                if tag.group % 2 or tag.element == 0 or tag.group in (0x7FE0, 0xFFFC):
                    continue
                was, now = original.get_item(tag), back.get_item(tag)
                same = was.value == now.value or original.original_encoding[1] is False
                assert same or original[tag] == back[tag], (path.name, tag)
        checked += 1
    assert checked > 30


# Other people's tools


@pytest.mark.parametrize("cipher", [AES128, AES256])
@pytest.mark.parametrize("order", [1, -1])
def test_reads_pyca(cipher: type[AES128 | AES256], order: int) -> None:
    """An independent writer of RFC 5652: two recipients in either order."""
    parties = [alice(), bob()][::order]
    builder = pkcs7.PKCS7EnvelopeBuilder().set_data(b"content").set_content_encryption_algorithm(cipher)
    for one in parties:
        builder = builder.add_recipient(one.certificate)
    envelope = builder.encrypt(serialization.Encoding.DER, [pkcs7.PKCS7Options.Binary])
    for one in parties:
        assert cms.open_envelope(envelope, one.certificate, one.key.decrypt) == b"content"


@pytest.mark.parametrize("content", [b"", b"x", bytes(15), bytes(16), bytes(200), bytes(70000)])
def test_pyca_reads_ours(content: bytes) -> None:
    """An independent strict DER reader: lengths of one to four octets."""
    envelope = cms.envelop(content, [bob().certificate, alice().certificate], oaep=False)
    for one in (alice(), bob()):
        assert pkcs7.pkcs7_decrypt_der(envelope, one.certificate, one.key, []) == content
        assert cms.open_envelope(envelope, one.certificate, one.key.decrypt) == content


TRANSPORTS = {
    "pkcs1": (),
    "key-id": ("-keyid",),
    "oaep-sha1": ("-keyopt", "rsa_padding_mode:oaep"),
    "oaep-sha256": ("-keyopt", "rsa_padding_mode:oaep", "-keyopt", "rsa_oaep_md:sha256"),
    "oaep-mixed": (
        "-keyopt", "rsa_padding_mode:oaep", "-keyopt", "rsa_oaep_md:sha512", "-keyopt", "rsa_mgf1_md:sha384",
    ),
}  # fmt: skip


@pytest.mark.parametrize("cipher", ["-aes-128-cbc", "-aes-192-cbc", "-aes-256-cbc", "-des3"])
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_reads_openssl(tmp_path: Path, cipher: str, transport: str) -> None:
    """PS3.15 E.1.2: a re-identifier reads AES and Triple DES in all key lengths."""
    (tmp_path / "content").write_bytes(b"some content")
    certificate, _ = alice().files(tmp_path)
    options = ["-keyid"] if transport == "key-id" else ["-recip", certificate, *TRANSPORTS[transport]]
    command: list[str | Path] = [
        tool("openssl"),
        "cms",
        "-encrypt",
        "-binary",
        "-outform",
        "DER",
        cipher,
        "-in",
        tmp_path / "content",
    ]
    recipients = [*options, certificate] if transport == "key-id" else options
    run(*command, "-out", f"{tmp_path}/cms", *recipients)
    envelope = (tmp_path / "cms").read_bytes()
    for padded in (envelope, envelope + b"\0"):
        assert cms.open_envelope(padded, alice().certificate, alice().key.decrypt) == b"some content"


@pytest.mark.parametrize("oaep", [False, True])
def test_openssl_reads_ours(tmp_path: Path, oaep: bool) -> None:
    """Each of two recipients opens it, with and without saying which one he is."""
    envelope = cms.envelop(b"some content", [alice().certificate, bob().certificate], oaep=oaep)
    (tmp_path / "cms").write_bytes(envelope)
    for one in (alice(), bob()):
        certificate, key = one.files(tmp_path)
        command: list[str | Path] = [
            tool("openssl"),
            "cms",
            "-decrypt",
            "-binary",
            "-inform",
            "DER",
            "-in",
            tmp_path / "cms",
        ]
        for recipient in ((), ("-recip", certificate)):
            assert run(*command, "-inkey", key, *recipient).stdout == "some content"


@pytest.mark.parametrize("cipher", GDCM_CIPHERS)
@pytest.mark.parametrize("library", ["openssl", "openssl-p7"])
def test_reads_gdcmanon(tmp_path: Path, cipher: str, library: str) -> None:
    """What GDCM's de-identifier hid comes back; both parities of its envelope occur."""
    original, hidden = tmp_path / "original.dcm", tmp_path / "hidden.dcm"
    original.write_bytes(encoded(study()))
    parities = set()
    for one in (alice(), bob()):
        certificate, _ = one.files(tmp_path)
        run(tool("gdcmanon"), "-e", f"--crypto={library}", f"--{cipher}", "-c", certificate, original, hidden)
        envelope = read(hidden).EncryptedAttributesSequence[0].EncryptedContent
        parities.add((4 + int.from_bytes(envelope[2:4], "big")) & 1)
        assert read(hidden).PatientName == ""
        back = read(restore(hidden, *one, None))
        assert_same(read(original), back)
        with pytest.raises(VaultError):
            restore(hidden, *one, KEY)
    assert parities == {0, 1}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_gdcmanon_reads_ours(tmp_path: Path, shield: Deidentifier, mode: Mode, order: int, syntax: str) -> None:
    """GDCM's re-identifier gives every original attribute back, for both recipients and parities of the envelope."""
    original = encoded(study(), syntax)
    released = shield.bytes(original).data
    path, back = tmp_path / "sealed.dcm", tmp_path / "back.dcm"
    parties = [alice(), bob()][::order]
    parities = set()
    for recipients in (parties, parties[:1], parties[1:]):
        path.write_bytes(embed(original, released, [one.certificate for one in recipients], KEY, mode=mode))
        envelope = read(path).EncryptedAttributesSequence[0].EncryptedContent
        parities.add((4 + int.from_bytes(envelope[2:4], "big")) & 1)
        for one in recipients:
            _, key = one.files(tmp_path)
            run(tool("gdcmanon"), "-d", "-k", key, path, back)
            # it leaves the codes of the de-identification method in place
            assert_same(read(original), read(back), also=(0x00120062, 0x00120064, 0x00280303))
    assert parities == {0, 1}


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_sealed_object_is_legal(tmp_path: Path, shield: Deidentifier, syntax: str) -> None:
    """DCMTK reads the sequence without a word, and dicom3tools finds no new error."""
    original = encoded(study(), syntax)
    released = shield.bytes(original).data
    paths = [tmp_path / f"{name}.dcm" for name in ("original", "released", "sealed", "back")]
    sealed = embed(original, released, [alice().certificate], KEY)
    for path, data in zip(paths, (original, released, sealed, restore(sealed, *alice(), KEY)), strict=True):
        path.write_bytes(data)
    shown = run(tool("dcmdump"), paths[2])
    assert not shown.stderr
    assert re.search(r"\(0400,0500\) SQ .*1 EncryptedAttributesSequence", shown.stdout.replace("#=1", "1"))
    assert re.search(r"\(0400,0510\) UI =LittleEndianExplicit", shown.stdout)
    first, second, third, last = (_errors(path) for path in paths)
    assert third - second == Counter()
    assert last - first == Counter()


def _errors(path: Path) -> Counter[str]:
    done = subprocess.run([tool("dciodvfy"), str(path)], capture_output=True, text=True, check=False)
    lines = (done.stdout + done.stderr).splitlines()
    assert lines
    return Counter(re.sub(r"<[^>]*>|\[[^\]]*\]", "", line) for line in lines if line.startswith("Error"))


# Attacks


def refused(value: bytes, uid: str = UID, who: Party | None = None, *, key: bytes | None = KEY) -> str:
    """Return what is said when an attempt to open fails, with all that the error carries."""
    certificate, private_key = who or alice()
    with pytest.raises(VaultError) as caught:
        open_attributes(value, uid, certificate, private_key, key)
    error = caught.value
    return repr((type(error), error.args, error.__cause__, error.__suppress_context__ or error.__context__ is None))


def aligned() -> tuple[bytes, bytes]:
    """Return a genuine element in which the Patient ID has the last 8 bytes of a cipher block, and its plaintext."""
    for length in range(0, 16, 2):
        element = seal_attributes(originals(AccessionNumber="A" * length), UID, [alice().certificate], KEY)
        plain = cms.open_envelope(envelope_of(element), alice().certificate, alice().key.decrypt)
        if plain.index(b"MRN0012345") % 16 == 8:
            return element, plain
    raise AssertionError


def test_flipped_bits() -> None:
    """CBC has no integrity: without any key, an identifier is replaced by another. Only the MAC sees it."""
    element, plain = aligned()
    envelope = bytearray(envelope_of(element))
    size = (len(plain) // 16 + 1) * 16
    # one byte may pad the envelope
    length = 4 + int.from_bytes(envelope[2:4], "big")
    at = length - size + plain.index(b"MRN0012345") - 16
    for place, (old, new) in enumerate(zip(b"MRN00123", b"MRN77777", strict=True)):
        envelope[at + place] ^= old ^ new
    value = value_with(bytes(envelope))
    forged = open_attributes(value, UID, *alice(), None)
    assert forged.dataset().PatientID == "MRN7777745"
    assert forged.authentic is None
    refused(value)
    assert open_attributes(value_of(element), UID, *alice(), KEY).dataset().PatientID == "MRN0012345"


def test_forged_by_somebody_with_the_certificate() -> None:
    """Anybody can encrypt to a recipient: without our MAC key it does not count as genuine."""
    genuine = value_of(seal_attributes(originals(), UID, [alice().certificate], KEY))
    forged = value_of(seal_attributes(originals("FORGED"), UID, [alice().certificate], bytes(32)))
    without = originals("FORGED")
    bare = raw(0x04000550, "SQ", raw_item(without))
    unmarked = value_with(cms.envelop(bare, [alice().certificate], oaep=False))
    assert open_attributes(unmarked, UID, *alice(), None).authentic is False
    for value in (forged, unmarked):
        refused(value)
    # one that is put before, or behind, the genuine one does not keep it from being found
    for value in (forged + genuine, genuine + forged, unmarked + genuine):
        assert open_attributes(value, UID, *alice(), KEY).dataset().PatientID == "MRN0012345"


@pytest.mark.parametrize("creator", [b"DICOMSHIELD", b"SOMEBODY ELSE"])
def test_layout_of_the_mac(creator: bytes) -> None:
    """The MAC as the module describes it, put together here; under another private creator it is not ours."""
    modified = raw(0x04000550, "SQ", raw_item(originals()))
    mac = hmac.new(KEY, struct.pack(">I", len(UID)) + UID.encode() + modified, "sha256").digest()
    content = modified + raw(0x04010010, "LO", creator) + raw(0x04011001, "OB", mac)
    value = value_with(cms.envelop(content, [alice().certificate], oaep=False))
    if creator == b"DICOMSHIELD":
        assert open_attributes(value, UID, *alice(), KEY).authentic is True
    else:
        refused(value)
        assert open_attributes(value, UID, *alice(), None).authentic is False


def test_moved_to_another_object() -> None:
    """An item opens only in the object it was made for, whose UID the MAC binds."""
    value = value_of(seal_attributes(originals(), UID, [alice().certificate], KEY))
    assert open_attributes(value, f" {UID}\0", *alice(), KEY).authentic is True
    refused(value, UID + "1")
    first, second = (raw_ct({0x00080018: raw(0x00080018, "UI", uid)}) for uid in (b"2.25.1", b"2.25.2"))
    sealed = embed(raw_ct(), first, [alice().certificate], KEY)
    sequence = sealed[sealed.index(b"\0\4\0\5SQ") : sealed.index(b"\xe0\x7f\x10\0")]
    at = second.index(b"\xe0\x7f\x10\0")
    with pytest.raises(VaultError):
        restore(second[:at] + sequence + second[at:], *alice(), KEY)


@pytest.fixture
def decrypted(monkeypatch: pytest.MonkeyPatch) -> list[CBC]:
    """Return a list that grows by one with each content that is decrypted."""
    modes: list[CBC] = []

    def counting(algorithm: AES256, mode: CBC) -> Cipher[CBC]:
        modes.append(mode)
        return Cipher(algorithm, mode)

    monkeypatch.setattr(cms, "Cipher", counting)
    return modes


def test_wrong_key_looks_like_damage(decrypted: list[CBC]) -> None:
    """One error for all, and the content is decrypted whatever the key was (RFC 3218 2.3.2)."""
    element, plain = aligned()
    decrypted.clear()
    envelope = envelope_of(element)
    length, size = 4 + int.from_bytes(envelope[2:4], "big"), (len(plain) // 16 + 1) * 16
    encrypted_key = envelope.index(alice().certificate.issuer.public_bytes()) + 60

    def flipped(at: int) -> bytes:
        return value_with(envelope[:at] + bytes((envelope[at] ^ 1,)) + envelope[at + 1 :])

    value, stranger = value_with(envelope), Party(alice().certificate, party("Stranger").key)
    said = {
        refused(value, who=stranger), refused(flipped(encrypted_key)), refused(flipped(length - size + 3)),
        refused(flipped(length - size - 9)), refused(flipped(length - 17)), refused(value, UID + "1"),
        refused(value, key=bytes(32)), refused(flipped(length - 2)),
    }  # fmt: skip
    assert len(decrypted) == 8
    # what everybody can see without a key may be found out sooner, but is said in the same words
    said |= {refused(value[:-40]), refused(value_with(envelope[: length - 1])), refused(b""), refused(flipped(1))}
    said |= {refused(value, who=party("Stranger")), refused(value, who=stranger, key=None)}
    assert len(said) == 1
    assert len(decrypted) == 9


@pytest.mark.parametrize("mode", MODES)
def test_keys_that_do_not_fit(decrypted: list[CBC], mode: Mode) -> None:
    """Whatever a KMS or HSM answers, or raises, an unfit key is the same error; only a dead line is told."""
    value = value_of(seal_attributes(originals(), UID, [alice().certificate], KEY, mode=mode))
    decrypted.clear()

    def answers(result: Callable[[], bytes]) -> Callable[[bytes, AsymmetricPadding], bytes]:
        return lambda _key, _padding: result()

    def fails(error: Exception) -> Callable[[], bytes]:
        def raises() -> bytes:
            raise error

        return raises

    for result in (bytes, lambda: bytes(16), lambda: bytes(32), fails(ValueError("padding")), fails(RuntimeError())):
        with pytest.raises(VaultError, match=re.escape(cms.NOT_OPENED)):
            open_attributes(value, UID, alice().certificate, answers(result), KEY)
    assert len(decrypted) == 5
    with pytest.raises(ConnectionError):
        open_attributes(value, UID, alice().certificate, answers(fails(ConnectionError())), KEY)
    assert open_attributes(value, UID, alice().certificate, alice().key.decrypt, KEY).authentic is True


def test_truncated_everywhere() -> None:
    """Every beginning of an envelope is refused, and of the items around it."""
    element = seal_attributes(originals(), UID, [alice().certificate], KEY)
    envelope, value = envelope_of(element), value_of(element)
    length = 4 + int.from_bytes(envelope[2:4], "big")
    said = {refused(value_with(envelope[:end])) for end in range(length)}
    said |= {refused(value[:end]) for end in range(len(value))}
    assert len(said) == 1


def test_only_der_is_read() -> None:
    """Other ways to write the same (BER: X.690 8.1.3) and anything around it are refused; one NUL may pad it."""
    envelope = cms.envelop(b"content", [alice().certificate], oaep=True)
    short = envelope[:1] + envelope[4:]
    odd = {
        "indefinite": short[:1] + b"\x80" + short[1:] + b"\0\0",
        "long length": envelope[:1] + b"\x83\0" + envelope[2:],
        "five octets": envelope[:1] + b"\x85\0\0\0" + envelope[2:],
        "reserved": envelope[:1] + b"\xff" + envelope[2:],
        "tail": envelope + b"\0\0",
        "other tail": envelope + b"\1",
        "primitive": b"\x10" + envelope[1:],
        "head only": b"\x30",
        "long without octets": b"\x30\x84",
    }
    for name, data in odd.items():
        with pytest.raises(VaultError):
            pytest.fail(name + repr(cms.open_envelope(data, *_opener(alice()))))
    assert cms.open_envelope(envelope + b"\0", *_opener(alice())) == b"content"


@pytest.mark.parametrize(
    ("heads", "at", "extra"),
    [
        ((0,), 5, b"\x81"),
        ((0,), None, b"\5\0"),
        ((0, 15), None, b"\5\0"),
        ((0, 15, 19), None, b"\5\0"),
    ],
    ids=["length", "ContentInfo", "tagged", "EnvelopedData"],
)
def test_nothing_more_inside(heads: tuple[int, ...], at: int | None, extra: bytes) -> None:
    """An octet too many in a length, or an element too many in a structure that has room for it, is refused."""
    envelope = bytearray(cms.envelop(b"content", [alice().certificate], oaep=False))
    for head in heads:
        assert envelope[head + 1] == 0x82
        envelope[head + 2 : head + 4] = (int.from_bytes(envelope[head + 2 : head + 4], "big") + len(extra)).to_bytes(2)
    at = len(envelope) if at is None else at
    envelope[at:at] = extra
    with pytest.raises(VaultError):
        cms.open_envelope(bytes(envelope), *_opener(alice()))


def _opener(one: Party) -> tuple[x509.Certificate, cms.Unwrap]:
    return one.certificate, one.key.decrypt


def test_hostile_content() -> None:
    """What a recipient's certificate lets anybody encrypt: only what is one item of a data set is taken."""
    inside = raw_item(originals())
    genuine = raw(0x04000550, "SQ", inside)
    nest = b""
    for _ in range(80):
        nest = raw(0x00081140, "SQ", raw_item(nest))
    bad = [
        b"", b"\0", genuine[:-3], raw(0x04000550, "SQ"), raw(0x04000550, "SQ", inside * 2), raw(0x00100010, "PN", b"A"),
        raw(0x04000550, "OB", inside), raw(0x04000550, "SQ", raw_item(raw(0x00020003, "UI", b"1.2"))),
        raw(0x04000550, "SQ", raw_item(nest)), bytes(4096), genuine + b"\xfe\xff\x0d\xe0",
    ]  # fmt: skip
    for content in bad:
        refused(value_with(cms.envelop(content, [alice().certificate], oaep=False)), key=None)
    value = value_with(cms.envelop(genuine, [alice().certificate], oaep=False))
    opened = open_attributes(value, UID, *alice(), None)
    assert opened.originals == originals()


@pytest.mark.parametrize("tag", [0x00080016, 0x00080018])
def test_uids_that_are_none(tag: int) -> None:
    """A forged UID that File Meta Information could not hold is held back, as is an object without one."""
    forged = raw(0x04000550, "SQ", raw_item(raw(tag, "UT", b"1" * 70000)))
    value = value_with(cms.envelop(forged, [alice().certificate], oaep=False))
    elements = {0x04000500: raw(0x04000500, "SQ", value)}
    for extra in (elements, elements | {0x00080016: b"", 0x00080018: b""}):
        with pytest.raises(Quarantined) as caught:
            restore(raw_ct(extra), *alice(), None)
        assert caught.value.reason is Reason.INCOMPLETE


def test_many_items_are_bounded() -> None:
    """However many items there are, only some cost an RSA operation."""
    calls = []

    def unwrap(key: bytes, padding: AsymmetricPadding) -> bytes:
        calls.append(key)
        return alice().key.decrypt(key, padding)

    forged = value_of(seal_attributes(originals(), UID, [alice().certificate], bytes(32)))
    with pytest.raises(VaultError):
        open_attributes(forged * 200, UID, alice().certificate, unwrap, KEY)
    assert len(calls) == 64


def mutated(data: bytes, chance: random.Random) -> bytes:
    """Flip, insert, remove, repeat or cut a few bytes."""
    out = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        at, what = chance.randrange(len(out) or 1), chance.randrange(6)
        out = out or bytearray(1)
        if what == 0:
            out[at] ^= 1 << chance.randrange(8)
        elif what == 1:
            out[at] = chance.choice((0, 1, 0x30, 0x7F, 0x80, 0x82, 0xA0, 0xFF))
        elif what == 2:
            out[at:at] = chance.randbytes(chance.choice((1, 2, 8)))
        elif what == 3:
            del out[at : at + chance.choice((1, 2, 16))]
        elif what == 4:
            end = at + chance.choice((2, 16, 64))
            out[at:at] = out[at:end]
        else:
            del out[at + 1 :]
    return bytes(out)


def mutations(number: int, seed: int) -> Counter[str]:
    """Open mutated envelopes and items; return what became of them. Half of the flips hit the structure before it."""
    chance = random.Random(seed)  # noqa: S311 - mutations need no secret
    recipients = [alice().certificate, bob().certificate]
    elements = [seal_attributes(originals(), UID, recipients, KEY, mode=mode) for mode in MODES]
    outcomes = Counter[str]()
    for _ in range(number):
        element = chance.choice(elements)
        envelope = envelope_of(element)
        if chance.random() < 0.8:
            head = chance.choice((40, 120, len(envelope)))
            value = value_with(mutated(envelope[:head], chance) + envelope[head:])
        else:
            value = mutated(value_of(element), chance)
        try:
            opened = open_attributes(value, UID, *alice(), KEY)
        except VaultError:
            outcomes["refused"] += 1
        else:
            # versions, other recipients, padding: nothing that says anything of the patient
            assert opened.originals == originals()
            outcomes["same"] += 1
    return outcomes


def test_mutations() -> None:
    """A mutated envelope gives a `VaultError`, or the genuine originals; nothing else."""
    outcomes = mutations(1500, 5)
    assert outcomes["refused"] > 1000


def files(number: int, seed: int) -> Counter[str]:
    """Restore mutated files, and files with an item that somebody forged with the certificate; count the outcomes."""
    chance = random.Random(seed)  # noqa: S311 - mutations need no secret
    outcomes, said = Counter[str](), set[str]()
    sealed = [
        embed(raw_ct(explicit=explicit), raw_ct({0x00100010: b""}, explicit=explicit), [alice().certificate], KEY)
        for explicit in (True, False)
    ]
    inner = raw(0x00100010, "PN", b"A^B") + raw(0x00081120, "SQ", raw_item(b""))
    content = originals() + raw(0x00101002, "SQ", raw_item(b"") + raw_item(inner, undefined=True), undefined=True)
    content = raw(0x04000550, "SQ", raw_item(content)) + raw(0x04010010, "LO", b"DICOMSHIELD")
    for _ in range(number):
        explicit = chance.random() < 0.5
        data = sealed[not explicit]
        if chance.random() < 0.5:
            data = data[:132] + mutated(data[132:], chance)
        else:
            envelope = cms.envelop(mutated(content, chance), [alice().certificate], oaep=False)
            syntax = chance.choice((b"1.2.840.10008.1.2.1", b"1.2.840.10008.1.2.1", b"1.2.840.10008.1.2"))
            inside = raw(0x04000510, "UI", syntax, explicit=explicit)
            inside += raw(0x04000520, "OB", envelope, explicit=explicit)
            data = raw_ct({0x04000500: raw(0x04000500, "SQ", raw_item(inside), explicit=explicit)}, explicit=explicit)
        try:
            restore(data, *alice(), None)
            outcomes["restored"] += 1
        except (VaultError, Quarantined) as error:
            outcomes[type(error).__name__] += 1
            said.add(str(error))
    assert not [text for text in said if NAME in text or UMLAUTS in text or "A^B" in text]
    return outcomes


def test_mutated_files() -> None:
    """A mutated file, or mutated content that was encrypted to us, gives typed errors only."""
    outcomes = files(500, 6)
    assert all(outcomes[what] > 10 for what in ("restored", "VaultError", "Quarantined"))


# Recipients


def test_names_of_recipients() -> None:
    """Somebody else's certificate with the same issuer, or the same serial number, is somebody else."""
    key = alice().key
    for certificate in (certified(key, "Alice", serial=4712), certified(key, "Alicf")):
        stripped = cms.envelop(b"content", [certificate], oaep=False)
        with pytest.raises(VaultError):
            cms.open_envelope(stripped, alice().certificate, key.decrypt)


def test_warnings() -> None:
    """Certificates are judged by their dates and key usage; nothing is printed."""
    key = alice().key
    good, signing = certified(key, encipherment=True), certified(key, encipherment=False)
    assert certificate_warnings([good, alice().certificate], NOW) == []
    said = certificate_warnings([good, signing], NOW)
    assert said == ["recipient 2: the key usage of the certificate does not include key encipherment"]
    assert certificate_warnings([good], ENDED + timedelta(1)) == ["recipient 1: the certificate has expired"]
    assert certificate_warnings([good], BEGAN - timedelta(1)) == ["recipient 1: the certificate is not valid yet"]


def test_unfit_arguments() -> None:
    """Wrong usage is a `PolicyError`, before anything is encrypted."""
    weak = certified(rsa.generate_private_key(65537, 1024))  # noqa: S505 - to be refused
    curve_key = ec.generate_private_key(ec.SECP256R1())
    curve = certified(curve_key)
    good: dict[str, Any] = {
        "originals": originals(), "sop_instance": UID, "recipients": [alice().certificate], "mac_key": KEY,
    }  # fmt: skip
    unordered = raw(0x00100010, "PN", b"A") + raw(0x00080018, "UI", b"1.2")
    wrong: list[dict[str, Any]] = [
        {"recipients": []}, {"recipients": [weak]}, {"recipients": [alice().certificate, curve]},
        {"mac_key": KEY[:31]}, {"mode": "gcm"}, {"originals": b""}, {"originals": unordered},
        {"originals": raw(0x00100010, "PN", b"A")}, {"originals": originals()[:-1]},
    ]  # fmt: skip
    assert seal_attributes(**good)
    for change in wrong:
        with pytest.raises(PolicyError):
            seal_attributes(**good | change)
    for certificate in (weak, curve):
        with pytest.raises(PolicyError):
            certificate_warnings([certificate], NOW)
    with pytest.raises(PolicyError):
        open_attributes(b"", UID, curve, curve_key, KEY)  # type: ignore[arg-type]
