"""The gate's report as JUnit XML and as GitHub's workflow commands."""

from __future__ import annotations

import re
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from temporal_replay_gate.defaults import COMMAND
from temporal_replay_gate.findings import Finding
from temporal_replay_gate.gate import CheckedHistory, GateReport
from temporal_replay_gate.printable import printable
from temporal_replay_gate.report import short, summary

# XML 1.0 cannot hold these, not even escaped.
_UNPRINTABLE = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

# Why a run ended before it had reached every history.
_ENDINGS = {"run_limit_exceeded", "run_interrupted"}


def to_junit(report: GateReport, command: str = COMMAND) -> str:
    """Return a JUnit document with a case for each history and each mutation, and one for findings without a file.

    ``command`` is the name of the suite. A history that the run did not reach is marked as skipped: a case without a
    child element counts as passed.
    """
    suite = Element("testsuite", name=command, time=f"{report.seconds:.3f}")
    failures = skipped = 0
    ended = "".join(f" ({finding.code})" for finding in report.findings if finding.code in _ENDINGS)
    for entry in report.checked:
        case = _case(suite, entry)
        failures += bool(entry.findings)
        if not entry.replayed and not entry.findings:
            skipped += 1
            SubElement(case, "skipped", message=f"the run was over before it was replayed{ended}")
        for finding in entry.findings:
            _failure(case, finding)
    for workflow, mutations in sorted(report.controls.items()):
        for mutation, caught in sorted(mutations.items()):
            case = SubElement(suite, "testcase", classname=_clean(workflow), name=f"planted {mutation} is caught")
            if not caught:
                failures += 1
                SubElement(case, "failure", type=f"control_missed_{mutation}", message="the planted fault was not seen")
    told = {id(finding) for entry in report.checked for finding in entry.findings}
    rest = [finding for finding in report.findings if id(finding) not in told and finding.kind != "control"]
    case = SubElement(suite, "testcase", classname="gate", name="coverage, code and allow list")
    failures += bool(rest)
    for finding in rest:
        _failure(case, finding)
    suite.set("tests", str(len(suite)))
    suite.set("failures", str(failures))
    suite.set("errors", "0")
    suite.set("skipped", str(skipped))
    root = Element("testsuites")
    root.append(suite)
    indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + tostring(root, encoding="unicode") + "\n"


def _case(suite: Element, entry: CheckedHistory) -> Element:
    name = entry.history.workflow_type if entry.history else "unreadable"
    return SubElement(
        suite,
        "testcase",
        classname=_clean(name),
        name=_clean(short(str(entry.path))),
        time=f"{entry.seconds:.3f}",
    )


def _failure(case: Element, finding: Finding) -> None:
    failure = SubElement(case, "failure", type=finding.code, message=_clean(finding.what))
    source = f"\nat {short(finding.source)}" if finding.source else ""
    failure.text = _clean(f"{finding.what}{source}\nwhy it matters: {finding.why}\ndo: {finding.fix}")


def _clean(text: str) -> str:
    return _UNPRINTABLE.sub("\ufffd", text)


def to_github(report: GateReport) -> str:
    """Return one annotation per finding, at the line of workflow code if it is known, and one for the result."""
    lines = []
    for finding in report.findings:
        file, line = _position(finding)
        place = f"file={_property(file)}," if file else ""
        place += f"line={line}," if line else ""
        event = f" (event {finding.event_id} {finding.event_type})" if finding.event_id is not None else ""
        recorded = f"\n{short(finding.file)}" if finding.file and finding.source else ""
        text = f"{finding.what}{event}{recorded}\nwhy it matters: {finding.why}\ndo: {finding.fix}"
        lines.append(f"::error {place}title={_property(f'replay gate: {finding.code}')}::{_data(text)}")
    level = "notice" if report.green else "error"
    lines.append(f"::{level} title=replay gate::{_data(summary(report))}")
    return "\n".join(lines) + "\n"


def _position(finding: Finding) -> tuple[str, str]:
    if finding.source:
        file, _, line = finding.source.rpartition(":")
        return short(file), line
    return short(finding.file or ""), ""


def _data(text: str) -> str:
    text = printable(text, keep="\r\n")
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
