"""The command line; each verb is a small file of its own, imported when it is used."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any, Final

import click

from .._version import __version__
from ..errors import DicomShieldError, Quarantined, VaultError

__all__ = ["main"]

_VERBS: Final = {
    "deidentify": "De-identify a folder: IN is read, OUT gets what is safe to share.",
    "plan": "Show what would be done with each attribute of FILE, and why.",
    "explain": "Say what the standard and the options ask for one attribute.",
    "verify": "Search OUTPUT for values of the patient of ORIGINAL.",
    "preview": "Draw what would be masked in FILE, as a PNG.",
    "mask": "Black out regions of pixels, and change nothing else.",
    "zones": "Propose masks for devices from where text recurs in their images.",
    "contact-sheet": "Draw an HTML page of what was released, for the person who signs.",
    "import-ctp": "Turn a script for CTP's DicomPixelAnonymizer into masks of a policy.",
    "seal": "Encrypt files, or a folder of them, so that they are safe at rest.",
    "unseal": "Decrypt what `deidentify --seal` or `seal` encrypted.",
    "reidentify": "Give released objects their original headers back; needs keys.",
    "keys": "Make keys, and say who can open what is sealed.",
    "crosswalk": "Find a patient again, and move the crosswalk.",
    "audit": "Verify and export the audit log.",
    "demo": "Build a small folder of real images with made-up patients, and de-identify it.",
    "dicomdir": "Write a DICOMDIR for a folder of released objects.",
}


class _Verbs(click.Group):
    """Imports a verb's file when it is called, so that each starts fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(_VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _VERBS:
            return None
        command: click.Command = import_module(f".{cmd_name.replace('-', '_')}", __name__).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl(list(_VERBS.items()))


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="dicomshield")
def _dicomshield() -> None:
    """Make medical images safe to share.

    Exit status: 0 all released, 3 some held back, 2 wrong usage or policy.
    """


def main(args: list[str] | None = None, **extra: Any) -> None:
    """Run the command line and exit."""
    try:
        # click would answer Ctrl-C itself
        done = _dicomshield.main(args, prog_name="dicomshield", standalone_mode=False, **extra)
        sys.exit(done if isinstance(done, int) else 0)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except Quarantined as cause:
        click.echo(f"held back: {cause}\n  {cause.reason.value}", err=True)
        sys.exit(3)
    except DicomShieldError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(4 if isinstance(error, VaultError) else 2)
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted; run the same command again to complete it", err=True)
        sys.exit(130)
