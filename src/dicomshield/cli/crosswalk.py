"""``dicomshield crosswalk``: who is who, for those who may know; every question lands in the audit log."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from ..errors import PolicyError, VaultError
from .options import (
    auditor_option,
    identities_from,
    identity_option,
    keys_option,
    made_project,
    made_project_option,
    recipient_option,
    recipients_from,
)

if TYPE_CHECKING:
    from ..vault.audit import AuditLog
    from ..vault.crosswalk import Crosswalk, Entry, Lookup
    from ..vault.keys import DataKey
    from ..vault.recipients import Recipient
    from ..vault.vault import Vault

    OpenKey = Callable[[bytes, str], DataKey]

_FILE: Final = click.Path(path_type=Path, dir_okay=False)
_BATCH: Final = 1000
"""Blind indexes in one audit line."""


@click.group("crosswalk", short_help="Find a patient again, and move the crosswalk.")
def command() -> None:
    """Find out who is who. Every question is written to the audit log before it is answered."""


@command.command("lookup", short_help="Original behind a pseudonym, or the other way.")
@click.argument("pseudonyms", metavar="[PSEUDONYM]...", nargs=-1)
@keys_option
@made_project_option
@identity_option()
@click.option("--originals", type=click.File(encoding="utf-8", errors="surrogateescape"), metavar="FILE",
              help="Original identifiers, one a line (PHI); `-` reads standard input.")  # fmt: skip
@click.option("--kind", type=click.Choice(["patient", "study", "uid"]), default="patient", show_default=True,
              help="What the originals are; a patient without Patient ID is a study.")  # fmt: skip
@click.option("--issuer", default="", metavar="TEXT", help="Issuer of the original Patient IDs.")
@auditor_option
def lookup(
    pseudonyms: tuple[str, ...],
    keys: Path,
    project: Path,
    identities: tuple[str, ...],
    originals: Any,
    kind: str,
    issuer: str,
    auditors: tuple[str, ...],
) -> None:
    """Show the original behind each PSEUDONYM (PHI), or the pseudonyms of originals.

    Both ways take an identity that opens the patient's key box. Originals are asked for, or read from a file: a command
    line is seen by others.
    """
    if pseudonyms and (originals or issuer):
        raise PolicyError("one way at a time: PSEUDONYM, or originals")
    vault, known = _made_vault(keys), identities_from(identities)
    with _log(vault, auditors) as log:
        noting = vault.noting(log, "original" if pseudonyms else "pseudonym", known)
        with vault.crosswalk(made_project(project), on_lookup=noting) as crosswalk:
            if pseudonyms:
                missing = _originals_of(crosswalk, pseudonyms, vault.opener(known))
            else:
                missing = _pseudonyms_of(crosswalk, kind, _asked(originals), issuer, vault.opener(known))
    sys.exit(4 if missing else 0)


@command.command("import", short_help="Enter a list from CSV.")
@click.argument("source", metavar="CSV", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@keys_option
@made_project_option
@recipient_option
@auditor_option
def import_(source: Path, keys: Path, project: Path, recipients: tuple[str, ...], auditors: tuple[str, ...]) -> None:
    """Enter the lines of CSV: id_old,issuer,id_new, and maybe kind, patient and more; all or none of them.

    What is there already stays as it is. Patients with new rows get a new key, sealed to the recipients.
    """
    vault, chosen = _vault(keys), recipients_from(recipients)
    with _log(vault, auditors, chosen) as log, vault.boxes.writer(chosen) as session:
        with vault.crosswalk(made_project(project)) as crosswalk:
            new = crosswalk.import_csv(source, session.key)
        _note_new(log, "import", new)
    click.echo(f"{len(new)} new rows; {source} holds PHI: delete it if it is not needed")


@command.command("export", short_help="Write everything to CSV (PHI).")
@click.option("--out", required=True, type=_FILE, metavar="FILE", help="A new file, mode 600. PHI.")
@keys_option
@made_project_option
@identity_option()
@auditor_option
def export(out: Path, keys: Path, project: Path, identities: tuple[str, ...], auditors: tuple[str, ...]) -> None:
    """Write all that the identities open to a CSV file, which `crosswalk import` reads."""
    vault, known = _made_vault(keys), identities_from(identities)
    with _log(vault, auditors) as log:

        def note(lookup: Lookup) -> None:
            log.append("crosswalk", action="export", count=lookup.rows, identity=[one.kid for one in known])

        with vault.crosswalk(made_project(project), on_lookup=note) as crosswalk:
            written, gone = crosswalk.export_csv(out, vault.opener(known))
    click.echo(f"{out}: {written} rows (PHI)" + (f"; {gone} left out, as their keys are gone" if gone else ""))


@command.command("merge", short_help="Take over other crosswalks.")
@click.argument("others", metavar="CROSSWALK...", nargs=-1, required=True, type=click.Path(path_type=Path))
@keys_option
@made_project_option
@auditor_option
def merge(others: tuple[Path, ...], keys: Path, project: Path, auditors: tuple[str, ...]) -> None:
    """Take over the rows of other crosswalks of the same project, as of one for each worker.

    CROSSWALK is a file crosswalk.sqlite, or the vault that has it. Rows open by their key boxes: copy those too.
    """
    vault = _vault(keys)
    paths = [path / "crosswalk.sqlite" if path.is_dir() else path for path in others]
    with _log(vault, auditors) as log:
        with vault.crosswalk(made_project(project)) as crosswalk:
            new = crosswalk.merge(paths)
        _note_new(log, "merge", new)
    click.echo(f"{len(new)} new rows")


def _vault(keys: Path) -> Vault:
    from ..vault.vault import Vault

    return Vault(keys)


def _made_vault(keys: Path) -> Vault:
    """Return a vault that has a crosswalk; in a new one nothing would be found."""
    vault = _vault(keys)
    if not vault.has_crosswalk:
        raise PolicyError("there is no crosswalk in this folder: name the vault with --keys")
    return vault


def _log(vault: Vault, auditors: tuple[str, ...], recipients: Sequence[Recipient] = ()) -> AuditLog:
    """Open the log first: what cannot be written down is not done."""
    return vault.audit(() if vault.has_log else recipients_from(auditors) or recipients)


def _note_new(log: AuditLog, action: str, new: list[str]) -> None:
    parts = [new[at : at + _BATCH] for at in range(0, len(new), _BATCH)] or [[]]
    log.append_many(("crosswalk", {"action": action, "count": len(part), "bidx": part}) for part in parts)


def _originals_of(crosswalk: Crosswalk, pseudonyms: tuple[str, ...], open_key: OpenKey) -> int:
    """Show what stands behind pseudonyms; return how many were not found or do not open."""
    missing = 0
    for pseudonym in pseudonyms:
        try:
            click.echo(_told(crosswalk.original_of(pseudonym, open_key)))
        except VaultError as error:
            missing += 1
            click.echo(f"{_shown(pseudonym)}: {error}", err=True)
    return missing


def _told(entry: Entry) -> str:
    issuer = f", issuer {_shown(entry.issuer)}" if entry.issuer else ""
    lines = [f"{entry.pseudonym}: {entry.kind} {_shown(entry.original)}{issuer}"]
    return "\n".join(lines + [f"  {_shown(name)}: {_shown(value)}" for name, value in sorted(entry.more.items())])


def _shown(text: str) -> str:
    """Spell out what a terminal would obey."""
    return "".join(one if one.isprintable() else f"\\x{ord(one):02x}" for one in text)


def _asked(file: Any) -> Iterator[str]:
    """Yield originals; without a file one is asked for."""
    if file is None:
        yield click.prompt("Original identifier", err=True)
        return
    for line in file:
        if line.strip():
            yield line.rstrip("\r\n")


def _pseudonyms_of(crosswalk: Crosswalk, kind: str, originals: Iterator[str], issuer: str, open_key: OpenKey) -> int:
    """Show pseudonyms, in the order of the originals, which are not repeated; return how many were not found."""
    missing = 0
    for number, original in enumerate(originals, 1):
        problem = "not in the crosswalk"
        try:
            pseudonym = crosswalk.pseudonym_of(kind, original, issuer, open_key=open_key)
        except VaultError as error:
            pseudonym, problem = None, str(error)
        missing += pseudonym is None
        click.echo(pseudonym or f"number {number}: {problem}", err=pseudonym is None)
    return missing
