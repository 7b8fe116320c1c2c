"""`deepmac doctor`: what works here, what is missing, and the command that gets it."""

import json
import os
import shutil
import textwrap

import click

import deepmac
from deepmac.commands import USER_ERROR
from deepmac.doctor.examine import examine
from deepmac.doctor.findings import Finding, Section, State, as_json, is_fit
from deepmac.doctor.places import check_url
from deepmac.doctor.probes import need_positive
from deepmac.terminal import announce

_COLOURS = {State.OK: "green", State.WARNING: "yellow", State.MISSING: "red"}
_WIDEST_NAME = 24


@click.command("doctor")
@click.option(
    "--out", metavar="DIR", help="Also try to write where a job is to write to."
)
@click.option(
    "--cloud",
    metavar="gs://BUCKET",
    help="Also list a bucket and write a small object to it, which is removed again. Without it "
    "nothing is asked of the network.",
)
@click.option("--json", "as_text", is_flag=True, help="Print JSON, for programs.")
@click.option(
    "--timeout",
    type=float,
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="Give up what takes longer.",
)
def command(out: str | None, cloud: str | None, as_text: bool, timeout: float) -> int:
    """Say what works here, what is missing, and the command that gets it.

    Changes nothing. The exit status is 2 if something is missing that is needed, or asked for
    with --out or --cloud.
    """
    if cloud is not None:
        check_url(cloud)
    need_positive(timeout)
    with announce("trying out what is installed"):
        sections = examine(dict(os.environ), out=out, cloud=cloud, timeout=timeout)
    if as_text:
        value = {
            "deepmac": deepmac.__version__,
            "fit": is_fit(sections),
            "sections": as_json(sections),
        }
        click.echo(json.dumps(value, indent=2))
    else:
        _print(sections)
    return 0 if is_fit(sections) else USER_ERROR


def _print(sections: list[Section]) -> None:
    names = [len(f.name) for section in sections for f in section.findings]
    indent = min(max(names), _WIDEST_NAME) + 12
    click.echo(f"deepmac {deepmac.__version__}")
    for section in sections:
        click.echo(f"\n{click.style(section.title, bold=True)}")
        for finding in section.findings:
            _print_finding(finding, indent)
    findings = [f for section in sections for f in section.findings]
    click.echo(f"\n{_summary(findings)}")


def _print_finding(finding: Finding, indent: int) -> None:
    width = max(shutil.get_terminal_size((100, 24)).columns, indent + 30)
    mark = click.style(finding.state.ljust(8), fg=_COLOURS.get(finding.state))
    name = finding.name.ljust(indent - 12)
    if len(name) > indent - 12:
        name += "\n" + " " * (indent - 2)
    lines = textwrap.wrap(
        finding.text,
        width - indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    margin = "\n" + " " * indent
    click.echo(f"  {mark}{name}  {margin.join(lines)}")
    if finding.remedy and finding.state != State.OK:
        # Not wrapped: it is to be copied.
        click.echo(" " * indent + click.style(f"-> {finding.remedy}", bold=True))


def _summary(findings: list[Finding]) -> str:
    missing = [f.name for f in findings if f.state == State.MISSING]
    warnings = [f.name for f in findings if f.state == State.WARNING]
    text = "everything that is needed works"
    if missing:
        text = f"missing: {', '.join(missing)}"
    if warnings:
        text += f"; to look at: {', '.join(warnings)}"
    return text
