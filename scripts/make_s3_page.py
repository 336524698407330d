"""Write docs/reference/s3-behaviours.md from the table of tests/s3. `nox -s docs` runs it; a test compares."""

from __future__ import annotations

from pathlib import Path

from tests.contracts.s3.table import BEHAVIOURS, OBJECT_STORE, SERVERS, Behaviour

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "reference" / "s3-behaviours.md"

INTRODUCTION = """\
# What the S3 servers do as S3 does

A stack's S3 is one of four servers. Each row below is a test that runs against each of them (`nox -s s3`), and that is
red both where a server does not do what is said here and where it does more. What the application needs, the bold
rows, all of them do; so it does not matter to it which one it has. A small number leads to what happens instead, and
what that means for you. Where the S3 server has no SNS and SQS, the stack has them from ministack or LocalStack; the
events below are tried with those.
"""


def servers() -> list[str]:
    """Return the table of servers."""
    lines = ["| server | version | behaviours | what it is |", "| --- | --- | --- | --- |"]
    for name, server in SERVERS.items():
        kept = sum(name not in behaviour.not_kept for behaviour in BEHAVIOURS.values())
        lines.append(f"| {server.title} | {server.version} | {kept} of {len(BEHAVIOURS)} | {server.about} |")
    return lines


def group(title: str, members: dict[str, Behaviour]) -> list[str]:
    """Return one table with its footnotes."""
    notes: list[str] = []
    header = ["S3 does this", *(server.title for server in SERVERS.values()), "needed, since"]
    lines = [f"## {title}", "", f"| {' | '.join(header)} |", "| " + " | ".join("---" for _ in header) + " |"]
    for behaviour in members.values():
        cells = []
        for name, server in SERVERS.items():
            if name in behaviour.not_kept:
                note = f"{server.title}: {behaviour.not_kept[name]}."
                if note not in notes:
                    notes.append(note)
                cells.append(f"no <sup>{notes.index(note) + 1}</sup>")
            else:
                cells.append("yes")
        says = f"**{behaviour.says}**" if behaviour.needed else behaviour.says
        lines.append(f"| {says} | {' | '.join(cells)} | {behaviour.needed} |")
    if notes:
        lines += ["", *(f"{number}. {note}" for number, note in enumerate(notes, 1))]
    return [*lines, ""]


def port() -> list[str]:
    """Return a section with each server's exceptions from the worker's own contract."""
    lines = ["## The worker's own contract", ""]
    lines.append(
        "`tests/contracts/object_store.py` says what the worker expects of a store, and holds on all of them, save"
    )
    lines.append("")
    for name, reasons in OBJECT_STORE.items():
        for server, reason in reasons.items():
            lines.append(f"- {name.replace('_', ' ')}, on {SERVERS[server].title}: {reason}")
    return lines


def page() -> str:
    """Return the page."""
    lines = [INTRODUCTION, *servers(), ""]
    for title in dict.fromkeys(behaviour.group for behaviour in BEHAVIOURS.values()):
        lines += group(title, {name: one for name, one in BEHAVIOURS.items() if one.group == title})
    return "\n".join([*lines, *port()]) + "\n"
