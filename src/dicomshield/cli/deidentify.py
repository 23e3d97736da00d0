"""``dicomshield deidentify``: the main job."""

from __future__ import annotations

import contextlib
import csv
import os
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple

import click

from ..bulk.folder import Run
from ..bulk.inputs import refuse_nested
from ..deidentifier import Deidentifier
from ..errors import PolicyError, Reason
from ..identity.project import Project, private_file
from ..identity.pseudonym import PatientList
from ..pixels.region import Region
from ..storage import Durability, Storage
from .options import auditor_option, policy_options, profile_from, project_option, recipients_from
from .progress import tracked

if TYPE_CHECKING:
    from ..vault.encrypted_attributes import Encloser, Mode
    from ..vault.entering import Entering
    from ..vault.ledger import Ledger

_FOLDER = click.Path(path_type=Path, file_okay=False)
_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command("deidentify", short_help="De-identify a folder.")
@click.argument("in_folder", metavar="IN", type=click.Path(path_type=Path))
@click.argument("out_folder", metavar="OUT", type=_FOLDER)
@policy_options
@project_option
@click.option("--workers", type=click.IntRange(1), default=os.cpu_count() or 1, show_default=True, help="Processes.")
@click.option("--report", type=_FILE, metavar="FILE", help="Write a line of JSON for each object; holds no PHI.")
@click.option(
    "--contact-sheet", "sheet", type=_FILE, metavar="FILE", help="With --report: draw what left, as HTML to sign."
)
@click.option("--quarantine", type=_FOLDER, metavar="DIR", help="Copy originals that are held back there. PHI.")
@click.option(
    "--seal", "recipients", multiple=True, metavar="RECIPIENT",
    help="Encrypt outputs for a certificate, public key or key file, or `passphrase:`; repeatable.",
)  # fmt: skip
@click.option(
    "--crosswalk", "keepers", multiple=True, metavar="RECIPIENT",
    help="Write down who is who, encrypted in the vault, for these recipients; repeatable.",
)  # fmt: skip
@click.option(
    "--encrypt-attributes", "certificates", multiple=True, type=_FILE, metavar="CERTIFICATE",
    help="Put the original attributes into each output, encrypted for the owner of a certificate; repeatable.",
)  # fmt: skip
@click.option(
    "--attributes-mode", "mode", type=click.Choice(["ps3.15", "oaep"]), default="ps3.15", show_default=True,
    help="How --encrypt-attributes wraps its key: RSA PKCS#1 v1.5 as PS3.15 asks, or RSAES-OAEP.",
)  # fmt: skip
@click.option("--keys", type=_FOLDER, metavar="DIR", help="The vault, apart from OUT: key boxes, crosswalk, audit log.")
@auditor_option
@click.option("--patients", type=_FILE, metavar="FILE", help="Curated pseudonyms: id_old,issuer,id_new. PHI.")
@click.option("--only-listed", is_flag=True, help="Hold back patients that --patients does not name.")
@click.option("--patient-map", type=_FILE, metavar="FILE", help="Write id_old,id_new of every patient. PHI.")
@click.option("--uid-map", type=_FILE, metavar="FILE", help="Write id_old,id_new of every UID. PHI.")
@click.option(
    "--verify", type=click.Choice(["residual", "full"]), default="residual", show_default=True,
    help="full also reads each output with pydicom and checks it against its SOP class.",
)  # fmt: skip
@click.option(
    "--durability", type=click.Choice([d.value for d in Durability]), default="none", show_default=True,
    help="When files are forced to the disk.",
)  # fmt: skip
def command(
    in_folder: Path,
    out_folder: Path,
    options: tuple[str, ...],
    policy: Path | None,
    regions: tuple[Region, ...],
    project: Path,
    workers: int,
    report: Path | None,
    sheet: Path | None,
    quarantine: Path | None,
    recipients: tuple[str, ...],
    keepers: tuple[str, ...],
    certificates: tuple[Path, ...],
    mode: Mode,
    keys: Path | None,
    auditors: tuple[str, ...],
    patients: Path | None,
    only_listed: bool,
    patient_map: Path | None,
    uid_map: Path | None,
    verify: str,
    durability: str,
) -> None:
    """De-identify every DICOM object under IN into OUT/patient/study/series/instance.dcm.

    What cannot be proved clean is held back with a reason. Running again completes what is missing and
    changes nothing else.
    """
    profile = profile_from(options, policy, regions)
    if only_listed:
        profile = replace(profile, only_listed=True)
    if profile.only_listed and patients is None:
        raise PolicyError("holding back unlisted patients needs a list: --patients FILE")
    if sheet:
        _require_drawable(sheet, report, recipients)
    # before a secret is made where it would be released
    refuse_nested(input=in_folder, output=out_folder)
    refuse_nested(output=out_folder, project=project)
    refuse_nested(output=out_folder, keys=keys)
    refuse_nested(input=in_folder, keys=keys)
    opened = Project(project)
    deidentifier = Deidentifier(
        profile, project=opened, patients=PatientList.read(patients) if patients else None,
        verify_fully=verify == "full", durability=Durability(durability), keep_originals=bool(keepers),
        encloser=_encloser(opened, certificates, mode) if certificates else None,
    )  # fmt: skip
    vault = _vault(deidentifier, out_folder, keys, recipients, keepers, auditors, certificates)
    deidentifier.pseudonymizer.recording = bool(patient_map or uid_map)
    with contextlib.ExitStack() as stack:
        lines = stack.enter_context(_report_file(report)) if report else None
        run = stack.enter_context(
            Run(
                deidentifier, in_folder, out_folder, workers=workers, quarantine=quarantine, lines=lines is not None,
                **vault._asdict(),
            )
        )  # fmt: skip
        if vault.ledger is not None:
            stack.callback(vault.ledger.close)
        counts = _follow(run, lines)
        for path, pairs in ((patient_map, run.patients), (uid_map, run.uids)):
            if path:
                _write_map(path, pairs)
    maps = [path for path in (patient_map, uid_map) if path]
    _summarise(counts, deidentifier, run, out_folder, quarantine, maps, keys, vault)
    if sheet and report:
        from .contact_sheet import write

        write(out_folder, report, sheet)
    sys.exit(3 if counts["quarantined"] else 0)


def _require_drawable(sheet: Path, report: Path | None, recipients: tuple[str, ...]) -> None:
    """Refuse, before the work, a contact sheet that could not be drawn after it."""
    if report is None or recipients:
        raise PolicyError("a contact sheet is drawn from plain outputs and their report: --report FILE, and no --seal")
    if sheet.exists():
        raise PolicyError("the contact sheet is there already: name a new file")


class _Parts(NamedTuple):
    """What of the vault a run uses, by the names of its arguments."""

    storage: Storage | None
    crosswalk: Entering | None
    ledger: Ledger | None


def _vault(
    deidentifier: Deidentifier, out: Path, keys: Path | None, seal: tuple[str, ...], keepers: tuple[str, ...],
    auditors: tuple[str, ...], certificates: tuple[Path, ...],
) -> _Parts:  # fmt: skip
    """Open the vault, if there is to be one; each release is a line of its audit log."""
    if keys is None:
        if seal or keepers or auditors:
            raise PolicyError("--seal, --crosswalk and --auditor need a vault: --keys DIR")
        return _Parts(None, None, None)
    from ..vault.entering import Entering
    from ..vault.ledger import Ledger
    from ..vault.sealed_storage import SealedStorage
    from ..vault.vault import Vault

    vault, sealers, holders = Vault(keys), recipients_from(seal), recipients_from(keepers)
    names = auditors or (() if seal or keepers else tuple(map(str, certificates)))
    # whoever reads what this run writes can verify the log, if nobody else is named
    log = vault.audit(() if vault.has_log else recipients_from(names) or sealers or holders)
    storage = SealedStorage(out, vault.boxes, sealers) if sealers else None
    durable = bool(sealers) or deidentifier.durability is Durability.FILE
    entering = Entering(vault, deidentifier.project, holders, durable=durable) if holders else None
    ledger = Ledger(log, out, "release", sealed=bool(sealers), profile=deidentifier.profile.whole_digest)
    return _Parts(storage, entering, ledger)


def _encloser(project: Project, paths: tuple[Path, ...], mode: Mode) -> Encloser:
    """Return what encrypts original attributes, and tell what is questionable about the certificates."""
    from ..vault.encrypted_attributes import Encloser, certificate_warnings, mac_key, read_certificate

    certificates = [read_certificate(path) for path in paths]
    for note in certificate_warnings(certificates):
        click.echo(f"note: {note}", err=True)
    return Encloser(certificates, mac_key(project), mode)


@contextlib.contextmanager
def _report_file(path: Path) -> Iterator[IO[str]]:
    try:
        with open(path, "w", encoding="utf-8") as file:
            yield file
    except OSError as error:
        raise PolicyError(f"the report cannot be written: {error.strerror}") from None


def _follow(run: Run, lines: IO[str] | None) -> Counter[str]:
    """Show progress and count what became of the objects; reasons are counted under their names."""
    counts: Counter[str] = Counter()
    for done in tracked(run, "de-identifying", run.count):
        counts[done.report.outcome] += 1
        if done.report.reason:
            counts[done.report.reason] += 1
        if lines:
            lines.write(done.line + "\n")
    return counts


def _write_map(path: Path, pairs: dict[str, str]) -> None:
    try:
        with private_file(path) as file:
            rows = csv.writer(file)
            rows.writerow(("id_old", "id_new"))
            rows.writerows(sorted(pairs.items()))
    except OSError as error:
        raise PolicyError(f"a map cannot be written: {error.strerror}") from None


def _summarise(
    counts: Counter[str], deidentifier: Deidentifier, run: Run, out: Path, quarantine: Path | None, maps: list[Path],
    keys: Path | None, vault: _Parts,
) -> None:  # fmt: skip
    if deidentifier.project.created:
        click.echo(f"made a new project secret in {deidentifier.project.folder}: keep it, and keep it secret")
    click.echo(
        f"{counts['released']} released, {counts['unchanged']} released before, {counts['quarantined']} held back"
    )
    click.echo(
        f"safe to share by their headers and masks: {out}" + (f"; sealed, keys in {keys}" if vault.storage else "")
    )
    if vault.crosswalk:
        click.echo(f"who is who, encrypted: {keys}")
    if counts["quarantined"]:
        click.echo("held back:")
        for reason in Reason:
            if counts[reason.name]:
                click.echo(f"  {counts[reason.name]:>6}  {reason.name}: {reason.value}")
        if quarantine:
            click.echo(f"originals held back (PHI): {quarantine / run.list_path.stem}")
    click.echo(f"which file is which object (PHI): {run.list_path}")
    for path in maps:
        click.echo(f"original and new identifiers (PHI): {path}")
