"""The picture of what broke: which operations are in it, and which messages."""

from report_runs import KV, broken_read

from chaos.history import Event, operations
from chaos.report.anomaly import BARS_MAX, MESSAGES_MAX, anomaly, invocations, messages

HISTORY = operations(Event(**event) for event in KV)
FIRST, TOLD = broken_read()


def test_operations_are_found_by_the_places_that_a_judge_names():
    words = "write 2 ok (process 1, events 2 to 7); read with unknown outcome (process -3, events 11 on)"
    assert invocations(words) == [2, 11]


def test_the_picture_has_the_broken_operation_what_was_open_and_what_shows_it():
    found = anomaly("cas-register", 0, TOLD, "", HISTORY)
    assert [(bar.words, bar.part) for bar in found.bars] == [
        ("write 5 ok", "shows"),
        ("write 6 ok", "open"),
        ("read -> 6", "shows"),
        ("read -> 5", "broken"),
    ]
    assert (found.start, found.end) == (5.02, 5.2)
    assert found.sentence == (
        "On key k1, read -> 5 (process 7) cannot be explained: 5 was there before 6 was for the last time."
    )


def test_without_an_explanation_the_line_of_the_check_is_enough():
    detail = f'on key "k1" no order explains {TOLD["operation"]}: it went back; {TOLD["concurrent"][0]}'
    found = anomaly("cas-register", 0, {}, detail, HISTORY)
    assert [(bar.words, bar.part) for bar in found.bars] == [("write 6 ok", "shows"), ("read -> 5", "broken")]
    assert found.sentence == "On key k1, read -> 5 (process 7) cannot be explained: it went back."


def test_where_no_operation_of_the_history_is_named_there_is_no_picture():
    assert anomaly("cas-register", 0, {}, "3 elements were lost", HISTORY) is None
    assert anomaly("cas-register", 0, {"operation": "read (process 1, events 9999 to 10000)"}, "", HISTORY) is None


def test_a_crowd_of_operations_is_cut_and_counted():
    crowd = [f"write {n} ok (process {n}, events {one.invoked} on)" for n, one in enumerate(HISTORY[:20])]
    found = anomaly("cas-register", 0, {**TOLD, "concurrent": crowd, "minimal": []}, "", HISTORY)
    assert len(found.bars) == BARS_MAX
    assert found.unnamed == 21 - BARS_MAX
    assert any(bar.part == "broken" for bar in found.bars)


def sent(time, node, to, **what):
    return {"time": time, "node": node, "text": "sent", "to": to, "what": {"type": "Append", **what}}


def heard(time, node, sender, **what):
    return {"time": time, "node": node, "text": "heard", "sender": sender, "what": {"type": "Append", **what}}


def told(found):
    return [(one.sender, one.to, one.sent, one.heard) for one in found]


def test_a_message_goes_from_where_it_was_sent_to_where_an_equal_one_was_heard():
    log = [sent(1.0, "n1", "n2", term=1), sent(1.1, "n1", "n2", term=1), heard(1.2, "n2", "n1", term=1)]
    log += [heard(1.25, "n2", "n1", term=1)]
    log += [sent(1.3, "n1", "n3", term=1), heard(1.4, "n3", "n1", term=2)]
    assert told(messages(log, 1.0, 2.0)) == [
        ("n1", "n2", 1.0, 1.2),
        ("n1", "n2", 1.1, 1.25),
        ("n1", "n3", 1.3, None),
        ("n1", "n3", None, 1.4),
    ]


def test_what_is_published_reaches_each_that_heard_it_or_else_nobody():
    log = [{"time": at, "node": "n1", "text": "published", "what": {"type": "Vote", "term": at}} for at in (1.0, 1.5)]
    log += [
        {"time": 1.1, "node": n, "text": "heard", "sender": "n1", "what": {"type": "Vote", "term": 1.0}} for n in "ab"
    ]
    assert told(messages(log, 1.0, 2.0)) == [
        ("n1", "a", 1.0, 1.1),
        ("n1", "b", 1.0, 1.1),
        ("n1", "all", 1.5, None),
    ]


def test_only_the_last_messages_before_the_error_are_shown():
    log = [sent(n / 100, "n1", "n2", index=n) for n in range(400)]
    found = messages(log, 0.5, 2.5)
    assert len(found) == MESSAGES_MAX
    assert found[-1].sent == 2.5
    assert found[-1].words == "index 250"
