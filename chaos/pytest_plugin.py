"""The pytest plugin: clusters, faults and judges as fixtures.

It knows pytest's options and hooks, and which test has a cluster. All that a fixture needs is in `chaos.fixtures`; that
is loaded when a test first asks for one: a session without any pays for this module alone.
"""

from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any, Final, NoReturn

import pytest

from testbed.base.rand import entropy

if TYPE_CHECKING:
    from chaos.fixtures.breaking import Chaos
    from chaos.fixtures.marks import WorldName
    from chaos.fixtures.trial import Trial
    from testbed.cluster import Cluster

SEED_BITS: Final = 31
KEEP: Final = ("never", "failed", "always")
VERDICT: Final = "cluster_verdict"
INCONCLUSIVE: Final = "inconclusive"
MARKER: Final = (
    "cluster(nodes=3, node='testbed:ServiceNode', heartbeat=0.1, election_timeout=1.0, restart='never', options={},"
    " world='live', seed=None): the cluster of the fixtures cluster, simulated_cluster and chaos"
)

_SEED: pytest.StashKey[int] = pytest.StashKey()
_TRIAL: "pytest.StashKey[Trial]" = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    """The plugin's options."""
    group = parser.getgroup("testbed", "clusters")
    group.addoption("--cluster-seed", type=int, metavar="N", help="The seed of all clusters (default: a fresh one).")
    group.addoption(
        "--cluster-keep",
        choices=KEEP,
        help="Whose logs and histories to keep: those of no test, of tests that failed (default), or of all.",
    )
    group.addoption(
        "--cluster-artifacts",
        metavar="DIR",
        help="Where to keep them, a directory for each test (default: among pytest's temporary directories).",
    )
    parser.addini("cluster_keep", "the default of --cluster-keep", default="failed")
    parser.addini("cluster_artifacts", "the default of --cluster-artifacts, relative to this file", default="")


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker; choose the seed, or take it from xdist's controller."""
    config.addinivalue_line("markers", MARKER)
    given = getattr(config, "workerinput", {}).get("cluster_seed", config.getoption("--cluster-seed"))
    if given is not None and given < 0:
        raise pytest.UsageError(f"--cluster-seed: must not be negative, and is {given}")
    config.stash[_SEED] = entropy().getrandbits(SEED_BITS) if given is None else given
    if config.getini("cluster_keep") not in KEEP:
        raise pytest.UsageError(f"cluster_keep: must be one of {', '.join(KEEP)}")


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """All of xdist's workers have one seed."""
    node.workerinput["cluster_seed"] = node.config.stash[_SEED]


def pytest_report_header(config: pytest.Config) -> str:
    """The seed, for whoever wants it all again."""
    return f"cluster seed: {config.stash[_SEED]}"


@pytest.fixture
def cluster(request: pytest.FixtureRequest) -> "Iterator[Cluster]":
    """A running cluster (`testbed.Cluster`) of three nodes, or of what `@pytest.mark.cluster(…)` says.

    What its clients do to keys, locks and queues is recorded, for `chaos.check`.
    """
    yield from _running(request, None)


@pytest.fixture
def simulated_cluster(request: pytest.FixtureRequest) -> "Iterator[Cluster]":
    """The same in simulation: in this process and on virtual time, everything from one seed."""
    yield from _running(request, "sim")


@pytest.fixture(name="chaos")
def _chaos(request: pytest.FixtureRequest) -> "Iterator[Chaos]":
    """Faults, load and judges for the test's cluster: with chaos.kill("leader"): …; chaos.check()."""
    name = "simulated_cluster" if "simulated_cluster" in request.fixturenames else "cluster"
    request.getfixturevalue(name)
    trial = request.node.stash.get(_TRIAL, None)
    if trial is None:
        _refuse(request.node, f"chaos goes with the fixture {name} of this plugin, and not with another of that name")
    yield trial.chaos
    unused = trial.chaos.unused()
    if unused and not trial.failed:
        _refuse(request.node, f"{unused} does nothing by itself: write `with {unused}: …`")


def _running(request: pytest.FixtureRequest, world: "WorldName | None") -> "Iterator[Cluster]":
    from chaos.fixtures.trial import Trial
    from testbed.base.errors import UsageError

    item = request.node
    temporary = request.getfixturevalue("tmp_path_factory").getbasetemp()
    if _TRIAL in item.stash:
        _refuse(item, "a test has one cluster of the fixtures; for another one use testbed.Cluster")
    try:
        trial = Trial.of_test(item, request.config.stash[_SEED], world, temporary)
        item.stash[_TRIAL] = trial
        trial.start()
    except UsageError as error:
        _refuse(item, str(error))
    yield trial.cluster
    trial.stop()


def _refuse(item: pytest.Item, reason: str) -> NoReturn:
    """The test's own mistake, in one line."""
    pytest.fail(f"usage: {item.nodeid}: {reason}", pytrace=False)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: "pytest.CallInfo[None]"
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Tell what was done to the cluster of a test that failed; who could not be judged has not failed."""
    trial = item.stash.get(_TRIAL, None)
    if trial is None:
        return (yield)
    error = call.excinfo.value if call.excinfo is not None else None
    reason = trial.inconclusive(error)
    report = yield
    if report.failed:
        trial.failed = True
        report.sections.append(("cluster", trial.story()))
        if reason is not None:
            path, line, _ = item.reportinfo()
            report.outcome = "skipped"
            report.longrepr = (str(path), (line or 0) + 1, f"Skipped: {INCONCLUSIVE}: {reason}")
    properties = trial.properties(report.when, report.passed, reason)
    item.user_properties += properties
    report.user_properties += properties
    if report.when == "teardown":
        trial.clear()
        del item.stash[_TRIAL]  # whoever runs the test again begins anew
    return report


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Who could not be judged, whether or not skipped tests are shown."""
    found = [
        report
        for report in terminalreporter.getreports("skipped")
        if (VERDICT, INCONCLUSIVE) in map(tuple, report.user_properties)
    ]
    if found:
        terminalreporter.section(f"{len(found)} {INCONCLUSIVE}", sep="-")
        for report in found:
            terminalreporter.line(f"{report.nodeid}: {report.longrepr[2].removeprefix('Skipped: ')}")
