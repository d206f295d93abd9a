"""Sessions that end badly - hung, interrupted, gone without a word - leave no process; unused, it costs nothing."""

import signal
import subprocess
import sys

import pytest
from suites import command, directories, left_running, write

from testbed.live.procfs import observe

ENDS = """
    import os
    from pathlib import Path

    import pytest


    @pytest.fixture
    def alone(cluster, chaos):
        with chaos.pause("n2"), chaos.load("kv"):
            pids = [node.pid for node in cluster.status().values()]
            Path("pids.part").write_text(" ".join(map(str, pids)))
            os.rename("pids.part", "pids")
            yield cluster


    @pytest.mark.timeout(1, method="thread", func_only=True)
    def test_hangs(alone):
        alone.wait_for(lambda: False, "the impossible")


    def test_leaves(alone):
        os._exit(3)


    def test_is_interrupted(alone):
        alone.wait_for(lambda: False, "the impossible")
"""

UNUSED = """
    import sys


    def test_nothing_is_loaded():
        ours = [name for name in sys.modules if name.partition(".")[0] in ("chaos", "testbed")]
        assert sorted(ours) == ["chaos", "chaos.pytest_plugin", "testbed", "testbed.base", "testbed.base.rand"]
        assert not {"zmq", "msgspec", "loguru", "psutil", "cloudpickle", "rich", "click"} & set(sys.modules)
"""

GONE_S = 15


def wait_until(condition, seconds=GONE_S):
    """Whether it came true in that time."""
    from testbed.live import clock

    give_up = clock.now() + seconds
    while not condition():
        if clock.now() >= give_up:
            return False
        clock.sleep(0.02)
    return True


def started(directory, test, *arguments):
    """A session that has come as far as the test itself, and the pids of its nodes."""
    arguments = ("--basetemp", directory / "tmp", "--cluster-artifacts", "kept", *arguments)
    session = subprocess.Popen(
        command(f"test_ends.py::{test}", *arguments), cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert wait_until(lambda: (directory / "pids").exists() or session.poll() is not None, 30)
    assert (directory / "pids").exists(), session.stdout.read()
    return session, [int(pid) for pid in (directory / "pids").read_text().split()]


@pytest.fixture
def home(tmp_path):
    return write(tmp_path / "ends", test_ends=ENDS)


def ended(session):
    """Its exit status, and what it said."""
    out, _ = session.communicate(timeout=60)
    return session.returncode, out.decode()


@pytest.mark.parametrize(("test", "status"), [("test_hangs", 1), ("test_leaves", 3)])
def test_nodes_die_with_a_session_that_ends_without_a_word(home, test, status):
    session, pids = started(home, test)
    assert len(pids) == 3
    assert ended(session)[0] == status
    assert wait_until(lambda: all(observe(pid) == "gone" for pid in pids))
    assert wait_until(lambda: left_running(home) == [])
    assert directories(home / "kept") == [f"cluster-test_ends.py-{test}"]  # whoever hung has failed


def test_an_interrupted_session_stops_its_cluster_and_keeps_nothing(home):
    session, pids = started(home, "test_is_interrupted")
    session.send_signal(signal.SIGINT)
    status, out = ended(session)
    assert status == 2
    assert "KeyboardInterrupt" in out
    assert [observe(pid) for pid in pids] == ["gone"] * 3
    assert left_running(home) == []
    assert directories(home / "kept") == []


def test_a_session_that_uses_no_fixture_loads_nothing_but_the_plugin(tmp_path):
    write(tmp_path, test_unused=UNUSED)
    done = subprocess.run(command("test_unused.py"), cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_plugin_needs_pytest_and_light_modules_only():
    code = "import sys, pytest; before = {*sys.modules}; import chaos.pytest_plugin; print(*({*sys.modules} - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name for name in done.stdout.split() if name.partition(".")[0] not in sys.stdlib_module_names}
    assert loaded == {"chaos", "chaos.pytest_plugin", "testbed", "testbed.base", "testbed.base.rand"}
