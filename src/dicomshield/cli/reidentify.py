"""``dicomshield reidentify``: original headers, for those who hold a key."""

from __future__ import annotations

import re
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from ..bulk.inputs import find_files, refuse_nested
from ..errors import PolicyError, Quarantined, VaultError
from .options import (
    DEFAULT_PROJECT,
    auditor_option,
    identities_from,
    identity_option,
    keys_option,
    made_project,
    recipients_from,
)
from .progress import tracked

if TYPE_CHECKING:
    from ..vault.reidentification import CertificateKey

_FILE: Final = click.Path(path_type=Path, dir_okay=False)
_RELEASED: Final = re.compile(r"[0-9.]+\.dcms?")


@click.command("reidentify", short_help="Give released objects their original headers back.")
@click.argument("source", metavar="IN", type=click.Path(path_type=Path, exists=True))
@click.argument("target", metavar="OUT", type=click.Path(path_type=Path))
@keys_option
@identity_option(required=False)
@click.option(
    "--project", type=click.Path(path_type=Path, file_okay=False), metavar="DIR",
    help="Folder of the project secret: opens the crosswalk, and proves encrypted attributes. "
    f"[{DEFAULT_PROJECT}, if it is there and the vault has a crosswalk]",
)  # fmt: skip
@click.option("--certificate", type=_FILE, metavar="FILE", help="One that attributes were encrypted for.")
@click.option("--certificate-key", metavar="KEY", help="Its private key, PEM or DER.")
@auditor_option
def command(
    source: Path,
    target: Path,
    keys: Path,
    identities: tuple[str, ...],
    project: Path | None,
    certificate: Path | None,
    certificate_key: str | None,
    auditors: tuple[str, ...],
) -> None:
    """Restore the original headers of IN, a released object or a folder of them, plain or sealed, in OUT. PHI.

    They come from the encrypted attributes of the object, if there are any that open, else from the crosswalk. Each
    object is a line of the audit log before its file gets a name.
    """
    from ..vault.reidentification import Reidentifier
    from ..vault.vault import Vault

    if (certificate is None) != (certificate_key is None):
        raise PolicyError("encrypted attributes open with both: --certificate FILE and --certificate-key KEY")
    if not identities and certificate is None:
        raise PolicyError("nothing opens without a key: --with IDENTITY, or --certificate and --certificate-key")
    vault, known = Vault(keys), identities_from(identities)
    if project is None and vault.has_crosswalk and Path(DEFAULT_PROJECT, "secret.key").exists():
        project = Path(DEFAULT_PROJECT)
    own = _own(certificate, certificate_key) if certificate and certificate_key else None
    names = _names(source, target)
    failed = unproven = 0
    with ExitStack() as stack:
        log = stack.enter_context(vault.audit(() if vault.has_log else recipients_from(auditors)))
        secret = made_project(project) if project else None
        reidentifier = stack.enter_context(Reidentifier(vault, known, project=secret, certificate_key=own, log=log))
        for number, (path, out) in enumerate(tracked(names, "re-identifying", lambda: len(names)), start=1):
            try:
                unproven += not reidentifier.file(path, out).proven
            except (VaultError, Quarantined) as error:
                failed += 1
                # a name that is no UID may be somebody's
                shown = path.name if _RELEASED.fullmatch(path.name) else f"file {number} of IN"
                click.echo(f"not re-identified: {shown}: {error}", err=True)
    if unproven:
        click.echo(
            f"note: of {unproven} it is not proved who wrote the originals: that takes the project, --project", err=True
        )
    click.echo(f"{len(names) - failed} re-identified (PHI), {failed} not: {target}")
    sys.exit(4 if failed else 0)


def _names(source: Path, target: Path) -> list[tuple[Path, Path]]:
    """Return what is read and what is written."""
    if not source.is_dir():
        if target.is_dir():
            raise PolicyError("OUT is a folder: name a file, as IN is one")
        return [(source, target)]
    refuse_nested(input=source, output=target)
    found = [Path(path) for path in find_files(source)]
    return [(path, (target / path.relative_to(source)).with_suffix(".dcm")) for path in found]


def _own(certificate: Path, key: str) -> CertificateKey:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

    from ..vault.encrypted_attributes import read_certificate
    from ..vault.recipients import identity_from
    from ..vault.reidentification import CertificateKey

    identity, public = identity_from(key), read_certificate(certificate)
    private = identity.key.private_key
    if not isinstance(private, RSAPrivateKey) or private.public_key() != public.public_key():
        raise PolicyError("the certificate and the key do not belong together")
    return CertificateKey(public, private, identity.kid)
