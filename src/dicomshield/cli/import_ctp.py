"""``dicomshield import-ctp``: the masks of a CTP pixel script."""

from __future__ import annotations

from pathlib import Path

import click

from ..errors import PolicyError


@click.command("import-ctp", short_help="Turn a script for CTP's DicomPixelAnonymizer into masks of a policy.")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), metavar="POLICY", help="New file; printed if not given.")
def command(file: Path, out: Path | None) -> None:
    """Turn FILE, a script for the DicomPixelAnonymizer of RSNA's CTP, into [[mask]] blocks of a policy.

    What matched in CTP matches here, and at least the same pixels go. If that cannot be had for some signature, it is
    named with the reason, and nothing is written.
    """
    from ..pixels.ctp import import_script

    try:
        masks = import_script(file.read_text("utf-8-sig", errors="replace"))
        if out is None:
            click.echo(masks, nl=False)
            return
        with out.open("x", encoding="utf-8") as policy:
            policy.write(masks)
    except FileExistsError:
        raise PolicyError(f"{out} is there already: name a new file, and copy the masks from it") from None
    except OSError as error:
        raise PolicyError(f"the script cannot be read, or the policy not written: {error.strerror}") from None
    click.echo(f"{out}: {masks.count('[[mask]]')} masks")
