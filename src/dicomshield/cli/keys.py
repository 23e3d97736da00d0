"""``dicomshield keys``: key files, and the boxes that hold the keys of sealed objects."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import PolicyError
from .options import (
    identities_from,
    identity_option,
    keys_option,
    made_project,
    made_project_option,
    recipient_option,
    recipients_from,
)

if TYPE_CHECKING:
    from ..vault.crosswalk import Crosswalk
    from ..vault.keybox import Change
    from ..vault.recipients import Identity, Recipient
    from ..vault.vault import Vault

    Note = Callable[..., object]


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
@keys_option
def list_(keys: Path) -> None:
    """List patients by pseudonym, the names of their keys, and for whom each box is."""
    from ..vault.keybox import KeyBoxes

    for box in KeyBoxes(keys).list():
        recipients = ", ".join(f"{alg} {kid}" for alg, kid in box.recipients) or "damaged"
        click.echo(f"{box.patient}  {box.kid.hex()}  {recipients}")


@command.command("add")
@keys_option
@recipient_option
@identity_option()
@click.option("--audit-key", is_flag=True, help="Also the box with the first key of the audit log.")
def add(keys: Path, recipients: tuple[str, ...], identities: tuple[str, ...], audit_key: bool) -> None:
    """Let more recipients open every box; those it has stay.

    The first key of the audit log is handed on with --audit-key only. Whoever has it can verify the log, and, being
    able to write to the vault as well, forge it.
    """
    from ..vault.vault import Vault

    vault, known, new = Vault(keys), identities_from(identities), recipients_from(recipients)
    with _noting(vault, "add", known, new) as note:
        failed = _follow(vault.boxes.add(known, new), note)
        if audit_key:
            failed += not _pass_on(vault, known, new, note, replace=False)
    sys.exit(4 if failed else 0)


@command.command("rotate")
@keys_option
@recipient_option
@identity_option()
def rotate(keys: Path, recipients: tuple[str, ...], identities: tuple[str, ...]) -> None:
    """Seal every box anew, to these recipients and nobody else.

    Who copied a box before still opens his copy: after a theft, seal to new keys what is new.

    If IDENTITY opens the box with the first key of the audit log, the recipients take its place there too. Other
    auditors, whom that box may be for, stay.
    """
    from ..vault.vault import Vault

    vault, known, new = Vault(keys), identities_from(identities), recipients_from(recipients)
    with _noting(vault, "rotate", known, new) as note:
        failed = _follow(vault.boxes.rotate(known, new), note)
        if vault.has_log:
            _pass_on(vault, known, new, note, replace=True)
    sys.exit(4 if failed else 0)


@command.command("shred")
@keys_option
@made_project_option
@click.argument("patient")
@click.confirmation_option(prompt="What was sealed for this patient can never be opened again. Go on?")
def shred(keys: Path, project: Path, patient: str) -> None:
    """Delete the keys of PATIENT (a pseudonym): what was sealed for the patient opens no more.

    The patient's rows in the crosswalk go too, for which the project is needed.

    Copies of the boxes, as in backups, still open, and so may what a disk keeps of deleted files.
    """
    from ..vault.vault import Vault

    vault = Vault(keys)
    with _crosswalk(vault, project) as crosswalk, _noting(vault, "shred") as note:
        kids = [kid.hex() for kid in vault.boxes.kids(patient)]
        count = vault.boxes.shred(patient)
        rows = crosswalk.forget(patient) if crosswalk else 0
        note(**_named(patient), kid=kids, count=rows)
    click.echo(f"{count} keys and {rows} crosswalk rows deleted; delete them in backups too")


@contextlib.contextmanager
def _noting(
    vault: Vault, action: str, identities: Sequence[Identity] = (), recipients: Sequence[Recipient] = ()
) -> Iterator[Note]:
    """Give what writes audit lines of changed keys, if the vault has a log; the first one says who asked for what."""
    if not vault.has_log:
        yield lambda **_: None
        return
    with vault.audit() as log:

        def note(**fields: Any) -> None:
            log.append("key", action=action, **fields)

        if recipients:
            note(identity=[one.kid for one in identities], recipient=[one.kid for one in recipients])
        yield note


def _named(patient: str) -> dict[str, str]:
    """Return the field of an audit line for a pseudonym; one that cannot stand there is known by its kid alone."""
    from ..vault.audit_lines import FORMS, has_form

    return {"patient": patient} if has_form(FORMS["patient"], patient) else {}


@contextlib.contextmanager
def _crosswalk(vault: Vault, project: Path) -> Iterator[Crosswalk | None]:
    if not vault.has_crosswalk:
        yield None
        return
    try:
        opened = vault.crosswalk(made_project(project))
    except PolicyError as error:
        raise PolicyError(f"the crosswalk is needed to delete the patient's rows: {error}") from None
    with opened as crosswalk:
        yield crosswalk


def _follow(changes: Iterable[Change], note: Note) -> int:
    """Note and count what was changed; return how many boxes were not."""
    done = failed = 0
    for change in changes:
        done, failed = done + change.done, failed + (not change.done)
        if change.done:
            note(**_named(change.patient), kid=change.kid.hex())
    click.echo(f"{done} boxes changed, {failed} could not be opened and are as they were")
    return failed


def _pass_on(
    vault: Vault, identities: Sequence[Identity], recipients: Sequence[Recipient], note: Note, *, replace: bool
) -> bool:
    kid = vault.boxes.pass_on(vault.first_box, identities, recipients, replace=replace)
    if kid:
        note(kid=kid.hex())
    click.echo("the first key of the audit log " + ("goes along" if kid else "stays as it is: it is for others"))
    return kid is not None
