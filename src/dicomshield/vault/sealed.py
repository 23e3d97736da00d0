"""Seal one file, and read it again: what most programs need of the vault."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path

from . import container
from .keybox import AnyIdentity, KeyBoxes
from .recipients import Identity, Recipient, RemoteIdentity, identity_from, recipient_from
from .sealed_storage import SUFFIX
from .unsealing import Unsealer
from .vault import Vault

__all__ = ["open_sealed", "seal"]

_Path = str | os.PathLike[str]


def seal(
    source: _Path,
    target: _Path,
    recipients: str | Recipient | Sequence[str | Recipient],
    keys: _Path,
    *,
    patient: str,
    label: str | None = None,
) -> None:
    """Encrypt a file, under a new key with a key box of its own.

    For many objects see `dicomshield.vault.sealed_storage.SealedStorage`, which makes one key for each patient.

    Parameters
    ----------
    source, target : path-like
        A file that is there as ``target`` is replaced. Memory stays constant.
    recipients : str, Recipient, or a sequence of them
        Who will be able to open it: paths of certificates, public keys or key files, or ``passphrase-file:PATH``.
    keys : path-like
        The vault: the folder that gets the key box. Keep it apart from ``target``.
    patient : str
        Pseudonym, under which `dicomshield keys shred` finds the key; never an original identifier.
    label : str, optional
        What the object is known by, at most 1024 bytes; by default the name of ``target`` without ``.dcms``. It is
        not encrypted, but cannot be changed.

    Raises
    ------
    PolicyError
        If a recipient, the pseudonym, the label or the vault cannot be used.
    Quarantined
        NOT_A_FILE, UNREADABLE, CHANGED or TRUNCATED because of ``source``, DISK because of ``target`` or the vault.
    VaultError
        If the audit log of the vault cannot be written.

    Examples
    --------
    >>> seal("1.dcm", "1.dcms", "site.crt", "KEYS", patient="P1")  # doctest: +SKIP
    >>> with open_sealed("1.dcms", "site.key", "KEYS") as file:  # doctest: +SKIP
    ...     ds = pydicom.dcmread(file, stop_before_pixels=True)
    """
    several = [recipients] if isinstance(recipients, str | Recipient) else recipients
    chosen = [recipient_from(one) if isinstance(one, str) else one for one in several]
    vault = Vault(keys)
    with vault.boxes.writer(chosen) as session:
        key = session.key(patient)
        if vault.has_log:
            with vault.audit() as log:
                log.append("key", action="new", kid=key.kid.hex(), recipient=[one.kid for one in chosen])
        container.seal_file(source, target, key, _label(target) if label is None else label)


def open_sealed(
    path: _Path,
    identity: str | AnyIdentity | Sequence[str | AnyIdentity],
    keys: _Path,
    *,
    label: str | None = None,
) -> io.BufferedReader:
    """Open a sealed object as a file of which any part can be read; pydicom reads it as any other.

    Nothing is given out before it is proved. For many objects make one `dicomshield.vault.unsealing.Unsealer`, which
    opens each key box once, and give its ``key`` to `dicomshield.vault.container.open_sealed`.

    Parameters
    ----------
    path : path-like
    identity : str, Identity, RemoteIdentity, or a sequence of them
        Who opens it: path of a private key or key file, ``passphrase-file:PATH``, or a key service.
    keys : path-like
        The vault: the folder that has the key box.
    label : str, optional
        The label it must have; by default the name of the file without ``.dcms``, so that a renamed object is refused.

    Raises
    ------
    PolicyError
        If the identity cannot be read.
    VaultError
        Here and from reading: no key box, another identity or damage, or another label.
    """
    several = [identity] if isinstance(identity, str | Identity | RemoteIdentity) else identity
    unsealer = Unsealer(KeyBoxes(keys), [identity_from(one) if isinstance(one, str) else one for one in several])
    return container.open_sealed(path, unsealer.key, _label(path) if label is None else label)


def _label(path: _Path) -> str:
    return Path(path).name.removesuffix(SUFFIX)
