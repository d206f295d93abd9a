"""Test suites of somebody else's, and pytest as they run it: in a process and a directory of its own."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from xml.etree import ElementTree

from testbed.live.procfs import marked_processes

SECONDS_MAX = 60


@dataclass(frozen=True)
class Ran:
    """What a session of pytest came to."""

    status: int
    out: str
    cases: dict[str, ElementTree.Element]

    def properties(self, name):
        """Of one test, as JUnit XML has them."""
        return {found.get("name"): found.get("value") for found in self.cases[name].iter("property")}

    def failure(self, name):
        """What the report says of a test that failed, up to the next one."""
        for heading in (f"_ {name} _", f"_ ERROR at setup of {name} _", f"_ ERROR at teardown of {name} _"):
            if heading in self.out:
                return self.out.partition(heading)[2].partition("\n____")[0].partition("\n====")[0]
        raise AssertionError(f"nothing is said of {name} in\n{self.out}")


def write(directory, **files):
    """Python files, by their names without the ending."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (directory / f"{name}.py").write_text(dedent(text))
    return directory


def command(*arguments):
    """pytest as a command line, strict about everything, in whatever directory."""
    strict = ("--strict-markers", "--strict-config", "-W", "error", "-p", "no:cacheprovider")
    return [sys.executable, "-m", "pytest", *strict, *map(str, arguments)]


def run(directory, *arguments):
    """Run it to its end there."""
    report = directory / "junit.xml"
    report.unlink(missing_ok=True)
    done = subprocess.run(
        command("--junitxml", report, "-o", "junit_family=xunit1", "--basetemp", directory / "tmp", *arguments),
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
    )
    cases = {}
    if report.exists():
        for case in ElementTree.parse(report).iter("testcase"):
            cases[case.get("name")] = case
    return Ran(done.returncode, done.stdout + done.stderr, cases)


def left_running(directory):
    """The processes of clusters whose files are below that directory."""
    return [pid for pid, marker in marked_processes() if Path(marker.directory).is_relative_to(directory)]


def directories(below):
    """Those of clusters, by name."""
    return sorted(found.name for found in below.glob("cluster-*")) if below.exists() else []
