"""``dicomshield seal``: encrypt files as they are."""

from __future__ import annotations

import csv
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Final

import click

from ..bulk.inputs import find_files, refuse_nested
from ..errors import Reason
from ..evidence.report import Report
from ..identity.project import Project, private_file
from ..identity.pseudonym import PatientList, Pseudonymizer
from ..profile import Profile
from .options import auditor_option, keys_option, recipient_option, recipients_from
from .progress import tracked

_FILE: Final = click.Path(path_type=Path, dir_okay=False)
_AT_ONCE: Final = 64


@click.command("seal", short_help="Encrypt files as they are.")
@click.argument("source", metavar="IN", type=click.Path(path_type=Path, exists=True))
@click.argument("target", metavar="OUT", type=click.Path(path_type=Path, file_okay=False))
@recipient_option
@keys_option
@auditor_option
@click.option(
    "--project", type=click.Path(path_type=Path, file_okay=False), metavar="DIR",
    help="Folder of the project secret, whose pseudonyms name originals; created on first use.",
)  # fmt: skip
@click.option("--patients", type=_FILE, metavar="FILE", help="Curated pseudonyms, as for deidentify. PHI.")
@click.option("--list", "list_path", type=_FILE, metavar="FILE", help="Write which file became which object. PHI.")
def command(
    source: Path,
    target: Path,
    recipients: tuple[str, ...],
    keys: Path,
    auditors: tuple[str, ...],
    project: Path | None,
    patients: Path | None,
    list_path: Path | None,
) -> None:
    """Encrypt IN, a DICOM file or a folder of them, to OUT/patient/study/series/instance.dcms.

    `unseal` gives back what went in, byte for byte. De-identified objects keep their names; originals are named by the
    pseudonyms of the project, so that no name of a file shows a patient. What is not DICOM is held back.
    """
    from ..vault.ledger import Ledger
    from ..vault.sealed_storage import SealedStorage
    from ..vault.sealing import FileSealer
    from ..vault.vault import Vault

    if source.is_dir():
        refuse_nested(input=source, output=target, project=project)
        refuse_nested(input=source, keys=keys)
    refuse_nested(output=target, keys=keys)
    vault, chosen = Vault(keys), recipients_from(recipients)
    log = vault.audit(() if vault.has_log else recipients_from(auditors) or chosen)
    numbered = enumerate(find_files(source) if source.is_dir() else [str(source)], start=1)
    counts: Counter[str] = Counter()
    with ExitStack() as stack:
        storage = SealedStorage(target, vault.boxes, chosen)
        stack.callback(storage.close)
        storage.remove_leftovers()
        sealer = FileSealer(storage, _pseudonymizer(project, patients))
        ledger = Ledger(log, target, "seal", sealed=True)
        stack.callback(ledger.close)
        rows = csv.writer(stack.enter_context(private_file(list_path))) if list_path else None

        def done() -> Iterator[tuple[str, Report]]:
            while batch := [
                (path, sealer.seal(path, Report("", number))) for number, path in islice(numbered, _AT_ONCE)
            ]:
                ledger.note((report, ()) for _, report in batch)
                yield from batch

        for path, report in tracked(done(), "sealing", lambda: _count(source)):
            counts[report.reason or report.outcome] += 1
            if rows:
                rows.writerow((report.number, path, report.outcome, report.name, report.reason, report.detail))
    held_back = sum(counts[reason.name] for reason in Reason)
    click.echo(f"{counts['released']} sealed, {counts['unchanged']} sealed before, {held_back} held back: {target}")
    for reason in Reason:
        if counts[reason.name]:
            click.echo(f"  {counts[reason.name]:>6}  {reason.name}: {reason.value}")
    sys.exit(3 if held_back else 0)


def _count(source: Path) -> int:
    return sum(1 for _ in find_files(source)) if source.is_dir() else 1


def _pseudonymizer(project: Path | None, patients: Path | None) -> Pseudonymizer | None:
    if project is None:
        return None
    listed = PatientList.read(patients) if patients else None
    return Pseudonymizer(Project(project).secret, Profile.basic().date_range, listed)
