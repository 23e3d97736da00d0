"""``dicomshield explain``: what is asked for one attribute."""

from __future__ import annotations

import click

from ..encoding.elements import tag_name
from ..profile import Profile
from ..standard import tables


@click.command("explain", short_help="Say what is asked for one attribute.")
@click.argument("tag")
def command(tag: str) -> None:
    """Say what the Basic Profile and each option do with TAG: a keyword, (0010,0020) or 00100020."""
    number = tables.parse_tag(tag)
    found = tables.attribute(number)
    name = f"{found.keyword} {found.vr}" if found else "not defined in PS3.6"
    click.echo(f"({number >> 16:04X},{number & 0xFFFF:04X}) {name}")
    if number >> 16 & 1:
        click.echo("  private: removed (X, Table E.1-1); RETAIN_SAFE_PRIVATE keeps what Table E.3.10-1 lists")
        return
    _, rule = Profile.basic().code(number, b"")
    click.echo(f"  Basic Profile: {rule.basic}  [{rule.source}, PS3.15 {tables.EDITION}]")
    for option, code in rule.options.items():
        click.echo(f"  {option}: {code}")
    types: dict[str, int] = {}
    for attributes in tables.iod_types().values():
        kind = attributes.get(number, "3 or absent")
        types[kind] = types.get(kind, 0) + 1
    click.echo(
        "  Type by number of SOP classes: " + ", ".join(f"{kind}: {count}" for kind, count in sorted(types.items()))
    )
    for (parent, child), kind in tables.nested_types().items():
        if child == number:
            holder = tables.attribute(parent)
            name = holder.keyword if holder else tag_name(parent)
            click.echo(f"  Type {kind} in {name}")
