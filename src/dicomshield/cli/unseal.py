"""``dicomshield unseal``: back to plain files."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from ..bulk.inputs import find_files, refuse_nested
from ..errors import PolicyError, Quarantined, VaultError
from .options import identities_from, identity_option, keys_option
from .progress import tracked


@click.command("unseal", short_help="Decrypt sealed objects.")
@click.argument("source", metavar="IN", type=click.Path(path_type=Path, exists=True))
@click.argument("target", metavar="OUT", type=click.Path(path_type=Path))
@identity_option()
@keys_option
def command(source: Path, target: Path, identities: tuple[str, ...], keys: Path) -> None:
    """Decrypt IN, a sealed object or a folder of them, to OUT; files that are not sealed are left alone.

    What was sealed comes out as it went in. An object that was changed, cut or renamed is refused as a whole. Each
    object is a line of the audit log, if the vault has one, before its file gets a name.
    """
    from ..vault.sealed_storage import SUFFIX
    from ..vault.unsealing import Unsealer
    from ..vault.vault import Vault

    vault = Vault(keys)
    log = vault.audit() if vault.has_log else None
    unsealer = Unsealer(vault.boxes, identities_from(identities), log)
    if source.is_dir():
        refuse_nested(input=source, output=target)
        names = [(Path(path), target / Path(path).relative_to(source)) for path in find_files(source)]
        names = [(path, out.with_suffix(".dcm")) for path, out in names if path.suffix == SUFFIX]
    elif target.is_dir():
        raise PolicyError("OUT is a folder: name a file, as IN is one")
    else:
        names = [(source, target)]
    failed = 0
    for path, out in tracked(names, "unsealing", lambda: len(names)):
        try:
            unsealer.unseal(path, out)
        except (VaultError, Quarantined) as error:
            failed += 1
            click.echo(f"not opened: {path.name}: {error}", err=True)
    click.echo(f"{len(names) - failed} unsealed, {failed} not opened: {target}")
    sys.exit(4 if failed else 0)
