"""Write docs/reference/commands, one page per command, from the program and from scripts/command_facts.

Names and parameters come from the program. What a command reads, writes, opens and starts is in
``scripts/command_facts/<command>.toml``, a recorded output in ``<command>.json``; tests compare both with the program.
"""

from __future__ import annotations

import inspect
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import click

from photo_worker.cli import cli
from scripts.error_classes import error_classes

ROOT = Path(__file__).resolve().parents[1]
FACTS = ROOT / "scripts" / "command_facts"
PAGES = ROOT / "docs" / "reference" / "commands"
SHARED = "_shared"
INDEX = "README.md"

_DEFAULT = re.compile(r"\s*\[default: (.*)\]\s*$")
_FIELDS = frozenset({"with", "about", "ok", "reads", "writes", "variables", "network", "processes", "errors", "text"})
_OTHER_FIELDS = frozenset({"open", "like", "examples", "failed"})


@dataclass(frozen=True)
class Named:
    """A command with the words of its command line."""

    words: tuple[str, ...]
    command: click.Command
    context: click.Context

    @property
    def slug(self) -> str:
        """The name of its files, without suffix."""
        return "-".join(self.words)

    @property
    def title(self) -> str:
        return " ".join(("photo-worker", *self.words))


@dataclass(frozen=True)
class Facts:
    """The facts of a command that its options do not show, merged with its shared blocks."""

    about: str
    ok: str
    """When the command exits with 0."""
    failed: str
    """When the command exits with 1 without an error; "" if it never does."""
    reads: Mapping[str, str]
    """Files with their content, like ``writes``; names may have * within a name and ** over directories."""
    writes: Mapping[str, str]
    variables: tuple[str, ...]
    network: tuple[str, ...]
    processes: tuple[str, ...]
    errors: tuple[str, ...]
    text: str
    """The text output."""
    open: tuple[str, ...]
    """Dotted paths of keys in its JSON whose own keys depend on the data."""
    like: str
    """The command whose JSON format it prints; "" if it has its own."""
    examples: tuple[Mapping[str, str], ...]


def commands() -> list[Named]:
    """Return every command in the program's order, without groups and hidden commands."""
    return list(_walk(cli, click.Context(cli, info_name="photo-worker"), ()))


def _walk(command: click.Command, context: click.Context, words: tuple[str, ...]) -> Iterator[Named]:
    if not isinstance(command, click.Group):
        yield Named(words, command, context)
        return
    for name in command.list_commands(context):
        found = command.get_command(context, name)
        if found is not None and not found.hidden:
            yield from _walk(found, click.Context(found, info_name=name, parent=context), (*words, name))


def facts_of(slug: str) -> Facts:
    """Return a command's facts; raises ``ValueError`` for an unknown field."""
    own = _load(slug)
    blocks = [_shared()["blocks"][name] for name in own.get("with", [])]

    def texts(field: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys(entry for part in (own, *blocks) for entry in part.get(field, [])))

    def table(field: str) -> dict[str, str]:
        return {path: what for part in (*reversed(blocks), own) for path, what in part.get(field, {}).items()}

    return Facts(
        about=own.get("about", "").strip(),
        ok=own.get("ok", "done"),
        failed=own.get("failed", ""),
        reads=table("reads"),
        writes=table("writes"),
        variables=texts("variables"),
        network=texts("network"),
        processes=texts("processes"),
        errors=tuple(sorted(texts("errors"))),
        text=own.get("text", "").strip("\n"),
        open=texts("open"),
        like=own.get("like", ""),
        examples=tuple(own.get("examples", [])),
    )


def variables() -> dict[str, str]:
    """Return the meaning of each environment variable that a page may name."""
    return dict(_shared()["variables"])


def example(slug: str) -> str:
    """Return the recorded JSON output of a command, "" if it has none."""
    return _read(FACTS / f"{slug}.json") or ""


def pages() -> dict[str, str]:
    """Return the text of each page by its file name."""
    found = commands()
    return {f"{named.slug}.md": _page(named, facts_of(named.slug)) for named in found} | {INDEX: _index(found)}


def _load(slug: str) -> dict[str, Any]:
    facts = tomllib.loads((FACTS / f"{slug}.toml").read_text(encoding="utf-8"))
    if unknown := set(facts) - _FIELDS - _OTHER_FIELDS:
        raise ValueError(f"{slug}.toml has no use for {', '.join(sorted(unknown))}")
    return facts


@cache
def _shared() -> dict[str, Any]:
    return tomllib.loads((FACTS / f"{SHARED}.toml").read_text(encoding="utf-8"))


def _index(found: Sequence[Named]) -> str:
    lines = [
        "# Commands",
        "",
        "One page a command: what it does, takes, reads, writes, opens and starts, how it ends, and what it prints.",
        "Made by `scripts/make_command_pages.py` from the program; tests hold it to what the program does.",
        "",
        "| command | |",
        "| --- | --- |",
    ]
    lines += [f"| [`{named.title}`]({named.slug}.md) | {_cell(_summary(named))} |" for named in found]
    lines += ["", "## What all of them have in common", "", *_shared()["common"].strip().splitlines(), ""]
    lines += _options(cli)
    lines += ["", "| exit code | |", "| --- | --- |"]
    lines += [f"| {code} | {meaning} |" for code, meaning in _shared()["exit"].items()]
    return "\n".join(lines) + "\n"


def _page(named: Named, facts: Facts) -> str:
    usage = " ".join(named.command.collect_usage_pieces(named.context))
    lines = [f"# {named.title}", "", *_help(named.command), ""]
    if facts.about:
        lines += [*facts.about.splitlines(), ""]
    lines += ["```", f"{named.title} {usage}", "```", ""]
    lines += _options(named.command)
    for title, entries in (("Reads", facts.reads), ("Writes and deletes", facts.writes)):
        lines += ["", f"## {title}", ""]
        lines += [f"- `{path}`: {what}" for path, what in entries.items()] or ["No file."]
    lines += ["", "## Variables", ""]
    meanings = variables()
    own = {str(param.envvar) for param in named.command.params if param.envvar}
    listed = [name for name in facts.variables if name not in own]
    lines += [f"- `{name}`: {meanings[name]}" for name in listed] or ["None but those of its options."]
    for title, texts, none in (
        ("Network", facts.network, "None."),
        ("Processes", facts.processes, "Starts none."),
    ):
        lines += ["", f"## {title}", ""]
        lines += [f"- {text}" for text in texts] or [none]
    lines += ["", "## Exit codes", "", "| code | |", "| --- | --- |", f"| 0 | {facts.ok} |"]
    ones = [facts.failed] if facts.failed else []
    ones += ["an error, by its code one of those below that are not marked"] if facts.errors else []
    lines += [f"| 1 | {'; or '.join(ones)} |"] if ones else []
    lines += [f"| {code} | {meaning} |" for code, meaning in _shared()["exit"].items() if int(code) > 1]
    if facts.errors:
        lines += ["", "| error | says ([what to do](../errors.md)) |", "| --- | --- |"]
        lines += [f"| `{code}`{_mark(code)} | {_cell(_message(code))} |" for code in facts.errors]
    lines += _output(named, facts)
    if facts.examples:
        lines += ["", "## Examples", ""]
        for entry in facts.examples:
            lines += [f"{entry['about']}:", "", "```sh", entry["run"], "```", ""]
    return "\n".join(lines).rstrip() + "\n"


def _output(named: Named, facts: Facts) -> Iterator[str]:
    formats = next((_choices(param) for param in named.command.params if param.name == "output"), None)
    yield from ("", "## Output", "")
    if formats is None:
        yield "Text; results on standard output, all else on standard error."
    else:
        shown = ", ".join(f"`{name}`" for name in formats)
        yield f"`-o` {shown}; results on standard output, all else on standard error."
    if facts.text:
        yield from ("", "```", *facts.text.splitlines(), "```")
    if facts.like:
        yield from ("", f"With `-o json`, what [{facts.like}]({facts.like.replace(' ', '-')}.md) prints.")
    if recorded := example(named.slug):
        yield from ("", "With `-o json`, in the [envelope](README.md) that all commands share:", "")
        yield from ("```json", *recorded.strip().splitlines(), "```")


def _choices(param: click.Parameter) -> tuple[str, ...]:
    return tuple(str(choice) for choice in param.type.choices) if isinstance(param.type, click.Choice) else ()


def _help(command: click.Command) -> list[str]:
    return inspect.cleandoc(command.help or "").replace("\b\n", "").splitlines()


def _summary(named: Named) -> str:
    return _help(named.command)[0] if named.command.help else ""


def _options(command: click.Command) -> list[str]:
    rows = [_row(param) for param in command.params if not getattr(param, "hidden", False)]
    if not rows:
        return ["It takes none but `--help`."]
    return ["| takes | values | default | variable | |", "| --- | --- | --- | --- | --- |", *rows]


def _row(param: click.Parameter) -> str:
    text = getattr(param, "help", None) or ""
    default = ""
    if isinstance(param.default, str | int | float | Path) and not isinstance(param.default, bool):
        default = f"`{param.default}`"
    elif isinstance(param.default, tuple) and param.default:
        default = f"`{' '.join(str(value) for value in param.default)}`"
    if found := _DEFAULT.search(text):
        default, text = found[1], _DEFAULT.sub("", text)
    if isinstance(param, click.Argument):
        name = f"`{param.human_readable_name.strip('[].')}`"
        default = "required" if param.required else default
    else:
        names = ", ".join((*param.opts, *param.secondary_opts))
        name = f"`{names}`"
    again = "; may be given again" if param.multiple or param.nargs == -1 else ""
    values = f"{_values(param)}{again}"
    variable = f"`{param.envvar}`" if param.envvar else ""
    return f"| {name} | {values} | {default} | {variable} | {_cell(text)} |"


def _values(param: click.Parameter) -> str:
    kind = param.type
    if getattr(param, "is_flag", False):
        return "flag"
    if isinstance(kind, click.Choice):
        return ", ".join(f"`{choice}`" for choice in kind.choices)
    if isinstance(kind, click.IntRange | click.FloatRange):
        unit = "integer" if isinstance(kind, click.IntRange) else "number"
        least = "" if kind.min is None else f" {'above' if kind.min_open else 'from'} {kind.min}"
        return f"{unit}{least}{'' if kind.max is None else f' to {kind.max}'}"
    if isinstance(kind, click.Path):
        return "path"
    if param.metavar and not isinstance(param, click.Argument):
        return f"`{param.metavar}`"
    return {"integer": "integer", "float": "number", "text": "text"}.get(kind.name, f"{kind.name}")


@cache
def messages() -> dict[str, str]:
    """Return the message of each error by its code."""
    return {kind.code: " ".join(inspect.cleandoc(kind.__doc__ or "").split()) for kind in error_classes()}


def _message(code: str) -> str:
    return messages()[code]


def _mark(code: str) -> str:
    """Return an error code, marked if only a wrong option or argument causes it."""
    kind = next(kind for kind in error_classes() if kind.code == code)
    return " (2)" if kind.wrong_use else ""


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _read(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None
