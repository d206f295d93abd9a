"""Whole messages in and out of a socket."""

from collections.abc import Iterator

import pytest
import zmq

from testbed.live.frames import receive, receive_all, send

Socket = zmq.Socket[bytes]
PATIENCE_MS = 10_000


@pytest.fixture
def pair() -> Iterator[tuple[Socket, Socket]]:
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router, context.socket(zmq.DEALER) as dealer:
        port = router.bind_to_random_port("tcp://127.0.0.1")
        dealer.setsockopt(zmq.LINGER, 0)
        dealer.setsockopt(zmq.ROUTING_ID, b"me")
        dealer.connect(f"tcp://127.0.0.1:{port}")
        yield router, dealer


def test_a_message_arrives_frame_by_frame_as_it_was_sent(pair: tuple[Socket, Socket]) -> None:
    router, dealer = pair
    send(dealer, [b"", b"1234", b"body"])
    assert router.poll(PATIENCE_MS)
    assert receive(router) == [b"me", b"", b"1234", b"body"]


def test_receiving_where_nothing_is_says_again(pair: tuple[Socket, Socket]) -> None:
    with pytest.raises(zmq.Again):
        receive(pair[0])


def test_a_socket_that_turns_out_empty_yields_nothing(pair: tuple[Socket, Socket]) -> None:
    assert list(receive_all(pair[0], 10, 10)) == []


def test_sending_where_nobody_is_connected_says_again() -> None:
    with zmq.Context() as context, context.socket(zmq.DEALER) as lonely:
        lonely.setsockopt(zmq.LINGER, 0)
        with pytest.raises(zmq.Again):
            send(lonely, [b"one", b"two"])


def _taken(pair: tuple[Socket, Socket], total: int, messages_max: int, bytes_max: int) -> list[int]:
    """How many messages each call takes, until all `total` are taken."""
    router = pair[0]
    taken: list[int] = []
    while sum(taken) < total:
        assert router.poll(PATIENCE_MS)
        taken.append(len(list(receive_all(router, messages_max, bytes_max))))
    return taken


def test_no_more_messages_than_asked_for_are_taken_at_once_and_none_is_lost(pair: tuple[Socket, Socket]) -> None:
    for _ in range(25):
        send(pair[1], [b"x"])
    assert max(_taken(pair, 25, messages_max=10, bytes_max=1000)) <= 10


def test_taking_stops_with_the_message_that_exceeds_the_bytes_allowed(pair: tuple[Socket, Socket]) -> None:
    for _ in range(9):
        send(pair[1], [b"x" * 100])
    assert max(_taken(pair, 9, messages_max=100, bytes_max=250)) <= 3
