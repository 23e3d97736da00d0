"""``dicomshield audit``: what an auditor does with the log of a vault."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from ..errors import PolicyError, VaultError
from .options import identities_from, identity_option, keys_option

if TYPE_CHECKING:
    from ..vault.audit_verification import Verdict

_FILE: Final = click.Path(path_type=Path, dir_okay=False)
_LONGEST: Final = 1 << 16


@click.group("audit", short_help="Verify and export the audit log.")
def command() -> None:
    """Verify and export the audit log of a vault, and sign what it is now."""


@command.command("verify")
@keys_option
@identity_option(required=False)
@click.option("--checkpoint", "checkpoints", multiple=True, type=_FILE, metavar="FILE",
              help="A checkpoint that was kept elsewhere; repeatable.")  # fmt: skip
@click.option("--public-key", type=_FILE, metavar="FILE",
              help="Copy of audit/audit.pub that was kept elsewhere; verifies checkpoints.")  # fmt: skip
def verify(keys: Path, identities: tuple[str, ...], checkpoints: tuple[Path, ...], public_key: Path | None) -> None:
    """Say what is proved about the log, and what is not; exit status 4 if anything is wrong.

    The vault may be a copy: its folder `audit` is all that is read. An identity of the auditor opens the first key,
    which shows any change of a line. Checkpoints from elsewhere show a log that was set back as a whole.
    """
    from ..vault.audit_verification import verify as verdict_on
    from ..vault.vault import Vault

    log = keys / "audit"
    key = Vault(keys).first_key(identities_from(identities)) if identities else None
    notes = [_text(path) for path in checkpoints]
    verifier = _text(public_key or log / "audit.pub") if notes else None
    verdict = verdict_on(log / "audit.log", key, notes, verifier)
    click.echo(f"{verdict.lines} lines: {', '.join(f'{count} {name}' for name, count in verdict.events.items())}")
    _tell("proved", _proved(verdict, with_key=key is not None))
    _tell("not proved", _unproved(verdict, with_key=key is not None, notes=len(notes), own_key=public_key is None))
    _tell("wrong", map(str, verdict.problems))
    sys.exit(0 if verdict.ok else 4)


@command.command("checkpoint")
@keys_option
@click.option("--out", type=_FILE, metavar="FILE", help="Write it to a new file, not to the terminal.")
def checkpoint(keys: Path, out: Path | None) -> None:
    """Sign what the log is now. Keep the result elsewhere: on another host, in a mail, on paper."""
    from ..vault.vault import Vault

    with Vault(keys).audit() as log:
        note = log.checkpoint()
    if out is None:
        click.echo(note, nl=False)
    else:
        _write(out, [note])
        click.echo(f"{out}: a checkpoint; keep it where nobody who can change the log can change it")


@command.command("export")
@keys_option
@click.option("--form", required=True, type=click.Choice(["dicom", "fhir"]),
              help="DICOM Audit Messages (PS3.15 A.5) or FHIR R4 AuditEvent, one a line.")  # fmt: skip
@click.option("--out", required=True, type=_FILE, metavar="FILE", help="A new file.")
def export(keys: Path, form: str, out: Path) -> None:
    """Translate the log for a repository. Verify it first: what is exported is not verified."""
    from ..vault.audit_export import Form
    from ..vault.audit_export import export as messages

    count = _write(out, (f"{message}\n" for message in messages(keys / "audit" / "audit.log", Form(form))))
    click.echo(f"{out}: {count} messages")


def _proved(verdict: Verdict, *, with_key: bool) -> Iterator[str]:
    if with_key and verdict.ok:
        yield f"all {verdict.lines} lines are what this log wrote, in this order, and none between them is missing"
    elif with_key:
        yield f"{verdict.proven} of {verdict.lines} lines are what this log wrote"
    if verdict.covered:
        yield f"lines 1 to {verdict.covered} are those that a checkpoint was signed for"
    if not with_key and not verdict.covered:
        yield "nothing; only the numbers of the lines were looked at"


def _unproved(verdict: Verdict, *, with_key: bool, notes: int, own_key: bool) -> Iterator[str]:
    if not with_key:
        place = f"after line {verdict.covered} " if verdict.covered else ""
        yield f"that lines {place}are what was written: name an identity of the auditor, --with IDENTITY"
    if not verdict.covered:
        yield "that the log was not set back to an earlier state: that takes a checkpoint from elsewhere, --checkpoint"
    else:
        yield f"that nothing was cut off behind line {verdict.covered}: that takes a newer checkpoint"
    if notes and own_key:
        yield "that the checkpoints are genuine, if somebody could change this folder: its own public key verified"\
              " them; keep a copy of audit.pub elsewhere, --public-key FILE"  # fmt: skip
    yield "that whoever ran this system wrote down all that it did"


def _tell(what: str, sentences: Iterable[str]) -> None:
    for at, sentence in enumerate(sentences):
        click.echo(("" if at else f"{what}:\n") + f"  - {sentence}")


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_LONGEST + 1).decode()
    except OSError as error:
        raise PolicyError(f"a checkpoint or public key cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise VaultError("a checkpoint or public key is no text") from None


def _write(path: Path, texts: Iterable[str]) -> int:
    """Write a new file of mode 0600, as a whole or not at all; return how many texts went into it."""
    from ..vault.files import whole_file, write_all

    count = 0
    try:
        with whole_file(path, replace=False) as fd:
            for text in texts:
                write_all(fd, text.encode())
                count += 1
    except FileExistsError:
        raise PolicyError(f"{path} is there already: name a new file") from None
    except OSError as error:
        raise PolicyError(f"the output cannot be written: {error.strerror}") from None
    return count
