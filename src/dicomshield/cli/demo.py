"""``dicomshield demo``: the main job on real images, with made-up patients."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Final

import click

from ..bulk.folder import Run
from ..deidentifier import Deidentifier
from ..encoding.source import Source
from ..errors import MissingExtra, PolicyError, Quarantined
from ..preview import preview
from ..profile import Profile
from ..standard import tables

_PATIENTS: Final = (
    ("Castellanos^Mirabel", "48213377", "19461103", "Hollowbrook Regional Hospital", "Okonjo^Adaeze"),
    ("Vandermeer^Joost", "77120945", "19900215", "Sint-Godelieve Kliniek", "Thibodeaux^Luc"),
    ("Yamashiro^Kenjirou", "30558816", "19781209", "Aomizu Medical Center", "Brzezinski^Ola"),
)
_IMAGES: Final = (
    ("CT_small.dcm", 0), ("MR_small_implicit.dcm", 0), ("MR_small_bigendian.dcm", 1), ("693_J2KI.dcm", 1),
    ("liver_1frame.dcm", 2), ("rtplan.dcm", 0), ("reportsi.dcm", 1), ("waveform_ecg.dcm", 2), ("image_dfl.dcm", 2),
    ("examples_palette.dcm", 2), ("examples_rgb_color.dcm", 0), ("examples_ybr_color.dcm", 1),
)  # fmt: skip
_POLICY: Final = """\
options = ["RETAIN_MODIFIED_DATES"{search}]

[[mask]]
name = "Philips, 800 columns"
when = { Modality = "US", Manufacturer = "Philips*", Columns = 800 }
regions = [[0, 0, 800, 60], [0, 60, 80, 200], [80, 60, 240, 50]]

[[mask]]
name = "GE, 320 columns"
when = { Modality = "US", Manufacturer = "G.E.*", Columns = 320 }
regions = [[0, 0, 320, 52], [180, -15, 140, 15]]

[[mask]]
name = "SonoSite cine"
when = { Modality = "US", Manufacturer = "SonoSite*" }
regions = [[0, 0, 70, 32], [-32, 0, 32, 140], [0, -18, 320, 18]]
"""
_SHOWN: Final = ("PatientName", "PatientID", "PatientBirthDate", "InstitutionName", "StudyDate", "StudyInstanceUID")


@click.command("demo", short_help="De-identify a small folder of real images.")
@click.argument("folder", metavar="[FOLDER]", type=click.Path(path_type=Path), default="dicomshield-demo")
def command(folder: Path) -> None:
    """Take real DICOM files from pydicom, plant made-up identities, de-identify them and mask what they show.

    FOLDER (default: dicomshield-demo) gets incoming/, released/, held-back/, project/, policy.toml and pictures/.
    """
    incoming, released = folder / "incoming", folder / "released"
    if folder.exists() and any(folder.iterdir()):
        raise PolicyError(f"{folder} is not empty: remove it, or name another folder")
    sources = _build(incoming)
    (folder / "policy.toml").write_text(_POLICY.replace("{search}", _search()), "utf-8")
    profile = Profile.from_toml(folder / "policy.toml")
    deidentifier = Deidentifier(profile, project=folder / "project")
    first = ""
    with Run(deidentifier, incoming, released, quarantine=folder / "held-back") as run:
        click.echo(f"{len(sources)} real objects of {len(_PATIENTS)} made-up patients in {incoming}\n")
        for path, report, _ in run:
            name = tables.sop_classes().get(report.sop_class, "")
            told = f"{report.reason}: {report.detail}" if report.reason else f"released for {report.patient}"
            if report.pixels.startswith("masked"):
                told += f", {report.pixels.partition(';')[0]}"
                _draw(folder / "pictures", report.number, Path(path), released / report.name, profile)
            click.echo(f"  {report.number:>2}  {name:<36} {told}")
            first = first or report.name
    _compare(sources[0], released / first)
    click.echo(f"\nsafe to share by headers, masks: {released}")
    click.echo(f"what was masked, and by what:   {folder / 'pictures'}, {folder / 'policy.toml'}")
    click.echo(f"held back, with the reason:     {run.list_path}")
    click.echo(f"held-back originals:            {folder / 'held-back'}")
    click.echo(f"the secret of the pseudonyms:   {folder / 'project'}")


def _search() -> str:
    """Return the option that looks for text, if what it needs is installed."""
    from ..finders.text.models import require

    try:
        require()
    except MissingExtra as missing:
        click.echo(f"text in pixels is not looked for: {missing}")
        return ""
    return ', "CLEAN_PIXEL_DATA"'


def _draw(folder: Path, number: int, original: Path, output: Path, profile: Profile) -> None:
    """Draw what the policy masks in one object, and the object that was released."""
    folder.mkdir(exist_ok=True)
    for path, policy, name in ((original, profile, "masks"), (output, Profile.basic(), "released")):
        try:
            with Source.open(path) as source:
                preview(source, policy).image.save(folder / f"{number:02d}-{name}.png")
        except Quarantined as cause:
            click.echo(f"      no picture of {name}: {cause.reason.value}")


def _build(incoming: Path) -> list[Path]:
    """Write real files with planted identities, as a scanner's export would lie there."""
    import pydicom
    from pydicom.data import get_testdata_file

    written = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number, (name, who) in enumerate(_IMAGES):
            source = get_testdata_file(name, download=False)
            if not isinstance(source, str):
                continue
            person, patient_id, born, hospital, physician = _PATIENTS[who]
            dataset = pydicom.dcmread(source)
            dataset.PatientName, dataset.PatientID, dataset.PatientBirthDate = person, patient_id, born
            dataset.InstitutionName, dataset.ReferringPhysicianName = hospital, physician
            dataset.StudyDate, dataset.AccessionNumber = f"2021{who + 3:02d}14", f"ACC{patient_id}{number}"
            dataset.PatientComments = f"daughter of {person.partition('^')[0]} called, ward 4"
            block = dataset.private_block(0x0099, "ACME NOTES 1.0", create=True)
            block.add_new(0x01, "LO", person.replace("^", " "))
            path = incoming / person.partition("^")[0] / f"{person.partition('^')[0]}_{number:02d}.dcm"
            path.parent.mkdir(parents=True, exist_ok=True)
            dataset.save_as(path)
            written.append(path)
    if not written:
        raise PolicyError("pydicom is installed without its test files: reinstall it from PyPI")
    return sorted(written)


def _compare(original: Path, output: Path) -> None:
    """Show one object before and after; its patient is made up."""
    import pydicom

    before, after = (pydicom.dcmread(path, stop_before_pixels=True) for path in (original, output))
    click.echo(f"\n  {'one object':<20} {'incoming':<50} released")
    for keyword in _SHOWN:
        old, new = (str(dataset.get(keyword, "(removed)")) or "(empty)" for dataset in (before, after))
        click.echo(f"  {keyword:<20} {old[:48]:<50} {new[:48]}")
