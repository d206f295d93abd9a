"""How node classes reach the fork server: scripts without a guard, test files, functions, modules beside a scenario."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import msgspec
import pytest
from forkserver_entries import Idle, Other, read, wait_for

import testbed.live.nodeclass as nodeclass
from testbed.base.errors import UsageError
from testbed.live.nodeclass import describe, load
from testbed.live.processes import Exited, Failed, ForkServer, Ready
from testbed.node import Node

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
ENTRY = "forkserver_entries:play"


class InATestFile(Node):
    """Importable by the name of this file, as pytest put its directory on the path."""

    @classmethod
    def describe_itself(cls):
        return "in a test file"


def report_of(reference, tmp_path, name="n1"):
    """What a node of that class says of itself."""
    with ForkServer(ENTRY, reference, tmp_path, [str(HERE)]) as server:
        server.spawn(name, {"report": str(tmp_path / name)})
        return read(tmp_path / name)


def failure_of(reference, tmp_path):
    with ForkServer(ENTRY, reference, tmp_path, [str(HERE)]) as server:
        events = []
        wait_for(lambda: events.extend(server.wait_events(0.1)) or events, "a failure")
        (failed,) = events
        assert isinstance(failed, Failed)
        return failed


def test_a_class_in_a_test_file_goes_by_name(tmp_path):
    reference = describe(InATestFile)
    assert (reference.pickled, reference.file) == (None, None)
    assert report_of(reference, tmp_path)["extra"] == "in a test file"


def test_a_class_in_a_module_that_no_path_leads_to_goes_by_its_file(tmp_path, monkeypatch):
    file = tmp_path / "elsewhere.py"
    file.write_text(
        "from testbed import Node\nclass Far(Node):\n    describe_itself = classmethod(lambda cls: 'far')\n"
    )
    spec = nodeclass.importlib.util.spec_from_file_location("odd.name.elsewhere", file)
    module = nodeclass.importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "odd.name.elsewhere", module)
    spec.loader.exec_module(module)
    reference = describe(module.Far)
    assert (reference.pickled, reference.file) == (None, str(file))
    assert report_of(reference, tmp_path)["extra"] == "far"


def test_a_class_in_a_function_goes_by_value_with_its_closure(tmp_path):
    class Point(msgspec.Struct, frozen=True):
        x: int
        y: int = 2

    greeting = Point(1)

    class Local(Node):
        messages = (Point,)

        @classmethod
        def describe_itself(cls):
            return [msgspec.to_builtins(greeting), msgspec.to_builtins(cls.messages[0](5, 6))]

    reference = describe(Local)
    assert reference.pickled is not None
    assert report_of(reference, tmp_path)["extra"] == [{"x": 1, "y": 2}, {"x": 5, "y": 6}]


SCRIPT = """
{future}
import sys
with open(sys.argv[1] + "/runs", "a") as file:
    file.write("once\\n")

from typing import ClassVar, Generic, TypeVar
import msgspec
from forkserver_entries import read
from testbed import Node
from testbed.live.nodeclass import describe
from testbed.live.processes import ForkServer

T = TypeVar("T")
SEEN = []

def fresh():
    return [Vote(term=0)]

class Base(msgspec.Struct, kw_only=True, rename="camel"):
    sent_at: float = 0.5

class Vote(Base, tag="vote", frozen=True):
    term: int
    granted: bool | None = None

class Tree(msgspec.Struct, array_like=True, tag=True):
    name: str
    children: "list[Tree]" = msgspec.field(default_factory=list, name="kids")
    votes: list[Vote] = msgspec.field(default_factory=lambda: fresh())
    KIND: ClassVar[str] = "tree"

    def __post_init__(self):
        SEEN.append(self.name)

    def size(self):
        return 1 + sum(child.size() for child in self.children)

    @property
    def first(self):
        return super().__repr__()

    @staticmethod
    def leaf(name):
        return Tree(name)

class Box(msgspec.Struct, Generic[T]):
    content: T

class Voter(Node):
    messages = (Vote, Tree, Box)

    @classmethod
    def describe_itself(cls):
        tree = Tree("root", [Tree.leaf("leaf")])
        data = msgspec.json.encode(tree)
        again = msgspec.json.decode(data, type=Tree)
        try:
            msgspec.json.decode(b'{{"type": "vote", "term": "x"}}', type=Vote)
        except msgspec.ValidationError as error:
            refused = str(error)
        try:
            tree.votes[0].term = 2
        except AttributeError as error:
            frozen = str(error)
        boxed = msgspec.json.decode(b'{{"content": 4}}', type=Box[int])
        return [data.decode(), again == tree, again.size(), list(SEEN), tree.first, Tree.KIND, refused, frozen,
                msgspec.json.encode(Vote(term=1, sent_at=2.5)).decode(), Vote(1) == Vote(term=1), boxed.content,
                Tree.__qualname__, Tree.__module__]

expected = Voter.describe_itself()
SEEN.clear()
with ForkServer("forkserver_entries:play", describe(Voter), sys.argv[1]) as server:
    server.spawn("n1", {{"report": sys.argv[1] + "/report"}})
    server.spawn("n2", {{"report": sys.argv[1] + "/second"}})
    for name in ("/report", "/second"):
        found = read(sys.argv[1] + name)
        assert found["extra"] == expected, (found["extra"], expected)
        assert found["class"] == "Voter"
    print("all is well")
"""


@pytest.mark.parametrize("future", ["", "from __future__ import annotations"])
def test_an_unguarded_script_with_structs_runs_once_and_serves_as_it_is(tmp_path, future):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(future=future))
    done = subprocess.run(
        [sys.executable, script, tmp_path],
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{HERE}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "all is well\n", "")
    assert (tmp_path / "runs").read_text() == "once\n"


def test_a_name_is_looked_up_beside_the_scenario_first(tmp_path):
    beside = tmp_path / "scenarios"
    beside.mkdir()
    (beside / "neighbour.py").write_text("WORD = 'from the neighbour'\n")
    (beside / "my_module.py").write_text(
        "from testbed import Node\n"
        "class MyNode(Node):\n"
        "    @classmethod\n"
        "    def describe_itself(cls):\n"
        "        from neighbour import WORD\n"  # as late as this
        "        return WORD\n"
    )
    reference = describe("my_module:MyNode", [str(beside)])
    assert "my_module" not in sys.modules
    assert report_of(reference, tmp_path)["extra"] == "from the neighbour"


def test_two_fork_servers_at_once_serve_different_classes(tmp_path):
    paths = [str(HERE)]
    with (
        ForkServer(ENTRY, describe(Idle), tmp_path, paths) as one,
        ForkServer(ENTRY, describe(Other), tmp_path, paths) as two,
    ):
        one.spawn("n1", {"report": str(tmp_path / "one")})
        two.spawn("n1", {"report": str(tmp_path / "two")})
        assert (read(tmp_path / "one")["class"], read(tmp_path / "two")["class"]) == ("Idle", "Other")
        one.close()
        two.spawn("n2", {"report": str(tmp_path / "three")})
        assert read(tmp_path / "three")["class"] == "Other"
        assert not any(isinstance(event, Exited | Failed) for event in two.events())


@pytest.mark.parametrize("text", ["nothing", "a:", ":B", "a b:C", "a:B c", "a:1B"])
def test_what_is_no_name_of_a_class_is_the_callers_mistake(text):
    with pytest.raises(UsageError, match='is not of the form "module:Class"'):
        describe(text)


@pytest.mark.parametrize(("what", "reason"), [(int, "not a subclass of testbed.Node"), (7, "is a int, not a class")])
def test_what_is_no_node_class_is_the_callers_mistake(what, reason):
    with pytest.raises(UsageError, match=reason):
        describe(what)


@pytest.mark.parametrize(
    ("name", "source", "reason"),
    [
        ("mine:Missing", "x = 1", "mine.py has no class Missing"),
        ("mine:x", "x = 1", "is a int, not a class"),
        ("mine:C", "class C: pass", "is not a subclass of testbed.Node"),
        ("mine:C", "1 / 0", "importing it failed: ZeroDivisionError: division by zero"),
        ("mine:C", "import no_such", "importing it failed: ModuleNotFoundError: No module named 'no_such'"),
        ("mine:C", "import sys; sys.exit(2)", "importing it failed: SystemExit: 2"),
        ("mine:C", "def f(:", "importing it failed: SyntaxError"),
        ("yours:C", "", "there is no module yours"),
        ("mine.sub:C", "x = 1", "there is no module mine.sub"),
    ],
)
def test_the_callers_mistakes_are_reported_as_such_by_the_fork_server(tmp_path, name, source, reason):
    (tmp_path / "mine.py").write_text(source)
    failed = failure_of(describe(name, [str(tmp_path)]), tmp_path)
    assert failed.usage
    assert failed.reason.startswith(f"node: {name}: ")
    assert reason in failed.reason


def test_a_class_that_holds_on_to_an_open_file_cannot_go_by_value(tmp_path):
    with open(tmp_path / "file", "w") as file:

        class Holding(Node):
            held: ClassVar = file

        with pytest.raises(UsageError, match="define it in a module"):
            describe(Holding)


def test_two_directories_may_each_have_a_module_of_the_same_name(tmp_path):
    found = []
    try:
        for name in ("a", "b"):
            (tmp_path / name).mkdir()
            source = f"from testbed import Node\nclass C(Node):\n    word = {name!r}\n"
            (tmp_path / name / "twice_there.py").write_text(source)
            found.append(load(describe("twice_there:C", [str(tmp_path / name)])).word)
    finally:
        sys.modules.pop("twice_there", None)
        sys.path[:] = [part for part in sys.path if not part.startswith(str(tmp_path))]
    assert found == ["a", "b"]


def test_a_module_named_like_one_that_is_in_use_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "json.py").write_text("")
    with pytest.raises(UsageError, match="the name json is taken by a module that is in use"):
        load(describe("json:C", [str(tmp_path)]))
    assert sys.modules["json"] is json


def test_a_reference_survives_the_wire():
    reference = describe(InATestFile, ["/somewhere"])
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(reference), type=type(reference)) == reference
    assert load(reference) is InATestFile
    sys.path.remove("/somewhere")


def test_ready_comes_only_when_the_class_is_loaded(tmp_path):
    with ForkServer(ENTRY, describe(InATestFile), tmp_path, [str(HERE)]) as server:
        events = []
        wait_for(lambda: events.extend(server.wait_events(0.1)) or events, "ready")
        assert events == [Ready()]
