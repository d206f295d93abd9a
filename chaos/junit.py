"""A run's summary as JUnit XML, which the reporters of Jenkins, GitLab and GitHub read: one test case a check.

Knows summaries and the form of the file: that of the schema junit-10, as the Jenkins plugin xunit has it. Does not know
how a check comes to its verdict. A check about which nobody can tell is an error there: a build must not pass with it.
"""

import json
import re
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree

from chaos.checkers.values import show_json

NAME: Final = "junit.xml"
MESSAGE_CHARS_MAX: Final = 400  # reporters show a message in a row of a table; the whole detail is in the text
_ILLEGAL: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # in XML 1.0 (2.2)
_STAMP: Final = re.compile(r"(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)")  # what a run directory's name begins with


def write_junit(summary: Mapping[str, Any], directory: Path) -> Path:
    """Write that summary's `junit.xml` into the run's directory; its path."""
    path = directory / NAME
    tree = ElementTree.ElementTree(_document(summary))
    ElementTree.indent(tree)
    tree.write(path, encoding="utf-8", xml_declaration=True)
    return path


def _document(summary: Mapping[str, Any]) -> ElementTree.Element:
    verdicts = [check["verdict"] for check in summary["checks"]]
    counts = {
        "tests": str(len(verdicts)),
        "failures": str(verdicts.count("invalid")),
        "errors": str(verdicts.count("unknown")),
        "time": _seconds(summary["duration_s"]),
    }
    root = ElementTree.Element("testsuites", {"name": "testbed", **counts})
    about = {"name": _legal(summary["scenario"]), **counts, "skipped": "0"}
    begun = _STAMP.match(Path(summary["run_dir"] or "").name)
    if begun is not None:
        about["timestamp"] = "{}-{}-{}T{}:{}:{}".format(*begun.groups())
    suite = ElementTree.SubElement(root, "testsuite", about)
    properties = ElementTree.SubElement(suite, "properties")
    for name, value in _properties(summary):
        ElementTree.SubElement(properties, "property", {"name": name, "value": _legal(value)})
    anomaly = summary.get("anomaly")
    for name, check in zip(_names(summary["checks"]), summary["checks"], strict=True):
        mine = anomaly is not None and check["verdict"] == "invalid" and _whose(anomaly) == _whose(check, "name")
        _case(suite, name, check, summary, anomaly if mine else None)
        anomaly = None if mine else anomaly  # it is the first one's
    ElementTree.SubElement(suite, "system-out").text = _legal("\n".join(_ways_on(summary)))
    return root


def _properties(summary: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What a reader of the file has to know of the run; what the summary does not say is left out."""
    for name in ("seed", "world", "verdict", "run_dir", "replay", "plant"):
        if summary.get(name) is not None:
            yield name, str(summary[name])
    for name in ("operations", "machine"):
        if name in summary:
            yield name, _plain(summary[name])
    for fault in summary["faults"]:
        yield f"fault.{fault['kind']}", _plain({key: value for key, value in fault.items() if key != "kind"})
    for kind, back in summary["recovery_s"].items():
        yield f"recovery_s.{kind}", _plain(back)


def _names(checks: Sequence[Mapping[str, Any]]) -> list[str]:
    """One for each check. Reporters know a case by its name; of two workloads of a kind the second is numbered."""
    names: list[str] = []
    seen: Counter[str] = Counter()
    for check in checks:
        name = f"{check['name']} ({check['workload']})" if check.get("workload") else str(check["name"])
        seen[name] += 1
        names.append(name if seen[name] == 1 else f"{name} {seen[name]}")
    return names


def _whose(told: Mapping[str, Any], name: str = "check") -> tuple[str, str | None]:
    return told[name], told.get("workload")


def _case(
    suite: ElementTree.Element,
    name: str,
    check: Mapping[str, Any],
    summary: Mapping[str, Any],
    anomaly: Mapping[str, Any] | None,
) -> None:
    # A check takes no time of its own that is worth a number: what takes the time is the run, which is the suite.
    about = {"classname": _legal(summary["scenario"]), "name": _legal(name), "time": _seconds(0.0)}
    case = ElementTree.SubElement(suite, "testcase", about)
    if check["verdict"] == "valid":
        ElementTree.SubElement(case, "system-out").text = _legal(check["detail"])
        return
    tag, kind = ("failure", "invalid") if check["verdict"] == "invalid" else ("error", "unknown")
    message = " ".join((check["detail"] if anomaly is None else _sentence(anomaly)).split())
    if len(message) > MESSAGE_CHARS_MAX:
        message = message[: MESSAGE_CHARS_MAX - 1] + "…"
    lines = [check["detail"], "", *([] if anomaly is None else _around(anomaly, summary)), *_ways_on(summary)]
    wrong = ElementTree.SubElement(case, tag, {"type": kind, "message": _legal(message)})
    wrong.text = _legal("\n".join(lines))


def _sentence(anomaly: Mapping[str, Any]) -> str:
    """What broke."""
    on = "" if anomaly["key"] is None else f"on key {show_json(anomaly['key'])} "
    why = f": {anomaly['reason']}" if anomaly["reason"] else ""
    return f"{on}no order explains {anomaly['operation']}{why}"


def _around(anomaly: Mapping[str, Any], summary: Mapping[str, Any]) -> Iterator[str]:
    """What broke, what was going on beside it, and the part of the history that is wrong by itself."""
    yield _sentence(anomaly)
    for title, lines in (
        ("open beside it", anomaly["concurrent"]),
        ("states in which it cannot have happened", anomaly["states"]),
        (f"events of {anomaly['history']} that are wrong by themselves", map(_plain, anomaly["minimal"])),
    ):
        told = [f"  {line}" for line in lines]
        yield from [f"{title}:", *told] if told else []
    if summary["run_dir"] is not None:
        yield f"explain testbed explain {shlex.quote(summary['run_dir'])} {anomaly['event']}"
    yield ""


def _ways_on(summary: Mapping[str, Any]) -> list[str]:
    """Where to look, and how to see it again."""
    lines = [f"verdict {summary['verdict']}, seed {summary['seed']}"]
    if summary["run_dir"] is not None:
        lines += [f"kept    {summary['run_dir']}", f"again   {summary['replay']}"]
    return lines


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _seconds(seconds: float) -> str:
    return f"{seconds:.3f}"


def _legal(text: str) -> str:
    """The text with what XML cannot hold written as an escape: control characters, and halves of pairs."""
    return _ILLEGAL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
