"""Leases on real clocks: a leader that stalls before it drains its sockets stamps nothing with a time from before."""

from pathlib import Path

from testbed import ServiceNode
from testbed.live.transport import Transport

STALL_S = 0.4
LEASE_S = 0.4  # granted as of the beginning of a stall it would be over at the stall's end, half of it unknown here


class Late(ServiceNode):
    """Told {"stall": path}, it stalls before it drains its sockets the next time, until a client asks for something.

    The file appears when the stall begins. It ends before anybody asks for another leader.
    """

    def on_start(self):
        super().on_start()
        self.stalling = ""
        drain = Transport.receive

        def receive(transport, ready, now):
            if self.stalling:
                Path(self.stalling).touch()
                self.stalling = ""
                ready = {**ready, transport._clients: transport._clients.poll(3000 * STALL_S)}
            return drain(transport, ready, now)

        Transport.receive = receive

    def on_request(self, request, body):
        match body:
            case {"stall": path}:
                self.stalling = path
                self.reply(request, None)
            case _:
                super().on_request(request, body)


def test_no_holder_believes_in_its_lease_once_another_was_granted_the_lock_though_the_leader_stalls(
    new_cluster, tmp_path
):
    """LK10."""
    cluster = new_cluster(node="test_lease_clock:Late", election_timeout=4.0)
    leader = cluster.wait_for_leader()
    holder, competitor = cluster.client(), cluster.client()
    for client in (holder, competitor):
        client.lock("x").acquire().release()
    for round_ in range(4):
        stalled = tmp_path / f"stalled{round_}"
        holder.request({"stall": str(stalled)}, to=leader)
        cluster.wait_for(stalled.exists, "the leader to stall")
        assert cluster.world.wait(lambda: False, STALL_S) is False
        held = holder.lock("x", lease=LEASE_S).acquire()  # it is waiting at the leader's socket when the stall ends
        others = competitor.lock("x", wait=30.0).acquire()
        assert not held.valid, f"{held.remaining:.3f} s left while another holds the lock"
        assert others.token > held.token
        others.release()
