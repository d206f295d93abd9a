"""Users' own kinds of faults: what they may do, what counts as evidence, and what becomes of them when they fail."""

import json
import os
import shutil
from pathlib import Path

import pytest
from fake_world import FakeWorld

from chaos import CustomFault
from chaos.custom_faults import CustomKinds
from chaos.experiment import Run
from chaos.faults import Fault
from chaos.kept import load_run
from chaos.nemesis import FaultNotApplied, Nemesis, majority_windows
from chaos.pinned import pin
from chaos.scenario import load_scenario, parse_scenario
from chaos.schedule import PlannedFault, Schedule, draw, schedule_from_json
from chaos.simulation import simulate
from chaos.swarm import vary
from testbed.base.errors import UsageError

LIVE = Path("/nowhere")


def nemesis_for(world, *kinds, seed=1, directory=None):
    """For kinds that are called by their class alone: `own:Class`."""
    return Nemesis(world, custom=CustomKinds({f"own:{kind.__name__}": kind for kind in kinds}, seed, directory))


def own(kind, *nodes, **options):
    return Fault(kind=f"own:{kind.__name__}", target=nodes, options=options)


def run(world, *faults, until=10.0, kinds=(), directory=None):
    """The nemesis after faults of (fault, at, until)."""
    planned = tuple(PlannedFault(fault=fault, at=at, until=end, entry=1) for fault, at, end in faults)
    with nemesis_for(world, *kinds, directory=directory) as nemesis:
        nemesis.run(Schedule(seed=1, duration=until, nodes=world.nodes, faults=planned), until=until)
    return nemesis


def healthy(world):
    return set(world.states().values()) == {"up"} and not world.rules


def one(fault, *, world=None, directory=None, options=None):
    """The record of that kind on n2, from 1 s to 3 s."""
    nemesis = run(
        world or FakeWorld(3), (own(fault, "n2", **(options or {})), 1.0, 3.0), kinds=(fault,), directory=directory
    )
    return nemesis.records[0]


class Stop(CustomFault):
    """Stops its nodes."""

    def begin(self):
        for node in self.nodes:
            self.pause(node)


class Told(CustomFault):
    """Does nothing, and says so."""

    log: list  # of the class that a test makes of it

    def begin(self):
        self.log.append(("begin", self.now))

    def in_effect(self):
        return True

    def end(self):
        self.log.append(("end", self.now))


def told(**hooks):
    """A kind of its own, with a log of its own."""
    return type("Mine", (Told,), {"log": [], **hooks})


# --- evidence ---


def test_what_is_done_by_its_methods_is_seen_and_undone_without_a_word():
    world = FakeWorld(3)
    record = one(Stop, world=world)
    assert (record.nodes, record.failed) == (("n2",), None)
    assert record.in_effect == pytest.approx(1.0, abs=0.05)
    assert record.healed == pytest.approx(3.0, abs=0.05)
    assert world.done("pause", "resume") == [("pause", "n2"), ("resume", "n2")]


def test_a_kill_is_in_effect_since_the_exit_and_healed_when_the_node_is_up_again():
    class Kill(CustomFault):
        def begin(self):
            self.kill("n2")

    world = FakeWorld(3)
    record = one(Kill, world=world)
    assert record.in_effect == world.exits()[0].at
    assert 3.0 < record.healed < 4.0
    assert healthy(world)


def test_a_termination_and_a_cut_are_seen_and_undone_too():
    class Both(CustomFault):
        def begin(self):
            self.terminate("n2")
            self.cut("n1", "n3", mode="hold")

    world = FakeWorld(3)
    held = []
    world.script.append((2.9, lambda: held.append((world.states()["n2"], [rule.cut for rule in world.rules.values()]))))
    nemesis = run(world, (own(Both, "n2", "n1"), 1.0, 3.0), kinds=(Both,))
    assert nemesis.records[0].in_effect is not None
    assert held == [("down", ["hold"])]
    assert healthy(world)


def test_the_nodes_themselves_are_asked_only_where_links_are_cut():
    class Asked(FakeWorld):
        asked = False

        def status(self, fresh=False):
            self.asked |= fresh
            return super().status(fresh)

    class Cut(CustomFault):
        def begin(self):
            self.cut("n2", "n1")

    for kind in (Stop, Cut):
        world = Asked(3)
        assert one(kind, world=world).in_effect is not None
        assert world.asked == (kind is Cut)


def test_a_fault_counts_from_when_it_says_so_and_as_healed_when_it_says_so():
    kind = told(
        in_effect=lambda self: True if self.now >= 1.5 else "not before half past one",
        healed=lambda self: True if self.now >= 4.0 else "not before four",
    )
    record = one(kind)
    assert record.in_effect == pytest.approx(1.5, abs=0.05)
    assert record.healed == pytest.approx(4.0, abs=0.05)
    assert [(name, round(at, 1)) for name, at in kind.log] == [("begin", 1.0), ("end", 3.0)]


def fails(self):
    raise OSError("no space")


@pytest.mark.parametrize(
    ("hooks", "reason"),
    [
        ({"begin": fails}, "begin() fails: OSError: no space"),
        ({"in_effect": fails}, "in_effect() fails: OSError: no space"),
        ({"in_effect": lambda _: "half of it"}, "half of it"),
        ({"in_effect": lambda _: False}, "in_effect() says no"),
        ({"in_effect": lambda _: None}, "in_effect() answers None, neither True nor what is missing"),
        (
            {"in_effect": CustomFault.in_effect},
            "nothing shows it: it has no in_effect(), and none of its methods did anything",
        ),
        ({"begin": lambda self: self.kill("n1")}, "begin() fails: ValueError: n1 is not one of its nodes, n2"),
        (
            {"begin": lambda self: self.cut("n1", "n3")},
            "begin() fails: ValueError: neither n1 nor n3 is one of its nodes, n2",
        ),
        (
            {"begin": lambda self: self.cut("n2", "n9")},
            "begin() fails: ValueError: there is no link from n2 to n9",
        ),
        (
            {"begin": lambda self: self.start("n2")},
            "begin() fails: RuntimeError: it has done nothing to n2 that could be undone so",
        ),
    ],
)
def test_a_fault_that_is_not_proved_has_not_taken_hold_and_is_ended_all_the_same(hooks, reason):
    world, kind = FakeWorld(3), told(**hooks)
    record = one(kind, world=world)
    assert (record.in_effect, record.failed) == (None, f"not in effect: {reason}")
    assert record.healed is not None
    assert [name for name, _ in kind.log][-1] == "end"
    assert healthy(world)


def test_what_was_begun_before_an_error_is_undone():
    def begin(self):
        self.pause("n2")
        raise ValueError

    world = FakeWorld(3)
    record = one(told(begin=begin), world=world)
    assert record.failed == "not in effect: begin() fails: ValueError"
    assert world.done("pause", "resume") == [("pause", "n2"), ("resume", "n2")]


def test_an_end_that_fails_is_a_fault_that_is_not_healed_and_the_others_are():
    kind = told(end=lambda self: self.log.append("end") or fails(self))
    world = FakeWorld(3)
    nemesis = run(world, (Fault(kind="pause", target=("n1",)), 0.5, 5.0), (own(kind, "n2"), 1.0, 3.0), kinds=(kind,))
    pause, broken = nemesis.records
    assert pause.healed is not None
    assert (broken.in_effect is None, broken.healed) == (False, None)
    assert broken.failed == "not healed: end() fails: OSError: no space"
    assert kind.log[1:] == ["end", "end"]  # once more when everything is healed
    assert healthy(world)


def test_what_never_says_that_it_is_healed_is_not_and_was_ended_once():
    kind = told(healed=lambda _: "a trace of it is left")
    record = one(kind)
    assert (record.healed, record.failed) == (None, "not healed: a trace of it is left")
    assert [name for name, _ in kind.log] == ["begin", "end"]


def test_an_end_that_fails_leaves_nothing_that_its_methods_did():
    class Stuck(Stop):
        end = fails

    world = FakeWorld(3)
    assert one(Stuck, world=world).healed is None
    assert healthy(world)


def test_ctrl_c_ends_it_once():
    def interrupt():
        raise KeyboardInterrupt

    class Interrupted(Told, Stop):
        log = []  # noqa: RUF012  # as `told` makes it

        def begin(self):
            super().begin()
            Stop.begin(self)

    world = FakeWorld(3)
    world.script.append((2.0, interrupt))
    with pytest.raises(KeyboardInterrupt):
        run(world, (own(Interrupted, "n2"), 1.0, 3.0), kinds=(Interrupted,))
    assert [name for name, _ in Interrupted.log] == ["begin", "end"]
    assert healthy(world)


def test_ctrl_c_in_its_own_end_does_not_keep_it_from_ending():
    def end(self):
        self.log.append("end")
        if self.log.count("end") == 1:
            raise KeyboardInterrupt

    kind, world = told(end=end), FakeWorld(3)
    with pytest.raises(KeyboardInterrupt):
        run(world, (Fault(kind="pause", target=("n1",)), 0.5, 5.0), (own(kind, "n2"), 1.0, 3.0), kinds=(kind,))
    assert kind.log.count("end") == 2
    assert healthy(world)


# --- who is hit ---


def test_it_is_not_for_nodes_that_are_down_and_skipped_where_none_is_left():
    world, kind = FakeWorld(3), told()
    nemesis = run(
        world,
        (Fault(kind="kill", target=("n1",)), 0.5, 5.0),
        (own(kind, "n1", "n2"), 1.0, 2.0),
        (own(kind, "n1"), 3.0, 4.0),
        kinds=(kind,),
    )
    _, some, none = nemesis.records
    assert (some.nodes, some.missed, some.in_effect is None) == (("n2",), ("n1",), False)
    assert (none.nodes, none.skipped) == ((), "n1 down already")


def test_one_for_the_leader_hits_whoever_leads_and_is_skipped_without_one():
    kind = told()
    fault = Fault(kind="own:Mine", target="leader")
    assert run(FakeWorld(3, leader="n3"), (fault, 1.0, 2.0), kinds=(kind,)).records[0].nodes == ("n3",)
    assert run(FakeWorld(3), (fault, 1.0, 2.0), kinds=(kind,)).records[0].skipped == "no node leads"
    assert [name for name, _ in kind.log] == ["begin", "end"]


@pytest.mark.parametrize(
    ("hooks", "reason"),
    [
        ({"live_only": True}, "needs real processes and files, and this is a simulation"),
        ({"begin": lambda self: self.pid("n2")}, "needs real processes and files, and this is a simulation"),
        ({"begin": lambda self: self.directory("n2")}, "needs real processes and files, and this is a simulation"),
        ({"begin": lambda self: self.skip("it rains")}, "it rains"),
    ],
)
def test_what_cannot_be_had_is_skipped_and_not_ended(hooks, reason):
    kind = told(**hooks)
    record = one(kind)
    assert (record.skipped, record.failed, record.in_effect, record.healed) == (reason, None, None, None)
    assert kind.log == []


def test_what_gives_up_after_it_did_something_has_failed_and_is_undone():
    def begin(self):
        self.pause("n2")
        self.skip("too late")

    world = FakeWorld(3)
    record = one(told(begin=begin), world=world)
    assert (record.skipped, record.failed) == (None, "not in effect: begin() gave up: too late")
    assert healthy(world)


def test_a_live_one_knows_processes_and_directories():
    found = []

    def begin(self):
        found.extend([self.pid("n2"), self.directory("n2"), self.all_nodes, self.status("n2").state])

    one(told(begin=begin, live_only=True), directory=LIVE)
    assert found == [102, LIVE / "nodes" / "n2", ("n1", "n2", "n3"), "up"]


# --- with others ---


def test_a_node_stays_down_until_nobody_holds_it_down():
    class Kill(CustomFault):
        def begin(self):
            self.kill("n2")

    world = FakeWorld(3)
    faults = ((own(Kill, "n2"), 1.0, 3.0), (Fault(kind="kill", target=("n2",)), 1.0, 5.0))
    nemesis = run(world, *faults, kinds=(Kill,))
    assert [at for at, name, _ in world.calls if name == "start"] == [5.0]
    assert all(record.healed is not None for record in nemesis.records)


def test_what_it_starts_and_resumes_is_seen_up_before_it_counts():
    class Blink(CustomFault):
        def begin(self):
            self.kill("n2")
            self.start("n2")
            self.pause("n1")
            self.resume("n1")

    world = FakeWorld(3)
    nemesis = run(world, (own(Blink, "n1", "n2"), 1.0, 3.0), kinds=(Blink,))
    (record,) = nemesis.records
    assert record.in_effect == pytest.approx(1.0 + 0.3, abs=0.1)
    assert world.done("kill", "start", "pause", "resume") == [
        ("kill", "n2"),
        ("pause", "n1"),
        ("resume", "n1"),
        ("start", "n2"),
    ]


def test_its_nodes_are_away_as_long_as_it_is_held():
    nemesis = run(FakeWorld(3), (own(Stop, "n1", "n2"), 1.0, 3.0), kinds=(Stop,))
    (before, after) = majority_windows(nemesis.records, ("n1", "n2", "n3"), 0.0, 10.0)
    assert before == (0.0, 1.0)
    assert after == (pytest.approx(3.0, abs=0.1), 10.0)


def test_its_dice_are_the_runs_and_each_occurrence_has_its_own():
    rolled = []
    kind = told(begin=lambda self: rolled.append(self.random.random()))
    for seed in (1, 1, 2):
        with nemesis_for(FakeWorld(3), kind, seed=seed) as nemesis:
            for _ in range(2):
                nemesis.release(nemesis.hold(own(kind, "n2")))
    assert rolled[0:2] == rolled[2:4]
    assert len(set(rolled)) == 4


def test_on_request_it_is_in_effect_inside_the_block():
    world = FakeWorld(3)
    with nemesis_for(world, Stop) as nemesis:
        with nemesis.holding(own(Stop, "n2")):
            assert world.states()["n2"] == "paused"
        assert healthy(world)
        with pytest.raises(UsageError, match=r"fault: own:Stop\.x: unknown key"):
            nemesis.hold(own(Stop, "n2", x=1))
        with pytest.raises(UsageError, match="fault: other:Kind: is not known here"):
            nemesis.hold(Fault(kind="other:Kind", target=("n2",)))
    never = told(in_effect=lambda _: "never")
    with (
        nemesis_for(world, never) as nemesis,
        pytest.raises(FaultNotApplied, match="never"),
        nemesis.holding(own(never, "n1")),
    ):
        raise AssertionError("not reached")


def test_options_are_what_was_given_or_their_defaults():
    class Taking(Told):
        log = []  # noqa: RUF012
        options = {"share": 0.5, "words": str, "most": None}  # noqa: RUF012

        def begin(self):
            self.log.append(self.options)

    one(Taking, options={"words": "x"})
    one(Taking, options={"words": "y", "share": 1, "most": [2]})
    taken = [entry for entry in Taking.log if isinstance(entry, dict)]
    assert taken == [{"share": 0.5, "words": "x", "most": None}, {"share": 1.0, "words": "y", "most": [2]}]
    assert isinstance(taken[1]["share"], float)


def test_an_occurrence_cannot_change_the_options_of_the_next():
    seen = []

    class Taking(Told):
        log = []  # noqa: RUF012
        options = {"default": [1], "given": list}  # noqa: RUF012

        def begin(self):
            seen.append((self.options["default"].pop(), self.options["given"].pop()))

    fault = own(Taking, "n2", given=[2])
    run(FakeWorld(3), (fault, 1.0, 2.0), (fault, 3.0, 4.0), kinds=(Taking,))
    assert seen == [(1, 2)] * 2


# --- in scenarios ---

MODULE = '''
from chaos import CustomFault

class Blink(CustomFault):
    """Stops its nodes, or ends them."""

    options = {"how": "pause", "share": 0.5, "times": int}

    def check(self):
        if self.options["how"] not in ("pause", "kill"):
            raise ValueError(f"how: {self.options['how']!r} is neither pause nor kill")

    def begin(self):
        for node in self.nodes:
            (self.kill if self.options["how"] == "kill" else self.pause)(node)

class Processes(CustomFault):
    """Looks at processes."""

    options = {"seen": str}
    live_only = True

    def begin(self):
        self.seen = self.options["seen"]
        pids = [self.pid(node) for node in self.nodes]
        with open(self.seen, "a") as file:
            print(*pids, self.directory("n1").is_dir(), file=file)

    def in_effect(self):
        return True

    def end(self):
        with open(self.seen, "a") as file:
            print("ended", file=file)

class Fussy(CustomFault):
    def __init__(self):
        raise RuntimeError("not today")

class Faulty(CustomFault):
    def check(self):
        raise KeyError("x")

class Listed(CustomFault):
    options = ["times"]

class NoFault:
    pass
'''

CLUSTER = '[cluster]\nnodes = 3\nheartbeat = "50ms"\nelection_timeout = "300ms"\n'
LOAD = '[[workload]]\nkind = "kv"\nclients = 2\nrate = 30\n'


def blink(*lines, kind="Blink", target='["n2"]', times="times = 2", module="own_blinking"):
    text = f'[[fault]]\nkind = "{module}:{kind}"\ntarget = {target}\nat = "1s"\nfor = "700ms"\n{times}\n'
    return text + "\n".join(lines) + "\n"


@pytest.fixture
def directory(tmp_path):
    (tmp_path / "own_blinking.py").write_text(MODULE)
    return tmp_path


def scenario(directory, faults, duration="4s"):
    path = directory / "own.toml"
    path.write_text(f'duration = "{duration}"\n{CLUSTER}{LOAD}{faults}')
    return load_scenario(path)


@pytest.mark.parametrize(
    ("fault", "key", "reason"),
    [
        (blink(module="no_such_module"), "fault[1].kind", "there is no module 'no_such_module'"),
        (blink(kind="Nothing"), "fault[1].kind", "module 'own_blinking' has no 'Nothing'"),
        (blink(kind="NoFault"), "fault[1].kind", "own_blinking:NoFault is no chaos.CustomFault"),
        (blink(kind="Fussy"), "fault[1].kind", "Fussy() fails: RuntimeError: not today"),
        (blink(kind="Faulty", times=""), "fault[1].kind", "check() fails: KeyError: 'x'"),
        (blink(kind="Listed"), "fault[1].kind", "Listed.options is no dict of keys and their defaults"),
        (blink("depth = 1"), "fault[1].depth", "unknown key; known here: at, every, for, how, kind, share, target"),
        (blink("evry = 1"), "fault[1].evry", "unknown key; did you mean 'every'?"),
        (blink("hw = 1"), "fault[1].hw", "unknown key; did you mean 'how'?"),
        (blink(times=""), "fault[1].times", "is missing"),
        (blink(times="times = 2.5"), "fault[1].times", "must be a whole number, not 2.5"),
        (blink(times="times = true"), "fault[1].times", "must be a whole number, not True"),
        (blink("how = 1"), "fault[1].how", "must be a string, not 1"),
        (blink('share = "1"'), "fault[1].share", "must be a number, not '1'"),
        (blink('how = "x"'), "fault[1]", "how: 'x' is neither pause nor kill"),
    ],
)
def test_a_run_that_cannot_have_its_fault_says_so_before_it_starts(directory, fault, key, reason):
    with pytest.raises(UsageError) as caught:
        Run(scenario(directory, fault), seed=1, out=None)
    assert (Path(caught.value.where).name, caught.value.key) == ("own.toml", key)
    assert caught.value.reason.startswith(reason)


@pytest.mark.parametrize(
    ("fault", "key", "reason"),
    [
        ('kind = "own:"', "kind", "'own:' is not of the form \"module:Class\""),
        ('kind = "kil"\ntarget = "one"', "kind", "'kil' is none of kill, terminate"),
        ('kind = "a:B"', "target", "is missing"),
        ('kind = "a:B"\ntarget = ["n9"]', "target", "no node 'n9' in this cluster"),
        ('kind = "a:B"\ntarget = "some"', "target", "'some' is none of one, minority"),
        ('kind = "a:B"\ntarget = "one"\nevery = "1s"', "at", "does not go with every"),
        ('kind = "a:B"\ntarget = "one"\nsince = 2026-01-01', "since", "cannot be kept in a schedule"),
        ('kind = "a:B"\ntarget = "one"\nmost = nan', "most", "cannot be kept in a schedule"),
    ],
)
def test_a_mistake_in_the_file_is_named(fault, key, reason):
    with pytest.raises(UsageError) as caught:
        parse_scenario(f'duration = "9s"\n[[fault]]\nat = "1s"\nfor = "1s"\n{fault}\n', "x.toml")
    assert (caught.value.where, caught.value.key) == ("x.toml", f"fault[1].{key}")
    assert caught.value.reason.startswith(reason)


OPTIONS = 'text = "a b"\nnumber = 1.0\nlist = [1, "x"]\ntable = { deep = true }\nshape = "mine"\norder = 7\n'
MIXED = (
    f'duration = "60s"\n[[fault]]\nkind = "a.b:C"\ntarget = "minority"\nevery = "5s"\nfor = "1s"\n{OPTIONS}'
    '[[fault]]\nkind = "kill"\ntarget = "one"\nevery = "3s"\nfor = "1s"\n'
)


def test_kind_and_options_are_the_same_after_schedule_and_file():
    mixed = parse_scenario(MIXED, "x.toml")
    schedule = draw(mixed, 7)
    mine = [planned.fault for planned in schedule.faults if planned.fault.kind == "a.b:C"]
    assert mine
    assert mine[0].options == {
        "text": "a b",
        "number": 1.0,
        "list": [1, "x"],
        "table": {"deep": True},
        "shape": "mine",
        "order": 7,
    }
    assert schedule_from_json(schedule.to_json()) == schedule
    pinned = pin(mixed, schedule)
    assert parse_scenario(pinned.text, "x.toml") == pinned
    assert [planned.fault for planned in draw(pinned, 8).faults] == [planned.fault for planned in schedule.faults]


def test_it_changes_nothing_of_what_is_drawn_for_others():
    without = parse_scenario(MIXED.replace('"a.b:C"', '"pause"').replace(OPTIONS, ""), "x.toml")

    def kills(found):
        return [(planned.at, planned.fault) for planned in draw(found, 7).faults if planned.fault.kind == "kill"]

    assert kills(parse_scenario(MIXED, "x.toml")) == kills(without)


def test_the_swarm_keeps_it_as_the_scenarios_own():
    mixed = parse_scenario(MIXED, "x.toml")
    found = [spec for seed in range(30) for spec in vary(mixed, seed).faults if spec.kind == "a.b:C"]
    assert found
    assert all(spec.options == mixed.faults[0].options for spec in found)


# --- runs ---


def test_a_simulated_run_has_it_and_again_the_same_way(directory):
    prepared = scenario(directory, blink('how = "kill"', target='"leader"') + blink(target='["n1"]'), duration="6s")
    first, again = (simulate(prepared, 3).summary for _ in range(2))
    assert first["verdict"] == "valid", first["checks"]
    assert first["digest"] == again["digest"]
    assert first["faults"] == [
        {"kind": "own_blinking:Blink", "asked": 2, "applied": 2, "healed": 2, "skipped": 0},
    ]
    details = {check["name"]: check["detail"] for check in first["checks"]}
    assert details["coverage"] == "faults that took hold: own_blinking:Blink 2"
    assert "all caused by faults" in details["crashes"]
    assert "own_blinking:Blink" in first["recovery_s"]


def test_a_simulated_run_skips_what_needs_processes(directory):
    prepared = scenario(directory, blink('seen = "x"', kind="Processes", times=""))
    summary = Run(prepared, seed=3, world="sim", out=directory / "runs").execute()  # where it has a directory, too
    assert summary["verdict"] == "unknown"
    assert summary["faults"][0]["skipped"] == 1


def test_a_live_run_has_it_and_is_repeated_from_its_directory(directory):
    seen = directory / "seen.txt"
    faults = blink('how = "kill"', target='"leader"')
    faults += blink(f'seen = "{seen}"', kind="Processes", times="", target='["n1", "n2"]').replace('"1s"', '"200ms"')
    summary = Run(scenario(directory, faults), seed=3, out=directory / "runs").execute()
    assert summary["verdict"] == "valid", summary["checks"]
    pids, there, ended = seen.read_text().rsplit(maxsplit=2)
    assert (len(pids.split()), there, ended) == (2, "True", "ended")
    assert os.getpid() not in map(int, pids.split())

    kept = load_run(Path(summary["run_dir"]))
    assert [fault.kind for fault in kept.scenario.faults] == ["own_blinking:Processes", "own_blinking:Blink"]
    assert kept.scenario.faults[1].options == {"how": "kill", "times": 2}
    assert json.loads((kept.directory / "schedule.json").read_text())["faults"][0]["options"] == {"seen": str(seen)}
    shutil.rmtree(kept.directory)
    Run(kept.scenario, seed=kept.seed, world="sim", out=None)  # its modules are found again
