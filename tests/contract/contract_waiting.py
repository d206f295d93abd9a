"""What the contract suite waits for: that views agree with what is up, that a cluster is whole,
that time passes."""

DRIFT_MAX = 0.002  # the share by which a node's clock may run faster or slower than its world's


def settle(cluster):
    """Wait until each node that is up has heard the others and holds those that are up alive and the rest failed."""

    def is_settled():
        status = cluster.status()
        up = [node for node in cluster.nodes if status[node].state == "up"]
        return all(
            len(status[node].views) == len(status) - 1
            and all(view == ("alive" if peer in up else "failed") for peer, view in status[node].views.items())
            and all(status[node].received[peer] for peer in up if peer != node)
            for node in up
        )

    cluster.wait_for(is_settled, "all views to agree with what is up")


def make_whole(cluster):
    """Undo whatever a test did to the cluster: every node up, every link healed, every view alive."""
    for node, status in cluster.status().items():
        if status.state == "paused":
            cluster.resume(node)
        elif status.state == "down":
            cluster.start_node(node)
    cluster.heal()
    settle(cluster)


def meet(cluster):
    """Make the `Scripted` nodes forget what they were told, and wait until each can send to every other."""
    client = cluster.client()
    for node in cluster.nodes:
        client.request("forget", to=node)

    def have_met():
        met = [client.request("greet", to=node) for node in cluster.nodes]  # all of them greet, each time
        return all(len(peers) == len(cluster.nodes) - 1 for peers in met)

    cluster.wait_for(have_met, "all nodes to have met")


def pass_time(cluster, seconds):
    """Let time pass, whatever happens."""
    assert cluster.world.wait(lambda: False, seconds) is False


def obey(cluster, rules):
    """Have every node that can obey these link rules."""
    version = cluster.world.set_links(rules)
    cluster.wait_for(
        lambda: all(found.links_version >= version for found in cluster.status().values() if found.state == "up"),
        "the nodes to obey",
    )
    return version


def views_of(cluster, node):
    """How all other nodes that are up see this one, in order."""
    return [found.views[node] for found in cluster.status().values() if found.id != node and found.state == "up"]


def counted(cluster, name):
    """One counter, of all nodes together."""
    return sum(found.counters.get(name, 0) for found in cluster.status().values())


def changes_of(client, node, about):
    """What the `on_membership` of a `Scripted` node was told about a peer, in order."""
    return [state for peer, state in client.request("what", to=node)["changes"] if peer == about]
