"""``dicomshield keys``: key files, and the boxes that hold the keys of sealed objects."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .options import recipients_from

if TYPE_CHECKING:
    from ..vault.keybox import Change

_BOXES = click.option(
    "--keys", required=True, type=click.Path(path_type=Path, file_okay=False), metavar="DIR", help="Key boxes."
)
_TO = click.option(
    "--to", "recipients", multiple=True, required=True, metavar="RECIPIENT",
    help="Certificate, public key or key file, or `passphrase:`; repeatable.",
)  # fmt: skip
_WITH = click.option(
    "--with", "identities", multiple=True, required=True, metavar="IDENTITY",
    help="Private key or key file that opens the boxes now, or `passphrase:`; repeatable.",
)  # fmt: skip


@click.group("keys", short_help="Make keys, and say who can open what is sealed.")
def command() -> None:
    """Make key files, and say who can open what is sealed; sealed objects are never touched."""


@command.command("new")
@click.option("--file", "path", required=True, type=click.Path(path_type=Path, dir_okay=False), metavar="K")
def new(path: Path) -> None:
    """Write a new key file: 32 random bytes. Whoever has it opens what is sealed to it."""
    from ..vault.recipients import new_key_file

    new_key_file(path)
    click.echo(f"{path}: a new key (secret); keep a copy apart from what it seals, without it nothing opens")


@command.command("list")
@_BOXES
def list_(keys: Path) -> None:
    """List patients by pseudonym, the names of their keys, and for whom each box is."""
    from ..vault.keybox import KeyBoxes

    for box in KeyBoxes(keys).list():
        recipients = ", ".join(f"{alg} {kid}" for alg, kid in box.recipients) or "damaged"
        click.echo(f"{box.patient}  {box.kid.hex()}  {recipients}")


@command.command("add")
@_BOXES
@_TO
@_WITH
def add(keys: Path, recipients: tuple[str, ...], identities: tuple[str, ...]) -> None:
    """Let more recipients open every box; those it has stay."""
    from ..vault.keybox import KeyBoxes
    from ..vault.recipients import identity_from

    _tell(KeyBoxes(keys).add([identity_from(text) for text in identities], recipients_from(recipients)))


@command.command("rotate")
@_BOXES
@_TO
@_WITH
def rotate(keys: Path, recipients: tuple[str, ...], identities: tuple[str, ...]) -> None:
    """Seal every box anew, to these recipients and nobody else.

    Who copied a box before still opens his copy: after a theft, seal to new keys what is new.
    """
    from ..vault.keybox import KeyBoxes
    from ..vault.recipients import identity_from

    _tell(KeyBoxes(keys).rotate([identity_from(text) for text in identities], recipients_from(recipients)))


@command.command("shred")
@_BOXES
@click.argument("patient")
@click.confirmation_option(prompt="What was sealed for this patient can never be opened again. Go on?")
def shred(keys: Path, patient: str) -> None:
    """Delete the keys of PATIENT (a pseudonym): what was sealed for the patient opens no more.

    Copies of the boxes, as in backups, still open, and so may what a disk keeps of deleted files.
    """
    from ..vault.keybox import KeyBoxes

    count = KeyBoxes(keys).shred(patient)
    click.echo(f"{count} keys deleted; delete them in backups too")


def _tell(changes: Iterable[Change]) -> None:
    done = failed = 0
    for change in changes:
        done, failed = done + change.done, failed + (not change.done)
    click.echo(f"{done} boxes changed, {failed} could not be opened and are as they were")
    sys.exit(4 if failed else 0)
