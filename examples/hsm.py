"""Open key boxes with a private key that stays in its PKCS#11 module (apt: softhsm2; PyPI: python-pkcs11)."""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
from operator import xor
from pathlib import Path
from typing import Any

import pkcs11
from pkcs11 import MGF, Mechanism
from pkcs11.util.rsa import encode_rsa_public_key

from dicomshield.vault.keybox import KeyBoxes
from dicomshield.vault.recipients import RemoteIdentity, recipient_from

_MODULE, _PIN, _OAEP = "/usr/lib/softhsm/libsofthsm2.so", "1234", (Mechanism.SHA256, MGF.SHA256, None)


def masked(data: bytes, seed: bytes) -> bytes:
    """Apply the mask of MGF1 with SHA-256 (RFC 8017 appendix B.2.1)."""
    return bytes(map(xor, data, b"".join(hashlib.sha256(seed + bytes((0, 0, 0, n))).digest() for n in range(64))))


def without_oaep(block: bytes) -> bytes:
    """Take off OAEP with SHA-256 (RFC 8017 section 7.1.2), for modules that know it with SHA-1 only, as SoftHSM 2.6."""
    data = masked(block[33:], masked(block[1:33], block[33:]))
    padding, one, content = data[32:].partition(b"\1")
    if block[0] or data[:32] != hashlib.sha256().digest() or any(padding) or not one:
        raise ValueError
    return content


def unwrap(private: Any, encrypted_key: bytes) -> bytes:
    """Let the module decrypt; this is all that key boxes need of it."""
    try:
        return bytes(private.decrypt(encrypted_key, mechanism=Mechanism.RSA_PKCS_OAEP, mechanism_param=_OAEP))
    except (pkcs11.ArgumentsBad, pkcs11.MechanismInvalid, pkcs11.MechanismParamInvalid):
        return without_oaep(private.decrypt(encrypted_key, mechanism=Mechanism.RSA_X_509))


def main() -> None:
    """Make a token with a key, seal to its public part, and let the module open the box."""
    folder = Path(tempfile.mkdtemp(prefix="dicomshield-"))
    os.environ["SOFTHSM2_CONF"] = str(folder / "softhsm2.conf")
    Path(os.environ["SOFTHSM2_CONF"]).write_text(f"directories.tokendir = {folder}\n")
    # only in a demonstration does a PIN stand in a program or on a command line
    make = f"softhsm2-util --init-token --free --label vault --so-pin {_PIN} --pin {_PIN}".split()
    subprocess.run(make, check=True, capture_output=True)  # noqa: S603
    with pkcs11.lib(_MODULE).get_token(token_label="vault").open(rw=True, user_pin=_PIN) as session:  # noqa: S106
        public, private = session.generate_keypair(pkcs11.KeyType.RSA, 3072, store=True, label="boxes")
        (folder / "public.der").write_bytes(encode_rsa_public_key(public))
        recipient, boxes = recipient_from(str(folder / "public.der")), KeyBoxes(folder / "keys")
        with boxes.writer([recipient]) as writer:
            key = writer.key("P0001")
        identity = RemoteIdentity(recipient.kid, lambda _, encrypted_key: unwrap(private, encrypted_key))
        print(f"the module opened the box: {boxes.open('P0001', key.kid, [identity]) == key}")


if __name__ == "__main__":
    main()
