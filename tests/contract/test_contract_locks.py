"""The contract of locks: leases, fencing tokens, lines and deadlocks, in either world.

Wall clocks are no part of it: in simulation they jump all the time, and nothing here may notice.
"""

from math import nan

import pytest
from contract_asking import answered, opened, outcome_of
from contract_waiting import counted, obey, pass_time

from testbed import Deadlock, LeaseLost, Refused, Unknown
from testbed.base.links import CLIENTS, LinkRule
from testbed.core.services.commands import Acquire, Claim, Extend, LockStatus, Release


def acquire(*names, lease=10.0, wait=30.0):
    return Acquire(tuple(Claim(name) for name in names), lease, wait)


def line_of(client, name):
    """The sessions that wait for a lock, in order."""
    return client.call(LockStatus(name))["waiting"]


def tokens_of(client, name):
    """Under which tokens a lock is held, in order."""
    return [holder["token"] for holder in client.call(LockStatus(name))["holders"]]


def join_line(cluster, client, asker, operation, length):
    """Ask for a lock that is held, and wait until that is in line."""
    asker.ask(operation)
    name = operation.claims[-1].lock
    cluster.wait_for(lambda: len(line_of(client, name)) == length, f"{length} in line")


def lose(other, name):
    """Wait until a lock's lease has run out and somebody else holds it."""
    return other.lock(name, wait=30.0).acquire()


# --- acquire, release, extend ---


def test_a_lock_is_held_inside_the_block_and_given_back_after_it(service):
    client, other = service.client(), service.client()
    lock = client.lock("block", lease=20.0)
    for _ in range(2):
        with lock as held:
            assert held.valid
            assert 0 < held.remaining <= 20.0
            assert other.lock("block").try_acquire() is None
        assert not held.valid
        with other.lock("block", wait=0.0) as others:
            assert others.token > held.token
    with pytest.raises(ZeroDivisionError), lock:
        1 / 0  # noqa: B018
    assert other.lock("block").try_acquire() is not None


def test_tokens_grow_from_grant_to_grant_of_whatever_lock(service):
    clients = [service.client() for _ in range(2)]
    tokens = []
    for number in range(6):
        with clients[number % 2].lock(f"growing {number % 3}") as held:
            tokens.append(held.token)
    assert tokens == sorted(set(tokens))


def test_a_lock_that_is_not_free_in_time_is_refused(service):
    client, other = service.client(), service.client()
    held = client.lock("taken", lease=30.0).acquire()
    assert other.lock("taken").try_acquire() is None
    begun = service.world.now()
    with pytest.raises(Refused, match="not-granted: 'taken' is held by session") as refused:
        other.lock("taken", wait=0.3).acquire()
    assert refused.type is Refused
    assert service.world.now() >= begun + 0.3
    assert line_of(client, "taken") == []
    held.release()
    assert other.lock("taken").try_acquire() is not None


def test_a_lease_that_is_extended_in_time_goes_on(service):
    client, other = service.client(), service.client()
    held = client.lock("extended", lease=0.6).acquire()
    until = service.world.now() + 1.0
    while service.world.now() < until:
        pass_time(service, 0.1)
        held.extend()
    assert held.valid
    assert tokens_of(other, "extended") == [held.token]
    held.extend(20.0)
    assert 10.0 < held.remaining <= 20.0
    client.kv.put("extended", 1, fence=held)
    held.release()
    with pytest.raises(LeaseLost):
        held.extend()


def test_a_lock_that_was_let_go_comes_to_those_in_line_one_by_one_first_come_first_served(service):
    client = service.client()
    held = client.lock("line", lease=30.0).acquire()
    askers = [opened(service) for _ in range(5)]
    for number, asker in enumerate(askers, 1):
        join_line(service, client, asker, acquire("line", lease=30.0), number)
    held.release()
    tokens = [held.token]
    for number, asker in enumerate(askers, 1):
        tokens.append(outcome_of(service, asker).value)
        assert tokens_of(client, "line") == tokens[-1:]  # and nobody else was woken
        assert len(line_of(client, "line")) == len(askers) - number
        assert all(not later.outcomes for later in askers[number:])
        assert answered(service, asker, Release(tokens[-1])).type == "ok"
    assert tokens == sorted(set(tokens))


# --- several at once, semaphores, shared locks ---


def test_several_locks_are_granted_all_at_once_or_not_at_all(service):
    client, other = service.client(), service.client()
    held = client.lock("several b", lease=30.0).acquire()
    assert other.lock("several a", "several b", "several c").try_acquire() is None
    with pytest.raises(Refused, match="not-granted"):
        other.lock("several a", "several b", wait=0.2).acquire()
    assert client.lock("several a").try_acquire() is not None
    held.release()
    with other.lock("several b", "several c") as both:
        assert tokens_of(client, "several b") == tokens_of(client, "several c") == [both.token]
    assert tokens_of(client, "several b") == tokens_of(client, "several c") == []


def test_a_semaphore_is_held_by_as_many_as_it_has_permits(service):
    clients = [service.client() for _ in range(3)]
    held = [client.semaphore("permits", 2).try_acquire() for client in clients]
    assert [each is not None for each in held] == [True, True, False]
    held[0].release()
    assert clients[2].semaphore("permits", 2).try_acquire() is not None
    assert clients[0].semaphore("permits", 2).try_acquire() is None


def test_readers_share_a_lock_that_a_writer_has_alone_and_overtake_no_writer_in_line(service):
    readers, writer = [service.client() for _ in range(3)], opened(service)
    held = [reader.lock("shared", shared=True).try_acquire() for reader in readers[:2]]
    assert None not in held
    join_line(service, readers[0], writer, acquire("shared"), 1)
    assert readers[2].lock("shared", shared=True).try_acquire() is None
    held[0].release()
    assert len(line_of(readers[0], "shared")) == 1
    held[1].release()
    token = outcome_of(service, writer).value
    assert readers[2].lock("shared", shared=True).try_acquire() is None
    assert answered(service, writer, Release(token)).type == "ok"
    assert readers[2].lock("shared", shared=True).try_acquire() is not None


# --- leases that end, and tokens that tell ---


@pytest.mark.parametrize("taken_over", [True, False])
def test_what_a_holder_does_after_its_lease_is_refused_by_its_token(service, taken_over):
    client, other = service.client(), service.client()
    name = f"late {taken_over}"
    held = client.lock(name, lease=0.5).acquire()
    client.kv.put("late", "in time", fence=held)
    client.kv.put("late", "in time", fence=held.token)
    if taken_over:
        new = lose(other, name)
        other.kv.put("late", "by another", fence=new)
    else:
        service.wait_for(lambda: tokens_of(other, name) == [], "the lease to end")
    assert not held.valid
    assert held.remaining == 0
    before = other.kv.get("late")
    for write in (
        lambda: client.kv.put("late", "too late", fence=held),
        lambda: client.kv.put("late", "too late", fence=held.token),
        lambda: client.kv.cas("late", before, "too late", fence=held),
        lambda: client.kv.delete("late", fence=held),
    ):
        with pytest.raises(LeaseLost, match=f"{held.token} is the token of no present grant"):
            write()
    assert other.kv.get("late") == before


def test_a_stale_release_or_extension_leaves_the_new_holder_its_lock(service):
    client, other, third = (service.client() for _ in range(3))
    held = client.lock("stale", lease=0.3).acquire()
    new = lose(other, "stale")
    with pytest.raises(LeaseLost):
        held.extend(60.0)
    with pytest.raises(LeaseLost):
        held.release()
    assert third.lock("stale").try_acquire() is None
    assert new.valid
    other.kv.put("stale", 1, fence=new)
    new.release()


def test_a_block_that_outlives_its_lease_ends_with_lease_lost_unless_it_fails_itself(service):
    client, other = service.client(), service.client()

    def outlive(divisor):
        with client.lock("outlived", lease=0.3):
            lose(other, "outlived").release()
            1 / divisor

    with pytest.raises(LeaseLost):
        outlive(1)
    with pytest.raises(ZeroDivisionError):
        outlive(0)


@pytest.mark.parametrize("leader_dies", [False, True])
def test_a_holder_knows_that_its_lease_may_be_over_before_anybody_else_is_granted_the_lock(service, leader_dies):
    """It reads nothing but its own clock."""
    client, other = service.client(), service.client()
    other.kv.put("a session", "is open")
    held = client.lock("known", lease=0.4).acquire()
    until = service.world.now() + held.remaining
    if leader_dies:
        service.kill(service.wait_for_leader())
    new = lose(other, "known")
    assert until <= service.world.now()
    assert not held.valid
    assert new.valid
    new.release()


def test_a_lease_that_a_leader_without_its_majority_granted_is_over_before_the_majority_grants_the_lock(service):
    """And nobody who reaches that leader only can extend it."""
    old = service.wait_for_leader()
    client, cut_off, other = service.client(), opened(service, old), service.client()
    held = client.lock("minority 1", lease=0.5).acquire()
    until = service.world.now() + held.remaining
    granted = answered(service, cut_off, acquire("minority 2", lease=0.5))
    service.partition([old])
    cut_off.ask(Extend(granted.value, 60.0), timeout=1.5)
    new = other.lock("minority 1", "minority 2", wait=30.0).acquire()
    assert until <= service.world.now()
    assert granted.until <= service.world.now()
    assert not held.valid
    assert outcome_of(service, cut_off).type != "ok"
    service.heal()
    assert tokens_of(other, "minority 1") == tokens_of(other, "minority 2") == [new.token]


# --- leaders that go, replies that are lost ---


def test_a_lease_outlasts_its_leader(service):
    """The next leader gives it a full term more: meanwhile there was nobody to ask for it."""
    client, other = service.client(), service.client()
    held = client.lock("outlasting", lease=0.8).acquire()
    while held.remaining > 0.3:
        client.kv.put("outlasting", "the log's time goes on")
    service.kill(service.wait_for_leader())
    service.wait_for_leader()
    pass_time(service, 0.4)
    assert other.lock("outlasting").try_acquire() is None
    client.kv.put("outlasting", 1, fence=held)
    held.extend(20.0)
    assert held.valid
    held.release()
    assert other.lock("outlasting").try_acquire() is not None


def test_a_leader_that_was_paused_revokes_nothing(service):
    """Until it hears of the next leader, it thinks that the lease was not extended."""
    client, other = service.client(), service.client()
    old = service.wait_for_leader()
    held = client.lock("revoked", lease=0.6).acquire()
    service.pause(old)
    held.extend(20.0)
    lease_seen_by_old = service.world.now() + 0.6
    service.wait_for(lambda: service.world.now() > lease_seen_by_old, "the lease to end for the old leader")
    service.resume(old)
    service.wait_for(lambda: service.status()[old].role == "follower", "the old leader to follow")
    service.wait_for(
        lambda: len({status.extra["applied"] for status in service.status().values()}) == 1, "all to be up to date"
    )
    assert tokens_of(other, "revoked") == [held.token]
    client.kv.put("revoked", 1, fence=held)


def test_a_retry_after_a_lost_request_or_reply_gets_the_same_grant(service):
    """A second grant would show in the tokens, and the lock that is held by oneself could not be taken at once."""
    client = service.client(timeout=20)
    lost = counted(service, "lost")
    obey(
        service,
        [
            rule
            for node in service.nodes
            for rule in (LinkRule(CLIENTS, node, loss=0.25), LinkRule(node, CLIENTS, loss=0.25, duplicate=0.25))
        ],
    )
    tokens = []
    while len(tokens) < 5 or (counted(service, "lost") < lost + 3 and len(tokens) < 100):
        held = client.lock("retried", lease=60.0).try_acquire()
        tokens.append(held.token)
        held.release()
    assert counted(service, "lost") >= lost + 3
    assert tokens == list(range(tokens[0], tokens[0] + len(tokens)))


@pytest.mark.parametrize("waits", [False, True])
def test_a_grant_that_its_leader_did_not_live_to_tell_is_told_by_the_next(service, waits):
    client, asker = service.client(), opened(service)
    name = f"untold {waits}"
    held = client.lock(name, lease=30.0).acquire()
    if not waits:
        held.release()
    asker.deaf = True
    asker.ask(acquire(name, lease=30.0), timeout=30.0)
    if waits:
        service.wait_for(lambda: len(line_of(client, name)) == 1, "the asker to be in line")
        held.release()
    service.wait_for(lambda: tokens_of(client, name) not in ([], [held.token]), "the grant")
    (token,) = tokens_of(client, name)
    service.kill(service.wait_for_leader())
    assert tokens_of(client, name) == [token]
    asker.deaf = False
    outcome = outcome_of(service, asker)
    assert (outcome.type, outcome.value) == ("ok", token)
    assert tokens_of(client, name) == [token]
    assert client.lock(f"{name}, next").acquire().token == token + 1


def test_who_waits_keeps_its_place_in_line_when_the_leader_is_killed(service):
    client = service.client()
    held = client.lock("place", lease=30.0).acquire()
    askers = [opened(service) for _ in range(3)]
    for number, asker in enumerate(askers, 1):
        join_line(service, client, asker, acquire("place", lease=30.0), number)
    line = line_of(client, "place")
    service.kill(service.wait_for_leader())
    assert line_of(client, "place") == line
    held.release()
    for asker in askers:
        token = outcome_of(service, asker).value
        assert tokens_of(client, "place") == [token]
        answered(service, asker, Release(token))


def test_tokens_grow_over_snapshots_and_a_restart_of_all_nodes_and_what_is_held_stays_held(new_cluster):
    cluster = new_cluster(options={"snapshot_entries": 20, "trailing_entries": 5})
    client, other = cluster.client(), cluster.client()
    kept = client.lock("kept", lease=600.0).acquire()
    tokens = [kept.token]
    while min(status.extra["snapshot"] for status in cluster.status().values()) <= 20:
        with client.lock("growing") as held:
            tokens.append(held.token)
        assert len(tokens) < 200
    for node in cluster.nodes:
        cluster.kill(node)
    for node in cluster.nodes:
        cluster.start_node(node)
    assert tokens_of(client, "kept") == [kept.token]
    assert other.lock("kept").try_acquire() is None
    client.kv.put("kept", 1, fence=kept)
    for user in (client, other, cluster.client()):
        with user.lock("growing") as held:
            tokens.append(held.token)
    assert tokens == sorted(set(tokens))


# --- clients that go away or give up ---


def test_a_client_that_goes_away_while_it_waits_leaves_the_line(service):
    client = service.client()
    held = client.lock("left", lease=60.0).acquire()
    gone, next_ = opened(service), opened(service)
    join_line(service, client, gone, acquire("left", lease=60.0, wait=600.0), 1)
    join_line(service, client, next_, acquire("left", lease=60.0), 2)
    gone.gone = True
    service.wait_for(lambda: len(line_of(client, "left")) == 1, "the leader to give up on it")
    held.release()
    assert outcome_of(service, next_).type == "ok"


def test_a_client_that_goes_away_and_is_granted_the_lock_holds_it_for_its_lease_only(service):
    client = service.client()
    held = client.lock("unused", lease=60.0).acquire()
    gone, next_ = opened(service), opened(service)
    join_line(service, client, gone, acquire("unused", lease=0.5), 1)
    join_line(service, client, next_, acquire("unused"), 2)
    gone.gone = True
    held.release()
    assert outcome_of(service, next_).value > held.token + 1
    assert gone.outcomes == []


def test_an_acquire_whose_outcome_is_unknown_leaks_no_lock(service):
    """It was granted, after a wait, to a client that heard nothing of it."""
    client, other = service.client(timeout=0.4), service.client()
    kept = client.lock("known of", lease=60.0).acquire()
    held = other.lock("unknown", lease=0.3).acquire()
    obey(service, [LinkRule(node, CLIENTS, "drop") for node in service.nodes])
    with pytest.raises(Unknown):
        client.lock("unknown", lease=600.0, wait=0.5).acquire()
    service.heal()
    assert client.lock("next", wait=30.0).acquire().token == held.token + 2  # one was granted in between
    assert other.lock("unknown").try_acquire() is not None
    client.kv.put("unknown", 1, fence=kept)  # what it knows that it holds is not given back


@pytest.mark.parametrize("meanwhile", [False, True])
def test_a_release_whose_outcome_is_unknown_is_made_up_for_before_the_next_acquire(service, meanwhile):
    """Whether or not another acquire comes to nothing meanwhile."""
    client, other = service.client(timeout=0.3), service.client()
    name = f"not given back {meanwhile}"
    held = client.lock(name, lease=600.0).acquire()
    obey(service, [LinkRule(CLIENTS, node, "drop") for node in service.nodes])
    with pytest.raises(Unknown):
        held.release()
    assert not held.valid
    if meanwhile:
        with pytest.raises(Unknown):
            client.lock("meanwhile", wait=0.0).acquire()
    service.heal()
    assert tokens_of(other, name) == [held.token]
    assert client.lock(f"{name}, next", wait=30.0).acquire().token == held.token + 1
    assert tokens_of(other, name) == []


def interrupted(*_):
    raise KeyboardInterrupt


def test_an_acquire_that_was_interrupted_leaks_no_lock(service, monkeypatch):
    client, other = service.client(), service.client()
    kept = client.lock("interrupted, kept", lease=60.0).acquire()
    held = other.lock("interrupted", lease=60.0).acquire()
    with monkeypatch.context() as patched:
        patched.setattr(service.world, "wait", interrupted)
        with pytest.raises(KeyboardInterrupt):
            client.lock("interrupted", lease=600.0, wait=600.0).acquire()
    held.release()
    assert other.lock("interrupted", wait=30.0).acquire().valid
    client.kv.put("interrupted", 1, fence=kept)


# --- deadlocks ---


def test_of_two_clients_that_cross_one_is_refused_and_the_other_granted_once_that_one_lets_go(service):
    client = service.client()
    for round_ in range(3):
        names = [f"crossing {round_} {number}" for number in range(2)]
        askers = [opened(service) for _ in names]
        own = [answered(service, *each).value for each in zip(askers, map(acquire, names), strict=True)]
        for asker, name in zip(askers, reversed(names), strict=True):
            asker.ask(acquire(name))
        service.wait_for(lambda both=askers: any(asker.outcomes for asker in both), "a victim")
        victim = next(number for number, asker in enumerate(askers) if asker.outcomes)
        outcome = outcome_of(service, askers[victim])
        assert outcome.type == "fail"
        assert outcome.error.startswith("deadlock: session ")
        assert tokens_of(client, names[victim]) == [own[victim]]  # what it holds it keeps until it gives it back
        assert askers[1 - victim].outcomes == []
        answered(service, askers[victim], Release(own[victim]))
        assert outcome_of(service, askers[1 - victim]).type == "ok"


def test_a_deadlock_is_an_error_of_its_own_that_names_the_cycle(service):
    client, asker = service.client(), opened(service)
    held = client.lock("cycle 1").acquire()
    assert answered(service, asker, acquire("cycle 2")).type == "ok"
    join_line(service, client, asker, acquire("cycle 1"), 1)
    with pytest.raises(Deadlock, match=r"session \d+ waits .*'cycle 2'.*waits .*'cycle 1'"):
        client.lock("cycle 2").acquire()
    assert client.lock("cycle 2").try_acquire() is None  # who does not wait deadlocks nobody
    assert held.valid
    held.release()
    assert outcome_of(service, asker).type == "ok"


def test_who_waits_for_what_it_holds_itself_is_told_of_the_deadlock(service):
    client = service.client()
    with client.lock("own") as held:
        with pytest.raises(Deadlock):
            client.lock("own").acquire()
        assert client.lock("own").try_acquire() is None
        assert held.valid


def test_a_cycle_of_three_that_closes_all_at_once_has_one_victim(service):
    client = service.client()
    names = [f"three {number}" for number in range(3)]
    askers = [opened(service) for _ in names]
    own = [answered(service, *each).value for each in zip(askers, map(acquire, names), strict=True)]
    for number, asker in enumerate(askers):
        asker.ask(acquire(names[(number + 1) % 3]))
    service.wait_for(lambda: any(asker.outcomes for asker in askers), "a victim")
    service.wait_for(lambda: sum(len(line_of(client, name)) for name in names) == 2, "the others to wait")
    victims = [number for number, asker in enumerate(askers) if asker.outcomes]
    assert len(victims) == 1
    assert outcome_of(service, askers[victims[0]]).error.startswith("deadlock")
    number = victims[0]
    for _ in range(2):
        answered(service, askers[number], Release(own[number]))
        number = (number - 1) % 3
        assert outcome_of(service, askers[number]).type == "ok"


# --- what cannot be asked for ---


def test_what_makes_no_sense_is_refused_and_changes_nothing(service):
    client = service.client()
    fine = client.lock("fine", lease=30.0).acquire()
    for lock in (
        client.lock("unfit", lease=0.0),
        client.lock("unfit", lease=-1.0),
        client.lock("unfit", lease=nan),
        client.lock("unfit", lease=1e9),
        client.lock("unfit", wait=-0.1),
        client.lock("unfit", wait=1e9),
        client.lock(),
        client.lock(""),
        client.lock("unfit", "unfit"),
        client.lock("x" * 5000),
        client.lock(*(f"unfit{number}" for number in range(1000))),
        client.semaphore("unfit", 0),
    ):
        with pytest.raises(Refused, match="unfit"):
            lock.acquire()
    with pytest.raises(Refused, match="unfit"):
        client.lock("unfit", lease=0.0).try_acquire()
    with pytest.raises(Refused, match="unfit"):
        fine.extend(0.0)
    with pytest.raises(LeaseLost):
        client.kv.put("unfit", 1, fence=fine.token + 1000)
    assert client.kv.get("unfit") is None
    client.kv.put("unfit", None, fence=fine)
    assert fine.valid
    assert client.lock("unfit").try_acquire() is not None


def test_errors_say_whether_it_is_known_that_nothing_happened():
    assert issubclass(Deadlock, Refused)
    assert issubclass(LeaseLost, Refused)
    assert not issubclass(Unknown, Refused)
