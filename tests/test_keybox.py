"""Key boxes: other people's libraries open them, hostile ones stay shut, and no acknowledged key is without its box."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import os
import pickle
import random
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import NameOID
from factories import ROOT
from hypothesis import given
from hypothesis import strategies as st
from joserfc.jwa import PBES2HSAlgKeyEncryption
from joserfc.jwe import GeneralJSONEncryption, JWERegistry, decrypt_json, encrypt_json
from joserfc.jwk import OctKey, import_key
from joserfc.registry import HeaderParameter
from test_faults import fill, tmpfs  # noqa: F401 - a fixture

from dicomshield.errors import PolicyError, Quarantined, Reason, VaultError
from dicomshield.vault.keybox import KeyBoxes, open_box, patient_folder, rewrap, seal_box
from dicomshield.vault.keys import DataKey
from dicomshield.vault.recipients import (
    Identity,
    Recipient,
    RemoteIdentity,
    identity_from,
    new_key_file,
    recipient_from,
)

PHRASE: Final = "correct horse battery staple"
ALGORITHMS: Final = ["RSA-OAEP-256", "ECDH-ES+A256KW", "A256KW", "PBES2-HS512+A256KW"]
OAEP: Final = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
KEY: Final = DataKey(bytes(range(16)), bytes(range(32)), "P-Ä/1")
SECRET: Final = bytes(range(100, 132))
PKCS8, PLAIN = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
PEM, DER, SPKI = serialization.Encoding.PEM, serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo


class Party(NamedTuple):
    """Somebody with a key: what he is called by us, and what other libraries need."""

    name: str
    alg: str
    recipient: Recipient
    identity: Identity
    pem: bytes
    secret: bytes


def _party(name: str, key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> Party:
    identity = Identity.private(key)
    return Party(
        name, identity.alg, Recipient.public(key.public_key()), identity, key.private_bytes(PEM, PKCS8, PLAIN), b""
    )


RSA: Final = rsa.generate_private_key(65537, 3072)
PARTIES: Final = [
    _party("rsa", RSA),
    _party("p256", ec.generate_private_key(ec.SECP256R1())),
    _party("p384", ec.generate_private_key(ec.SECP384R1())),
    _party("p521", ec.generate_private_key(ec.SECP521R1())),
    Party("keyfile", "A256KW", Recipient.secret(SECRET), Identity.secret(SECRET), b"", SECRET),
    Party("passphrase", ALGORITHMS[3], Recipient.passphrase(PHRASE), Identity.passphrase(PHRASE), b"", PHRASE.encode()),
]
QUICK: Final = PARTIES[:5]
BOX: Final = seal_box(KEY, [party.recipient for party in PARTIES])
KEY_FILE: Final = PARTIES[4]


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unb64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def ids(party: object) -> str:
    return party.name if isinstance(party, Party) else str(party)


def the_jwk(key: DataKey = KEY) -> dict[str, str]:
    return {"k": b64(key.secret), "kid": key.kid.hex(), "kty": "oct", "sub": key.patient, "use": "enc"}


# The form


def test_form_of_a_box() -> None:
    """RFC 7516 section 7.2.1, nothing else, in one spelling; no name stands in two headers."""
    box = json.loads(BOX)
    assert json.dumps(box, separators=(",", ":"), sort_keys=True).encode() == BOX
    assert box.keys() == {"protected", "recipients", "iv", "ciphertext", "tag"}
    assert unb64(box["protected"]) == b'{"cty":"jwk+json","enc":"A256GCM"}'
    assert [len(unb64(box[name])) for name in ("iv", "tag")] == [12, 16]
    assert [one["header"]["alg"] for one in box["recipients"]] == [party.alg for party in PARTIES]
    for one, party in zip(box["recipients"], PARTIES, strict=True):
        assert one.keys() == {"header", "encrypted_key"}
        more = {"E": {"epk"}, "P": {"p2s", "p2c"}}.get(party.alg[0], set())
        assert one["header"].keys() == {"alg", "kid", *more}
    assert [one["header"].get("p2c") for one in box["recipients"]] == [None] * 5 + [600_000]
    assert len(unb64(box["recipients"][5]["header"]["p2s"])) == 16
    assert len({one["header"]["kid"] for one in box["recipients"]}) == 6


@pytest.mark.parametrize("party", PARTIES, ids=ids)
def test_each_recipient_opens_alone(party: Party) -> None:
    assert open_box(BOX, [party.identity]) == KEY
    alone = seal_box(KEY, [party.recipient])
    assert alone != seal_box(KEY, [party.recipient])
    assert open_box(alone, [other.identity for other in PARTIES]) == KEY
    assert b64(KEY.secret).encode() not in alone
    with pytest.raises(VaultError):
        open_box(alone, [other.identity for other in PARTIES if other is not party])


def test_recipients_and_identities_go_to_other_processes() -> None:
    """They do their work after pickling too, as in pools of workers; what prints does not show the key."""
    for party in QUICK:
        open_box(seal_box(KEY, [party.recipient]), [party.identity])
        recipient, identity = pickle.loads(pickle.dumps((party.recipient, party.identity)))  # noqa: S301
        assert open_box(seal_box(KEY, [recipient]), [identity]) == KEY
        assert repr(identity) == f"Identity({party.alg}, {party.recipient.kid})"


def test_coordinates_have_their_full_length() -> None:
    """RFC 7518 section 6.2.1.2: leading zeros stay; three of four points on P-521 have one (joserfc before 1.6.4)."""
    for _ in range(30):
        assert open_box(seal_box(KEY, [PARTIES[3].recipient]), [PARTIES[3].identity]) == KEY


def test_rewrap() -> None:
    """The key is the same, the old recipients are gone, and nothing of the old box is left in the new one."""
    old = seal_box(KEY, [PARTIES[0].recipient])
    new = rewrap(old, [PARTIES[0].identity], [PARTIES[1].recipient])
    assert open_box(new, [PARTIES[1].identity]) == KEY
    with pytest.raises(VaultError):
        open_box(new, [PARTIES[0].identity])
    assert not {json.loads(old)[name] for name in ("iv", "tag")} & {json.loads(new)[name] for name in ("iv", "tag")}


def test_key_service() -> None:
    """One function that does RSA-OAEP-256 is enough, and it may fail in any way."""
    asked = []

    def unwrap(kid: str, encrypted_key: bytes) -> bytes:
        asked.append(kid)
        return RSA.decrypt(encrypted_key, OAEP)

    def broken(*_: object) -> bytes:
        raise ConnectionError("MRN 123 of the ward")

    remote = RemoteIdentity(PARTIES[0].recipient.kid, unwrap)
    assert open_box(BOX, [remote]) == KEY
    assert asked == [PARTIES[0].recipient.kid]
    failing = RemoteIdentity(remote.kid, broken)
    with pytest.raises(VaultError, match="the key service said ConnectionError") as caught:
        open_box(BOX, [failing])
    assert "MRN" not in str(caught.value)
    assert open_box(BOX, [failing, KEY_FILE.identity]) == KEY
    for answer in (b"", bytes(16), bytes(32), "x" * 32):
        with pytest.raises(VaultError):
            open_box(BOX, [RemoteIdentity(remote.kid, lambda *_, answer=answer: answer)])


def test_limits_of_sealing() -> None:
    for recipients in ([], [KEY_FILE.recipient] * 65, [PARTIES[5].recipient] * 5):
        with pytest.raises(PolicyError):
            seal_box(KEY, recipients)
    assert open_box(seal_box(KEY, [KEY_FILE.recipient] * 63 + [PARTIES[1].recipient]), [PARTIES[1].identity]) == KEY
    for patient in ("", "x" * 1025, "\ud800"):
        with pytest.raises(PolicyError):
            seal_box(KEY._replace(patient=patient), [KEY_FILE.recipient])


# Other people's libraries


def _jose_key(party: Party) -> Any:
    if party.pem:
        return import_key(party.pem, "RSA" if party.name == "rsa" else "EC")
    return OctKey.import_key(party.secret)


@pytest.fixture
def patient_joserfc(monkeypatch: pytest.MonkeyPatch) -> JWERegistry:
    """Return joserfc's own registry, which does not mind our iterations."""
    count = HeaderParameter("PBES2 Count", "int", required=True)
    monkeypatch.setitem(PBES2HSAlgKeyEncryption.more_header_registry, "p2c", count)
    return JWERegistry(algorithms=[*ALGORITHMS, "A256GCM"], verify_all_recipients=False)


@pytest.mark.parametrize("party", PARTIES, ids=ids)
def test_joserfc_opens_ours(party: Party, patient_joserfc: JWERegistry) -> None:
    box = json.loads(seal_box(KEY, [party.recipient]))
    opened = decrypt_json(box, _jose_key(party), registry=patient_joserfc)
    assert json.loads(opened.plaintext or b"") == the_jwk()


def test_we_open_what_joserfc_wrote(patient_joserfc: JWERegistry) -> None:
    jwe = GeneralJSONEncryption({"enc": "A256GCM", "cty": "jwk+json"}, json.dumps(the_jwk()).encode())
    for party in PARTIES:
        jwe.add_recipient({"alg": party.alg, "kid": party.recipient.kid}, _jose_key(party))
    box = json.dumps(encrypt_json(jwe, None, registry=patient_joserfc)).encode()
    for party in PARTIES:
        assert open_box(box, [party.identity]) == KEY


@pytest.fixture
def jwcrypto(monkeypatch: pytest.MonkeyPatch) -> Any:
    jwa = pytest.importorskip("jwcrypto.jwa")
    monkeypatch.setattr(jwa, "default_max_pbkdf2_iterations", 2_000_000)
    return pytest.importorskip("jwcrypto.jwe")


def _jwcrypto_key(party: Party) -> Any:
    jwk = pytest.importorskip("jwcrypto.jwk")
    if party.name == "passphrase":
        return jwk.JWK.from_password(PHRASE)
    return jwk.JWK.from_pem(party.pem) if party.pem else jwk.JWK(kty="oct", k=b64(party.secret))


@pytest.mark.parametrize("party", PARTIES, ids=ids)
def test_jwcrypto_opens_ours(party: Party, jwcrypto: Any) -> None:
    jwe = jwcrypto.JWE(algs=[*ALGORITHMS, "A256GCM"])
    jwe.deserialize(seal_box(KEY, [party.recipient, RECIPIENT_OF_NOBODY]).decode(), _jwcrypto_key(party))
    assert json.loads(jwe.payload) == the_jwk()


def test_we_open_what_jwcrypto_wrote(jwcrypto: Any) -> None:
    protected = json.dumps({"enc": "A256GCM", "cty": "jwk+json"})
    jwe = jwcrypto.JWE(json.dumps(the_jwk()).encode(), protected, algs=[*ALGORITHMS, "A256GCM"])
    for party in PARTIES:
        jwe.add_recipient(_jwcrypto_key(party), json.dumps({"alg": party.alg, "kid": party.recipient.kid}))
    for party in PARTIES:
        assert open_box(jwe.serialize().encode(), [party.identity]) == KEY


NODE: Final = """
import { generalDecrypt, GeneralEncrypt, importPKCS8 } from "jose"
import { createPublicKey } from "node:crypto"
import { readFileSync } from "node:fs"
const { box, plaintext, protectedHeader, parties } = JSON.parse(readFileSync(0))
const key = async p => p.pem ? await importPKCS8(p.pem, p.alg) : new Uint8Array(Buffer.from(p.secret, "base64url"))
const opened = []
for (const p of parties) {
  const options = { keyManagementAlgorithms: [p.alg], contentEncryptionAlgorithms: ["A256GCM"], maxPBES2Count: 2000000 }
  opened.push(Buffer.from((await generalDecrypt(box, await key(p), options)).plaintext).toString())
}
const encrypt = new GeneralEncrypt(new TextEncoder().encode(plaintext)).setProtectedHeader(protectedHeader)
for (const p of parties)
  encrypt.addRecipient(p.pem ? createPublicKey(p.pem) : await key(p)).setUnprotectedHeader({ alg: p.alg, kid: p.kid })
console.log(JSON.stringify({ opened, written: await encrypt.encrypt() }))
"""


def test_npm_jose_both_ways(tmp_path: Path) -> None:
    """Node's jose opens ours as each recipient, and we open as each what it wrote."""
    if not shutil.which("node") or not shutil.which("npm"):
        pytest.skip("node and npm are not there: apt install nodejs npm")
    install = ["npm", "install", "--silent", "--no-fund", "--no-audit", "jose"]
    if subprocess.run(install, cwd=tmp_path, capture_output=True, check=False, timeout=120).returncode:
        pytest.skip("npm could not install jose: no network?")
    (tmp_path / "boxes.mjs").write_text(NODE)
    parties = [
        {"alg": one.alg, "kid": one.recipient.kid, "pem": one.pem.decode(), "secret": b64(one.secret)}
        for one in PARTIES
    ]
    protected = {"enc": "A256GCM", "cty": "jwk+json"}
    request = {"box": json.loads(BOX), "plaintext": json.dumps(the_jwk()), "protectedHeader": protected}
    done = subprocess.run(
        ["node", "boxes.mjs"], cwd=tmp_path, input=json.dumps({**request, "parties": parties}),
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert [json.loads(plaintext) for plaintext in answer["opened"]] == [the_jwk()] * len(PARTIES)
    for party in PARTIES:
        assert open_box(json.dumps(answer["written"]).encode(), [party.identity]) == KEY


RECIPIENT_OF_NOBODY: Final = Recipient.secret(bytes(32))


# Hostile boxes


def small_box(party: Party = KEY_FILE, key: DataKey = KEY) -> dict[str, Any]:
    return dict(json.loads(seal_box(key, [party.recipient])))


def sealed_by_joserfc(
    content: bytes, *, header: dict[str, Any] | None = None, protected: dict[str, Any] | None = None,
    key: Any = None, algorithms: Iterable[str] = (),
) -> dict[str, Any]:  # fmt: skip
    """Return a well-made JWE that is authentic, and not as ours are."""
    jwe = GeneralJSONEncryption(protected or {"cty": "jwk+json", "enc": "A256GCM"}, content)
    jwe.add_recipient(header or {"alg": "A256KW", "kid": KEY_FILE.recipient.kid}, key or OctKey.import_key(SECRET))
    allowed = [*ALGORITHMS, "A256GCM", *algorithms]
    return dict(encrypt_json(jwe, None, registry=JWERegistry(algorithms=allowed)))


def refused(box: object) -> None:
    data = box if isinstance(box, bytes) else json.dumps(box).encode()
    with pytest.raises(VaultError) as caught:
        open_box(data, [party.identity for party in PARTIES])
    assert str(caught.value) == CLOSED
    assert caught.value.__cause__ is None


CLOSED: Final = "the key box does not open: none of the identities given is its recipient, or it is damaged"


def test_wrong_key_looks_like_damage() -> None:
    """Whoever asks learns only that it does not open, whether the key, a header or the content is wrong."""
    for party in QUICK:
        flipped = small_box(party)
        for name in ("ciphertext", "tag", "iv"):
            data = bytearray(unb64(flipped[name]))
            data[3] ^= 1
            refused({**flipped, name: b64(bytes(data))})
        data = bytearray(unb64(flipped["recipients"][0]["encrypted_key"]))
        data[-1] ^= 1
        flipped["recipients"][0]["encrypted_key"] = b64(bytes(data))
        refused(flipped)
    stranger = Recipient.secret(bytes(31) + b"x")
    refused(seal_box(KEY, [stranger]))
    # a stranger's box under our name
    box = json.loads(seal_box(KEY, [stranger]))
    box["recipients"][0]["header"]["kid"] = KEY_FILE.recipient.kid
    refused(box)
    box = json.loads(seal_box(KEY, [Recipient.passphrase("some other passphrase")]))
    refused(box)


def _header(**members: object) -> Callable[[dict[str, Any]], object]:
    return lambda box: box["recipients"][0]["header"].update(members)


def _member(**members: object) -> Callable[[dict[str, Any]], object]:
    return lambda box: box.update(members)


def _protected(**members: object) -> Callable[[dict[str, Any]], object]:
    header = {"cty": "jwk+json", "enc": "A256GCM", **members}
    return _member(protected=b64(json.dumps(header, separators=(",", ":")).encode()))


HOSTILE: Final[dict[str, Callable[[dict[str, Any]], object]]] = {
    "alg none": _header(alg="none"),
    "alg dir": _header(alg="dir"),
    "alg RSA1_5": _header(alg="RSA1_5"),
    "alg RSA-OAEP": _header(alg="RSA-OAEP"),
    "alg A128KW": _header(alg="A128KW"),
    "alg a list": _header(alg=["A256KW"]),
    "alg PBES2 without count": _header(alg="PBES2-HS512+A256KW"),
    "kid a number": _header(kid=7),
    "kid long": _header(kid="x" * 257),
    "zip": _protected(zip="DEF"),
    "crit": _protected(crit=["exp"], exp=1),
    "crit in the header": _header(crit=["kid"]),
    "enc A128GCM": _protected(enc="A128GCM"),
    "enc CBC": _protected(enc="A256CBC-HS512"),
    "enc in the header too": _header(enc="A256GCM"),
    "cty in the header too": _header(cty="jwk+json"),
    "alg protected too": _protected(alg="A256KW"),
    "protected empty": _member(protected=""),
    "protected a number": _member(protected=5),
    "unprotected": _member(unprotected={"alg": "A256KW"}),
    "aad": _member(aad="AAAA"),
    "no recipients": _member(recipients=[]),
    "recipients an object": _member(recipients={}),
    "recipient a text": _member(recipients=["x"]),
    "65 recipients": lambda box: box.update(recipients=box["recipients"] * 65),
    "unknown member": _member(more=1),
    "no tag": lambda box: box.pop("tag"),
    "no key": lambda box: box["recipients"][0].pop("encrypted_key"),
    "x5t of another length": _header(**{"x5t#S256": "AAAA"}),
    "tag of 12 bytes": lambda box: box.update(tag=box["tag"][:16]),
    "tag of 4 bytes": lambda box: box.update(tag=b64(unb64(box["tag"])[:4])),
    "iv of 8 bytes": _member(iv=b64(bytes(8))),
    "iv of 16 bytes": _member(iv=b64(bytes(16))),
    "iv empty": _member(iv=""),
    "iv with padding": lambda box: box.update(iv=box["iv"] + "="),
    "tag spelt otherwise": lambda box: box.update(tag=box["tag"][:-1] + chr(ord(box["tag"][-1]) + 1)),
    "key of 48 bytes": lambda box: box["recipients"][0].update(encrypted_key=b64(bytes(48))),
    "iv in base64": _member(iv="+/+/+/+/+/+/+/+/"),
    "iv not ASCII": _member(iv="\u00e9" * 16),
    "too large": _member(ciphertext="A" * (1 << 20)),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_box_is_refused(name: str) -> None:
    box = small_box()
    assert open_box(json.dumps(box).encode(), [KEY_FILE.identity]) == KEY
    HOSTILE[name](box)
    refused(box)


def test_every_value_has_one_spelling() -> None:
    """A key service gets the same form as everybody: bits that do not count must be zero (RFC 4648 section 3.5)."""
    remote = RemoteIdentity(PARTIES[0].recipient.kid, lambda _, data: RSA.decrypt(data, OAEP))
    box = small_box(PARTIES[0])
    assert open_box(json.dumps(box).encode(), [remote]) == KEY
    tag = box["tag"]
    box["tag"] = tag[:-1] + chr(ord(tag[-1]) + 1)
    assert unb64(box["tag"]) == unb64(tag)
    with pytest.raises(VaultError):
        open_box(json.dumps(box).encode(), [remote])


@pytest.mark.parametrize("count", [0, 1, 999, 2_000_001, 10**12, -5, True, 1000.0, "1000", None])
def test_work_that_a_passphrase_asks_for_is_bounded(count: object) -> None:
    began = time.process_time()
    box = copy.deepcopy(json.loads(BOX))
    box["recipients"][5]["header"]["p2c"] = count
    refused(box)
    assert time.process_time() - began < 0.5


def test_passphrases_in_a_box_are_few() -> None:
    """As many as 64 of them would keep a reader busy for minutes."""
    box = json.loads(BOX)
    box["recipients"] = box["recipients"][5:] * 5
    began = time.process_time()
    refused(box)
    assert time.process_time() - began < 0.5


@pytest.mark.parametrize(
    "data",
    [
        b"", b"{", b"[]", b"null", b"7", b"\xff\xfe{\0}\0", b"[" * 100_000, b'{"a":' * 100_000, b"1" * 5000,
        BOX.replace(b'"iv"', b'"iv":"AAAAAAAAAAAAAAAA","iv"'), BOX.replace(b'"alg"', b'"alg":"none","alg"', 1),
        BOX + b" x", BOX[:-1], b"\xef\xbb\xbf" + BOX, BOX.decode().encode("utf-16"), b" " * (1 << 20) + BOX,
    ],
    ids=range(16),
)  # fmt: skip
def test_what_is_no_box_is_refused(data: bytes) -> None:
    """Also names that come twice, which readers understand in different ways (RFC 7516 section 4)."""
    refused(data)


@pytest.mark.parametrize(
    "epk",
    [
        None, {}, {"kty": "OKP"}, {"kty": "EC", "crv": "P-256", "x": b64(bytes(32)), "y": b64(bytes(32))},
        {"kty": "EC", "crv": "P-999", "x": "", "y": ""}, {"kty": "EC", "crv": ["P-256"], "x": "", "y": ""},
        {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}, {"d": "AA"}, {"crv": "P-384"},
    ],
    ids=range(9),
)  # fmt: skip
def test_ephemeral_keys_are_checked(epk: dict[str, Any] | None) -> None:
    """Also a point that is not on the curve, by which a private key could be found out."""
    box = small_box(PARTIES[1])
    header = box["recipients"][0]["header"]
    header["epk"] = epk if epk is None or len(epk) in (0, 4) else {**header["epk"], **epk}
    refused(box)


def test_curve_of_another_key() -> None:
    box, other = small_box(PARTIES[1]), small_box(PARTIES[2])
    box["recipients"][0]["header"]["epk"] = other["recipients"][0]["header"]["epk"]
    refused(box)


@pytest.mark.parametrize(
    "change",
    [
        {"kty": "RSA"}, {"k": b64(bytes(31))}, {"k": b64(bytes(33))}, {"k": 5}, {"kid": "00"}, {"kid": None},
        {"kid": KEY.kid.hex().upper()}, {"kid": "zz" * 16}, {"sub": ""}, {"sub": 7}, {"sub": "x" * 1025}, {"sub": None},
    ],
    ids=str,
)  # fmt: skip
def test_authentic_content_is_checked_too(change: dict[str, Any]) -> None:
    """Recipients can be generous with what they seal: whoever has the public key can make a box."""
    refused(sealed_by_joserfc(json.dumps(the_jwk() | change).encode()))


def test_authentic_but_of_another_kind() -> None:
    jwk = json.dumps(the_jwk()).encode()
    assert open_box(json.dumps(sealed_by_joserfc(jwk)).encode(), [KEY_FILE.identity]) == KEY
    refused(sealed_by_joserfc(b"no json"))
    refused(sealed_by_joserfc(b'{"k":1,"k":2}'))
    refused(sealed_by_joserfc(jwk, protected={"cty": "jwk+json", "enc": "A256GCM", "zip": "DEF"}, algorithms=["DEF"]))
    refused(sealed_by_joserfc(jwk, protected={"cty": "jwk+json", "enc": "A256CBC-HS512"}, algorithms=["A256CBC-HS512"]))
    header = {"alg": "RSA-OAEP", "kid": PARTIES[0].recipient.kid}
    rsa_key = _jose_key(PARTIES[0])
    refused(sealed_by_joserfc(jwk, header=header, key=rsa_key, algorithms=["RSA-OAEP"]))


def test_box_in_another_place() -> None:
    """The kid and the patient are inside, and must be those that the place says."""
    data = seal_box(KEY, [KEY_FILE.recipient])
    assert open_box(data, [KEY_FILE.identity], kid=KEY.kid, patient=KEY.patient) == KEY
    for kid, patient in ((bytes(16), KEY.patient), (KEY.kid, "P-Ä/2"), (KEY.kid, "")):
        with pytest.raises(VaultError, match=re.escape(CLOSED)):
            open_box(data, [KEY_FILE.identity], kid=kid, patient=patient)


def mutated(data: bytes, chance: random.Random) -> bytes:
    """Change a box at one to three places: bits, lengths, JSON values, members of other boxes."""
    for _ in range(chance.randint(1, 3)):
        at = chance.randrange(len(data) or 1)
        kind = chance.randrange(7)
        if kind == 0:
            data = data[:at] + bytes([chance.randrange(256)]) + data[at + 1 :]
        elif kind == 1:
            data = data[:at] + data[at + chance.randint(1, 60) :]
        elif kind == 2:
            data = data[:at] + data[at : at + chance.randint(1, 60)] + data[at:]
        elif kind == 3:
            other = chance.randrange(len(data) or 1)
            data = data[:at] + data[other : other + chance.randint(1, 60)] + data[at + 1 :]
        else:
            data = _mutated_json(data, chance)
    return data


ODD: Final[list[object]] = [
    None, True, 0, -1, 1.5, 10**30, "", "A", "AA", "none", "A128KW", "\ud800", [], {}, [[]], {"alg": "dir"},
    *ALGORITHMS,
]  # fmt: skip


def _mutated_json(data: bytes, chance: random.Random) -> bytes:
    """Put a strange value, or one from elsewhere in the box, in some place."""
    try:
        box = json.loads(data)
    except (ValueError, RecursionError):
        return data
    places: list[tuple[Any, Any]] = []
    walk = [box]
    while walk:
        one = walk.pop()
        steps: list[Any] = (
            list(one) if isinstance(one, dict) else list(range(len(one))) if isinstance(one, list) else []
        )
        places += [(one, step) for step in steps]
        walk += [one[step] for step in steps]
    if not places:
        return data
    holder, step = chance.choice(places)
    source, other = chance.choice(places)
    value = copy.deepcopy(source[other]) if chance.randrange(2) else chance.choice(ODD)
    if isinstance(value, int) and step == "p2c":
        value %= 5000
    holder[step] = value
    return json.dumps(box).encode()


def fuzzed(count: int, seed: int) -> int:
    """Open so many mutated boxes as everybody; returns how many opened, and those gave the right key."""
    chance = random.Random(seed)  # noqa: S311
    cheap = sealed_by_joserfc(
        json.dumps(the_jwk()).encode(), key=OctKey.import_key(PHRASE),
        header={"alg": ALGORITHMS[3], "kid": "passphrase", "p2c": 1000},
    )  # fmt: skip
    seeds = [json.dumps(cheap).encode(), seal_box(KEY, [party.recipient for party in QUICK])]
    seeds += [seal_box(KEY, [party.recipient]) for party in QUICK]
    remote = RemoteIdentity(PARTIES[0].recipient.kid, lambda _, data: RSA.decrypt(data, OAEP))
    identities: list[Identity | RemoteIdentity] = [remote, *(party.identity for party in PARTIES)]
    opened = 0
    for _ in range(count):
        try:
            assert open_box(mutated(chance.choice(seeds), chance), identities) == KEY
            opened += 1
        except VaultError:
            pass
    return opened


def test_mutated_boxes_raise_typed_errors_only() -> None:
    """A few mutations hit what is not protected, as blanks or other recipients; they never give another key."""
    assert 0 < fuzzed(3000, 516) < 1000


# What a user names


def openssl(*args: str | Path) -> bytes:
    if not shutil.which("openssl"):
        pytest.skip("openssl is not there")
    return subprocess.run(["openssl", *map(str, args)], capture_output=True, check=True, timeout=60).stdout


def private_file(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    path.chmod(0o600)
    return str(path)


@pytest.mark.parametrize("kind", ["rsa:2048", "rsa:3072", "P-256", "P-384", "P-521"])
def test_keys_and_certificates_of_openssl(kind: str, tmp_path: Path) -> None:
    """Certificates, public keys and private keys, PEM and DER, lead to the same recipient and identity."""
    option = f"rsa_keygen_bits:{kind[4:]}" if kind.startswith("rsa") else f"ec_paramgen_curve:{kind}"
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    openssl("genpkey", "-algorithm", "RSA" if kind.startswith("rsa") else "EC", "-pkeyopt", option, "-out", key)
    openssl("req", "-x509", "-new", "-key", key, "-subj", "/CN=curator", "-days", "30000", "-out", certificate)
    key.chmod(0o600)
    openssl("pkey", "-in", key, "-pubout", "-out", tmp_path / "public.pem")
    openssl("pkey", "-in", key, "-pubout", "-outform", "DER", "-out", tmp_path / "public.der")
    openssl("x509", "-in", certificate, "-outform", "DER", "-out", tmp_path / "certificate.der")
    openssl("pkey", "-in", key, "-outform", "DER", "-out", tmp_path / "key.der")
    openssl("pkey", "-in", key, "-traditional", "-out", tmp_path / "traditional.pem")
    openssl("pkey", "-in", key, "-aes256", "-passout", f"pass:{PHRASE}", "-out", tmp_path / "locked.pem")
    names = ("certificate.pem", "certificate.der", "public.pem", "public.der")
    recipients = [recipient_from(str(tmp_path / name)) for name in names]
    assert {one.kid for one in recipients} == {b64(hashlib.sha256((tmp_path / "public.der").read_bytes()).digest())}
    assert recipients[0].header()["x5t#S256"] == b64(
        hashlib.sha256((tmp_path / "certificate.der").read_bytes()).digest()
    )
    assert bool(recipients[0].notes) == (kind == "rsa:2048")
    box = seal_box(KEY, recipients)
    for name in ("key.pem", "key.der", "traditional.pem", "locked.pem"):
        (tmp_path / name).chmod(0o600)
        assert open_box(box, [identity_from(str(tmp_path / name), lambda _: PHRASE)]) == KEY
        with pytest.raises(PolicyError, match=r"this is a private key|no certificate"):
            recipient_from(str(tmp_path / name))
    for name in names:
        with pytest.raises(PolicyError, match="can only seal"):
            identity_from(str(tmp_path / name))
    with pytest.raises(PolicyError, match="does not open with this passphrase"):
        identity_from(str(tmp_path / "locked.pem"), lambda _: "wrong")
    key.chmod(0o640)
    with pytest.raises(PolicyError, match="chmod 600"):
        identity_from(str(key))


@pytest.mark.parametrize(
    "options",
    [("RSA", "rsa_keygen_bits:1024"), ("EC", "ec_paramgen_curve:secp256k1"), ("EC", "ec_paramgen_curve:P-224"),
     ("ED25519", ""), ("X25519", "")],
)  # fmt: skip
def test_weak_and_strange_keys_are_refused(options: tuple[str, str], tmp_path: Path) -> None:
    algorithm, option = options
    more = ("-pkeyopt", option) if option else ()
    openssl("genpkey", "-algorithm", algorithm, *more, "-out", tmp_path / "key.pem")
    (tmp_path / "key.pem").chmod(0o600)
    openssl("pkey", "-in", tmp_path / "key.pem", "-pubout", "-out", tmp_path / "public.pem")
    with pytest.raises(PolicyError, match="RSA of 2048 to 8192 bits"):
        recipient_from(str(tmp_path / "public.pem"))
    with pytest.raises(PolicyError, match="RSA of 2048 to 8192 bits"):
        identity_from(str(tmp_path / "key.pem"))


def certificate(key: rsa.RSAPrivateKey, *, until: int = 9999, usage: str = "", since: int = 2000) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "curator")])
    builder = (
        x509.CertificateBuilder(name, name, key.public_key(), 7)
        .not_valid_before(datetime(since, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(until, 1, 1, tzinfo=UTC))
    )
    if usage:
        all_of_them = (
            "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
            "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
        )  # fmt: skip
        builder = builder.add_extension(x509.KeyUsage(**{one: one == usage for one in all_of_them}), critical=True)
    return builder.sign(key, hashes.SHA256())


def test_notes_on_certificates() -> None:
    """An expired certificate or one for signing is taken, and said to be one."""
    assert Recipient.public(certificate(RSA)).notes == ()
    assert Recipient.public(certificate(RSA, usage="key_encipherment")).notes == ()
    (note,) = Recipient.public(certificate(RSA, usage="digital_signature")).notes
    assert "key usage" in note
    for outdated in (certificate(RSA, until=2001), certificate(RSA, since=9998)):
        (note,) = Recipient.public(outdated).notes
        assert "expired" in note


def test_several_certificates_in_one_file(tmp_path: Path) -> None:
    """Sealing to the first alone would lock the others out without a word."""
    pem = certificate(RSA).public_bytes(PEM)
    (tmp_path / "two.pem").write_bytes(pem * 2)
    with pytest.raises(PolicyError, match="one file for each recipient"):
        recipient_from(str(tmp_path / "two.pem"))


def test_key_files(tmp_path: Path) -> None:
    path = tmp_path / "k"
    new_key_file(path)
    content = path.read_bytes()
    assert re.fullmatch(rb"[A-Za-z0-9_-]{43}\n", content)
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["k"]  # noqa: PTH208
    box = seal_box(KEY, [recipient_from(str(path))])
    assert open_box(box, [identity_from(str(path))]) == KEY
    padded = private_file(tmp_path / "padded", content.strip() + b"=")
    assert identity_from(padded).kid == identity_from(str(path)).kid
    with pytest.raises(PolicyError, match="File exists"):
        new_key_file(path)
    assert path.read_bytes() == content
    with pytest.raises(PolicyError, match="cannot be written"):
        new_key_file(tmp_path / "missing" / "k")
    path.chmod(0o644)
    for read in (recipient_from, identity_from):
        with pytest.raises(PolicyError, match="chmod 600"):
            read(str(path))
    for secret in (b"", bytes(16), bytes(33)):
        with pytest.raises(PolicyError):
            Recipient.secret(secret)


@pytest.mark.parametrize(
    "data", [b"", b"\0", b"hello\n", b"A" * 42, b"A" * 44, b"-----BEGIN NOTHING-----\n", b"0" * 70_000]
)
def test_files_that_are_no_keys(data: bytes, tmp_path: Path) -> None:
    path = private_file(tmp_path / "x", data)
    for read in (recipient_from, identity_from):
        with pytest.raises(PolicyError):
            read(path)


@pytest.mark.parametrize(
    "text", ["missing", ".", "a\0b", "passphrase-file:missing", "passphrase-fd:x", "passphrase-fd:999"]
)
def test_names_that_lead_nowhere(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for read in (recipient_from, identity_from):
        with pytest.raises(PolicyError) as caught:
            read(text)
        assert str(tmp_path) not in str(caught.value)


def test_passphrases(tmp_path: Path) -> None:
    """Asked for, twice where a slip would cost the data; from a private file; from a descriptor; on no command line."""
    questions: list[str] = []

    def ask(question: str) -> str:
        questions.append(question)
        return PHRASE

    recipient, identity = recipient_from("passphrase:", ask), identity_from("passphrase:", ask)
    assert questions == ["Passphrase: ", "The same again: ", "Passphrase: "]
    box = seal_box(KEY, [recipient])
    assert open_box(box, [identity]) == KEY
    path = private_file(tmp_path / "phrase", f"{PHRASE}\r\nnot this".encode())
    assert open_box(box, [identity_from(f"passphrase-file:{path}")]) == KEY
    reader, writer = os.pipe()
    os.write(writer, PHRASE.encode() + b"\n")
    os.close(writer)
    assert open_box(box, [identity_from(f"passphrase-fd:{reader}")]) == KEY
    os.close(reader)
    answers = iter(["correct horse battery", "correct house battery"])
    with pytest.raises(PolicyError, match="differ"):
        recipient_from("passphrase:", lambda _: next(answers))
    with pytest.raises(PolicyError, match="12 characters"):
        recipient_from("passphrase:", lambda _: "x" * 11)
    for read in (recipient_from, identity_from):
        with pytest.raises(PolicyError, match="is seen by others") as caught:
            read("passphrase:hunter2hunter2")
        assert "hunter2" not in str(caught.value)
    Path(path).chmod(0o604)
    with pytest.raises(PolicyError, match="chmod 600"):
        identity_from(f"passphrase-file:{path}")
    for content in (b"", b"\n", b"\xff\n"):
        with pytest.raises(PolicyError, match="first line"):
            identity_from(f"passphrase-file:{private_file(tmp_path / 'empty', content)}")


def test_passphrase_of_another_keyboard() -> None:
    """Composed and decomposed letters are the same passphrase (RFC 8265)."""
    box = seal_box(KEY, [Recipient.passphrase("caf\u00e9 au lait, s'il vous pla\u00eet")])
    assert open_box(box, [Identity.passphrase("cafe\u0301 au lait, s'il vous plai\u0302t")]) == KEY


def test_no_terminal_to_ask_at() -> None:
    """Without a terminal nothing is read from where it would be shown."""
    script = "from dicomshield.vault.recipients import identity_from\nidentity_from('passphrase:')"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], input="secret\n", capture_output=True, text=True,
        check=False, start_new_session=True,
    )  # fmt: skip
    assert done.stderr.splitlines()[-1].endswith(
        "PolicyError: there is no terminal to ask for a passphrase: use `passphrase-file:PATH`"
    )


# The folder


def boxes_in(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_writer_and_reader(tmp_path: Path) -> None:
    boxes = KeyBoxes(tmp_path / "vault" / "keys")
    with boxes.writer([PARTIES[0].recipient, KEY_FILE.recipient]) as session:
        one, two = session.key("P1"), session.key("P2")
        assert session.key("P1") is one
        assert one.secret != two.secret
        assert one.kid != two.kid
        for party in (PARTIES[0], KEY_FILE):
            assert boxes.open("P1", one.kid, [party.identity]) == one
        with pytest.raises(VaultError):
            boxes.open("P1", one.kid, [PARTIES[1].identity])
        with pytest.raises(VaultError, match="there is no key box"):
            boxes.open("P2", one.kid, [KEY_FILE.identity])
    assert boxes_in(tmp_path).keys() == {f"vault/keys/{key.patient}/{key.kid.hex()}.jwe" for key in (one, two)}
    for path in tmp_path.rglob("*"):
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600)
    secrets_of_both = [encode(key.secret) for key, encode in product((one, two), (bytes, lambda x: b64(x).encode()))]
    assert not any(secret in data for secret in secrets_of_both for data in boxes_in(tmp_path).values())


def test_writer_that_restarts_reads_nothing(tmp_path: Path) -> None:
    """A writer has public keys only: a new session gets new keys, and a session cannot be sent elsewhere."""
    boxes = KeyBoxes(tmp_path / "keys")
    with boxes.writer([PARTIES[0].recipient]) as first:
        old = first.key("P1")
        with pytest.raises(TypeError):
            pickle.dumps(first)
    with KeyBoxes(tmp_path / "keys").writer([PARTIES[0].recipient]) as second:
        new = second.key("P1")
    assert old.kid != new.kid
    assert old.secret != new.secret
    assert {box.kid for box in boxes.list()} == {old.kid, new.kid}


def test_threads_share_a_session(tmp_path: Path) -> None:
    boxes = KeyBoxes(tmp_path / "keys")
    got: list[DataKey] = []
    with boxes.writer([KEY_FILE.recipient]) as session:
        threads = [
            threading.Thread(target=lambda: got.extend(session.key(f"P{number}") for number in range(5)))
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(got) == 40
    assert len(set(got)) == 5 == len(boxes_in(tmp_path))
    for key in set(got):
        assert boxes.open(key.patient, key.kid, [KEY_FILE.identity]) == key


@given(st.text(min_size=1, max_size=200), st.text(min_size=1, max_size=200))
def test_folders_of_patients(one: str, other: str) -> None:
    """Whatever a pseudonym holds, its folder is its own and in its place, also where names have no case."""
    try:
        folders = [patient_folder(one), patient_folder(other)]
    except PolicyError:
        assert any(0xD800 <= ord(char) < 0xE000 for char in one + other)
        return
    assert (folders[0].lower() == folders[1].lower()) == (one == other)
    for folder in folders:
        assert re.fullmatch(r"[A-Z0-9_%-]{1,241}(/[A-Z0-9_%-]{1,241})*", folder)
        assert len(folder) < 3200


@pytest.mark.parametrize(
    "patient",
    [
        "..",
        ".",
        "/",
        "a/b",
        "../../etc",
        "P1",
        "p1",
        "%",
        "A%/B",
        "\0",
        "é",
        "e\u0301",
        " ",
        "x" * 1024,
        "X" * 240,
        "X" * 241,
    ],
)
def test_strange_patients_stay_in_the_folder(patient: str, tmp_path: Path) -> None:
    boxes = KeyBoxes(tmp_path / "keys")
    with boxes.writer([KEY_FILE.recipient]) as session:
        key, neighbour = session.key(patient), session.key("X" * 239)
    assert boxes.open(patient, key.kid, [KEY_FILE.identity]) == key
    assert {(box.patient, box.kid) for box in boxes.list()} == {(key.patient, key.kid) for key in (key, neighbour)}
    assert os.listdir(tmp_path) == ["keys"]  # noqa: PTH208
    assert boxes.shred(patient) == 1
    assert [box.patient for box in boxes.list()] == ["X" * 239]
    assert len(list((tmp_path / "keys").rglob("*"))) == 2


@pytest.mark.parametrize("patient", ["", "x" * 1025, "é" * 513, "\ud800"])
def test_patients_that_are_none(patient: str, tmp_path: Path) -> None:
    boxes = KeyBoxes(tmp_path / "keys")
    with boxes.writer([KEY_FILE.recipient]) as session, pytest.raises(PolicyError):
        session.key(patient)
    with pytest.raises(PolicyError):
        boxes.shred(patient)
    assert boxes_in(tmp_path) == {}


def made(folder: Path, recipients: Sequence[Recipient], patients: Iterable[str] = ("P1", "P2", "P3")) -> list[DataKey]:
    with KeyBoxes(folder).writer(recipients) as session:
        return [session.key(patient) for patient in patients]


def test_list_tells_without_a_key(tmp_path: Path) -> None:
    keys = made(tmp_path, [PARTIES[0].recipient, KEY_FILE.recipient])
    damaged = tmp_path / "P2" / f"{keys[1].kid.hex()}.jwe"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    (tmp_path / "P3" / "notes.txt").write_text("x")
    (tmp_path / "not-ours").mkdir()
    (tmp_path / "not-ours" / damaged.name).write_bytes(b"x")
    recipients = tuple((party.alg, party.recipient.kid) for party in (PARTIES[0], KEY_FILE))
    assert [tuple(box) for box in KeyBoxes(tmp_path).list()] == [
        (key.patient, key.kid, () if key is keys[1] else recipients) for key in keys
    ]
    with pytest.raises(PolicyError):
        list(KeyBoxes(tmp_path / "missing").list())


def test_add(tmp_path: Path) -> None:
    """Those who could open still can, those added can too, and adding twice is as adding once."""
    keys = made(tmp_path, [PARTIES[0].recipient, PARTIES[1].recipient])
    boxes = KeyBoxes(tmp_path)
    for _ in range(2):
        changes = list(boxes.add([PARTIES[1].identity], [KEY_FILE.recipient, PARTIES[2].recipient]))
        assert [(one.patient, one.kid, one.done) for one in changes] == [(key.patient, key.kid, True) for key in keys]
        assert [len(box.recipients) for box in boxes.list()] == [4, 4, 4]
    for key, party in product(keys, (*PARTIES[:3], KEY_FILE)):
        assert boxes.open(key.patient, key.kid, [party.identity]) == key
    remote = RemoteIdentity(PARTIES[0].recipient.kid, lambda _, data: RSA.decrypt(data, OAEP))
    assert all(one.done for one in boxes.add([remote], [PARTIES[3].recipient]))
    assert boxes.open("P1", keys[0].kid, [PARTIES[3].identity]) == keys[0]
    before = boxes_in(tmp_path)
    assert [one.done for one in boxes.add([PARTIES[5].identity], [RECIPIENT_OF_NOBODY])] == [False] * 3
    with pytest.raises(PolicyError, match="64 recipients"):
        list(boxes.add([KEY_FILE.identity], [Recipient.secret(bytes([n]) * 32) for n in range(60)]))
    assert boxes_in(tmp_path) == before


def test_added_box_has_a_new_nonce(tmp_path: Path) -> None:
    """The content key stays, so the nonce must not."""
    made(tmp_path, [KEY_FILE.recipient], ["P1"])
    ((_, old),) = boxes_in(tmp_path).items()
    list(KeyBoxes(tmp_path).add([KEY_FILE.identity], [PARTIES[1].recipient]))
    ((_, new),) = boxes_in(tmp_path).items()
    assert json.loads(old)["iv"] != json.loads(new)["iv"]


def test_rotate(tmp_path: Path) -> None:
    """Old recipients are shut out, a damaged box is left as it was, and a second run has nothing to do."""
    keys = made(tmp_path, [PARTIES[0].recipient, PARTIES[1].recipient])
    body = tmp_path / "body"
    body.write_bytes(b"sealed")
    boxes = KeyBoxes(tmp_path)
    damaged = tmp_path / "P2" / f"{keys[1].kid.hex()}.jwe"
    damaged.write_bytes(damaged.read_bytes().replace(b'"tag":"', b'"tag":"A'))
    left = damaged.read_bytes()
    assert [one.done for one in boxes.rotate([PARTIES[0].identity], [KEY_FILE.recipient])] == [True, False, True]
    assert damaged.read_bytes() == left
    for key in (keys[0], keys[2]):
        assert boxes.open(key.patient, key.kid, [KEY_FILE.identity]) == key
        for party in PARTIES[:2]:
            with pytest.raises(VaultError):
                boxes.open(key.patient, key.kid, [party.identity])
    before = boxes_in(tmp_path)
    assert [one.done for one in boxes.rotate([PARTIES[0].identity], [KEY_FILE.recipient])] == [True, False, True]
    assert boxes_in(tmp_path) == before
    assert [one.done for one in boxes.rotate([PARTIES[0].identity], [PARTIES[1].recipient])] == [False] * 3
    assert boxes_in(tmp_path) == before


def test_rotation_after_a_killed_one(tmp_path: Path) -> None:
    """What it left beside a box is neither taken nor in the way."""
    (key,) = made(tmp_path, [KEY_FILE.recipient], ["P1"])
    (tmp_path / "P1" / f"{key.kid.hex()}.new").write_bytes(b"half a box")
    boxes = KeyBoxes(tmp_path)
    assert [one.done for one in boxes.rotate([KEY_FILE.identity], [PARTIES[1].recipient])] == [True]
    assert boxes.open("P1", key.kid, [PARTIES[1].identity]) == key
    assert len(boxes_in(tmp_path)) == 1


def test_box_moved_to_another_patient(tmp_path: Path) -> None:
    """It neither opens there nor is it sealed anew, which would make it look right."""
    keys = made(tmp_path, [KEY_FILE.recipient], ["P1", "P2"])
    boxes = KeyBoxes(tmp_path)
    shutil.copy(tmp_path / "P1" / f"{keys[0].kid.hex()}.jwe", tmp_path / "P2")
    with pytest.raises(VaultError, match=re.escape(CLOSED)):
        boxes.open("P2", keys[0].kid, [KEY_FILE.identity])
    changes = {(one.patient, one.kid): one.done for one in boxes.rotate([KEY_FILE.identity], [PARTIES[1].recipient])}
    assert changes.pop(("P2", keys[0].kid)) is False
    assert set(changes.values()) == {True}


def test_links_and_pipes_are_no_boxes(tmp_path: Path) -> None:
    keys = made(tmp_path, [KEY_FILE.recipient], ["P1", "P2"])
    path = tmp_path / "P1" / f"{keys[0].kid.hex()}.jwe"
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    other = tmp_path / "P2" / f"{keys[1].kid.hex()}.jwe"
    other.unlink()
    os.mkfifo(other)
    for key in keys:
        with pytest.raises(VaultError):
            KeyBoxes(tmp_path).open(key.patient, key.kid, [KEY_FILE.identity])


def test_shred(tmp_path: Path) -> None:
    """One patient's boxes go, with what a killed process left beside them; the others' open as before."""
    keys = made(tmp_path, [KEY_FILE.recipient]) + made(tmp_path, [KEY_FILE.recipient], ["P2"])
    (tmp_path / "P2" / f"{keys[1].kid.hex()}.new").write_bytes(b"left by a killed rotation")
    boxes = KeyBoxes(tmp_path)
    assert boxes.shred("P2") == 2
    assert boxes.shred("P2") == 0
    assert sorted(os.listdir(tmp_path)) == ["P1", "P3"]  # noqa: PTH208
    for key in (keys[1], keys[3]):
        with pytest.raises(VaultError, match="was shredded"):
            boxes.open("P2", key.kid, [KEY_FILE.identity])
    assert boxes.open("P1", keys[0].kid, [KEY_FILE.identity]) == keys[0]


def test_one_change_at_a_time(tmp_path: Path) -> None:
    """Two at once could undo each other; a writer is not in the way."""
    made(tmp_path, [KEY_FILE.recipient])
    boxes = KeyBoxes(tmp_path)
    changing = boxes.rotate([KEY_FILE.identity], [PARTIES[1].recipient])
    next(changing)
    for change in (lambda: list(boxes.add([], [KEY_FILE.recipient])), lambda: boxes.shred("P1")):
        with pytest.raises(PolicyError, match="another process"):
            change()
    made(tmp_path, [KEY_FILE.recipient], ["P4"])
    assert [one.done for one in changing][:2] == [True, True]
    assert boxes.shred("P1") == 1


# Killed, and disks that are full

WRITER: Final = """
import hashlib, sys
from dicomshield.vault.keybox import KeyBoxes
from dicomshield.vault.recipients import recipient_from
boxes = KeyBoxes(sys.argv[1])
recipient = recipient_from(sys.argv[2])
print("ready", flush=True)
while True:
    with boxes.writer([recipient]) as session:
        for number in range(10):
            key = session.key(f"P{number}")
            print(key.patient, key.kid.hex(), hashlib.sha256(key.secret).hexdigest(), flush=True)
"""
ROTATOR: Final = """
import sys
from dicomshield.vault.keybox import KeyBoxes
from dicomshield.vault.recipients import identity_from, recipient_from
boxes, names = KeyBoxes(sys.argv[1]), sys.argv[2:]
print("ready", flush=True)
while True:
    for name in names:
        changes = boxes.rotate([identity_from(one) for one in names], [recipient_from(name)])
        for change in changes:
            print(change.done, flush=True)
"""


def killed(commands: Sequence[Sequence[str | Path]], seconds: float) -> list[list[str]]:
    """Run processes, kill them all a while after the last is ready, and return their lines."""
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for command in commands]
    outputs: list[list[str]] = [[] for _ in processes]

    def read(number: int) -> None:
        stdout = processes[number].stdout
        assert stdout
        outputs[number].extend(stdout)

    for process in processes:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
    readers = [threading.Thread(target=read, args=(number,)) for number in range(len(processes))]
    for reader in readers:
        reader.start()
    time.sleep(seconds)
    for process in processes:
        process.kill()
    for process, reader in zip(processes, readers, strict=True):
        process.wait()
        reader.join()
        assert process.stdout
        process.stdout.close()
    return outputs


def kill_rounds(folder: Path, rounds: int, writers: int) -> tuple[int, int]:
    """Kill writers; returns how many keys were acknowledged, and how many boxes there are."""
    new_key_file(folder / "k")
    identity, boxes = identity_from(str(folder / "k")), KeyBoxes(folder / "keys")
    moments = random.Random(9)  # noqa: S311
    acknowledged = 0
    for _ in range(rounds):
        command: list[str | Path] = [sys.executable, "-W", "error", "-c", WRITER, folder / "keys", folder / "k"]
        for line in (line for lines in killed([command] * writers, moments.uniform(0.05, 0.4)) for line in lines):
            if not line.endswith("\n"):
                continue
            patient, kid, digest = line.split()
            key = boxes.open(patient, bytes.fromhex(kid), [identity])
            assert hashlib.sha256(key.secret).hexdigest() == digest
            acknowledged += 1
    there = boxes_in(folder / "keys")
    assert all(re.fullmatch(r"P[0-9]/[0-9a-f]{32}\.jwe", name) for name in there), "something is left"
    for name, data in there.items():
        assert open_box(data, [identity]).kid.hex() in name
    return acknowledged, len(there)


def test_killed_writers(tmp_path: Path) -> None:
    """A key that a writer was given has its box on the disk, and no box is half there."""
    acknowledged, there = kill_rounds(tmp_path, rounds=3, writers=3)
    assert 0 < acknowledged <= there


def test_killed_rotation(tmp_path: Path) -> None:
    """At any moment each box is the old one or the new one, and the next run goes on."""
    for name in ("a", "b"):
        new_key_file(tmp_path / name)
    keys = made(tmp_path / "keys", [recipient_from(str(tmp_path / "a"))], [f"P{number}" for number in range(20)])
    identities = [identity_from(str(tmp_path / name)) for name in ("a", "b")]
    boxes = KeyBoxes(tmp_path / "keys")
    moments = random.Random(10)  # noqa: S311
    turns = 0
    names = [tmp_path / name for name in ("keys", "a", "b")]
    command: list[str | Path] = [sys.executable, "-W", "error", "-c", ROTATOR, *names]
    for _ in range(4):
        (lines,) = killed([command], moments.uniform(0.05, 0.3))
        assert {line.strip() for line in lines if line.endswith("\n")} <= {"True"}
        turns += len(lines)
        for key in keys:
            assert boxes.open(key.patient, key.kid, identities) == key
    assert turns > 0
    assert all(one.done for one in boxes.rotate(identities, [recipient_from(str(tmp_path / "a"))]))
    assert len([name for name in boxes_in(tmp_path / "keys") if not name.endswith(".new")]) == 20
    for key in keys:
        assert boxes.open(key.patient, key.kid, identities[:1]) == key


def test_full_disk(tmpfs: Path) -> None:  # noqa: F811
    """No key is given out whose box could not be written, and rotation leaves the old boxes; space heals both."""
    keys = made(tmpfs / "keys", [KEY_FILE.recipient])
    boxes = KeyBoxes(tmpfs / "keys")
    with boxes.writer([KEY_FILE.recipient]) as session:
        fill(tmpfs)
        before = boxes_in(tmpfs / "keys")
        with pytest.raises(Quarantined) as caught:
            session.key("P9")
        assert caught.value.reason is Reason.DISK
        with pytest.raises(Quarantined):
            list(boxes.rotate([KEY_FILE.identity], [PARTIES[0].recipient]))
        with pytest.raises(PolicyError, match="No space"):
            new_key_file(tmpfs / "k")
        assert boxes_in(tmpfs / "keys") == before
        assert not (tmpfs / "k").exists()
        (tmpfs / "filler").unlink()
        assert boxes.open("P9", session.key("P9").kid, [KEY_FILE.identity]).patient == "P9"
    assert all(one.done for one in boxes.rotate([KEY_FILE.identity], [PARTIES[0].recipient]))
    for key in keys:
        assert boxes.open(key.patient, key.kid, [PARTIES[0].identity]) == key


def test_folder_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for use in (
        lambda boxes: boxes.writer([KEY_FILE.recipient]),
        lambda boxes: list(boxes.rotate([KEY_FILE.identity], [KEY_FILE.recipient])),
        lambda boxes: boxes.shred("P1"),
        lambda boxes: list(boxes.list()),
    ):
        with pytest.raises(PolicyError, match="folder of keys"):
            use(KeyBoxes(tmp_path / "file" / "keys"))


# Hardware


def test_example_of_a_hardware_module(tmp_path: Path) -> None:
    """A private key that stays in SoftHSM opens a box, by PKCS#11."""
    pytest.importorskip("pkcs11")
    if not shutil.which("softhsm2-util"):
        pytest.skip("softhsm2-util is not there: apt install softhsm2")
    done = subprocess.run(
        [sys.executable, "-W", "error", ROOT / "examples" / "hsm.py"], capture_output=True, text=True, check=False,
        env={**os.environ, "TMPDIR": str(tmp_path)}, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == "the module opened the box: True\n"
