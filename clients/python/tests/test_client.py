"""The client for threads against a real server."""

from __future__ import annotations

import threading
import uuid
from datetime import datetime, timedelta, timezone
from itertools import pairwise

import pytest
from proxy import Proxy
from server import Server

import annals


def order(number: int, event_type: str = "order.placed", **payload: object) -> annals.NewEvent:
    return annals.NewEvent(f"order-{number}", event_type, payload, tags=[f"order:{number}"])


def test_an_appended_event_is_read_back_as_it_was(client: annals.Client) -> None:
    occurred_at = datetime(2026, 2, 3, 4, 5, 6, 789_012, tzinfo=timezone(timedelta(hours=-7)))
    event = annals.NewEvent(
        "Bestellung Nº 1 🚚",
        "заказ.создан",
        {"名前": "Zoë", "n": 2**60, "list": [1, 2.5, None, True], "nul": "a\u0000b"},
        metadata={"correlation_id": "ü-1"},
        tags=["región:eu", "vip"],
        occurred_at=occurred_at,
    )
    result = client.append(event)
    assert (result.first_position, result.last_position, result.versions) == (1, 1, (1,))
    assert result.event_ids == (event.event_id,)
    assert not result.duplicate
    assert result.recorded_at is not None

    read = client.read()
    assert (read.head, read.log_id) == (1, result.log_id)
    (found,) = read
    assert found.position == found.version == 1
    assert (found.entity_id, found.event_type, found.event_id) == (event.entity_id, event.event_type, event.event_id)
    assert found.payload == event.payload
    assert found.payload_text == '{"名前":"Zoë","n":1152921504606846976,"list":[1,2.5,null,true],"nul":"a\\u0000b"}'
    assert found.metadata == {"correlation_id": "ü-1"}
    assert found.tags == event.tags
    assert found.occurred_at == occurred_at
    assert found.recorded_at == result.recorded_at
    assert found == client.get_event(position=1) == client.get_event(event_id=uuid.UUID(event.event_id))


def test_what_an_event_leaves_out_is_none(client: annals.Client) -> None:
    client.append(annals.NewEvent("a", "t", None))
    event = client.get_event(position=1)
    assert (event.payload, event.metadata, event.metadata_text, event.occurred_at, event.tags) == (
        None,
        None,
        None,
        None,
        (),
    )


def test_a_batch_is_contiguous_across_entities(client: annals.Client) -> None:
    client.append(order(1))
    result = client.append([order(2), order(1), order(2)])
    assert (result.first_position, result.last_position, result.versions) == (2, 4, (1, 2, 2))


def test_the_same_events_again_are_a_duplicate_whatever_their_guard_says(client: annals.Client) -> None:
    event = order(1)
    first = client.append(event, guards=annals.absent("order-1"))
    again = client.append(event, guards=annals.absent("order-1"))
    assert again.duplicate
    assert (again.first_position, again.versions, again.event_ids) == (1, (1,), (event.event_id,))
    assert again.recorded_at == first.recorded_at
    assert client.stats().tenants[0].head == 1


def test_an_id_with_other_content_already_exists(client: annals.Client) -> None:
    event = order(1)
    client.append(event)
    with pytest.raises(annals.AlreadyExists) as caught:
        client.append(annals.NewEvent("order-1", "order.placed", {"other": 1}, event_id=event.event_id))
    assert caught.value.reason


def test_entity_guards_hold(client: annals.Client) -> None:
    client.append(order(1), guards=[annals.absent("order-1"), annals.version("order-2", 0)])
    client.append(order(1), guards=[annals.version("order-1", 1), annals.exists("order-1")])

    with pytest.raises(annals.VersionConflict) as conflict:
        client.append(order(1), guards=[annals.exists("order-1"), annals.version("order-1", 1)])
    error = conflict.value
    assert (error.entity_id, error.expected, error.found, error.index) == ("order-1", 1, 2, 1)
    assert error.reason

    with pytest.raises(annals.VersionConflict) as conflict:
        client.append(order(1), guards=annals.absent("order-1"))
    assert (conflict.value.expected, conflict.value.found) == (0, 2)

    with pytest.raises(annals.VersionConflict) as conflict:
        client.append(order(3), guards=annals.exists("order-3"))
    assert (conflict.value.expected, conflict.value.found) == (None, 0)

    assert client.read().head == 2


def test_a_query_guard_holds(client: annals.Client) -> None:
    client.append([order(1), order(2)])
    unpaid = annals.item(types="order.placed", tags="order:2")
    client.append(order(2, "order.paid"), guards=annals.no_match(unpaid, after=2))
    with pytest.raises(annals.QueryMatched) as matched:
        client.append(order(2, "order.paid"), guards=annals.no_match([annals.item(tags="order:9"), unpaid], after=0))
    assert matched.value.found_position == 2
    with pytest.raises(annals.OutOfRange):
        client.append(order(2), guards=annals.no_match(unpaid, after=1_000))


def test_cursors_are_committed_with_the_events(client: annals.Client) -> None:
    client.append([order(1), order(2)])
    result = client.append(order(3), cursors=annals.CursorRecord("worker", 2, expected=0))
    cursor = client.cursor("worker")
    assert (cursor.name, cursor.position, cursor.log_id) == ("worker", 2, result.log_id)

    with pytest.raises(annals.CursorConflict) as conflict:
        client.append(order(4), cursors=annals.CursorRecord("worker", 3, expected=0))
    assert (conflict.value.name, conflict.value.expected, conflict.value.found) == ("worker", 0, 2)

    alone = client.append(cursors=[annals.CursorRecord("worker", 3, expected=2)])
    assert (alone.first_position, alone.last_position, alone.versions, alone.event_ids) == (0, 0, (), ())
    assert client.cursor("worker").position == 3


def test_another_incarnation_of_the_log_is_refused(client: annals.Client) -> None:
    log_id = client.append(order(1)).log_id
    client.append(order(1), log_id=log_id)
    other = str(uuid.uuid4())
    with pytest.raises(annals.FailedPrecondition):
        client.append(order(1), log_id=other)
    with pytest.raises(annals.FailedPrecondition):
        client.read(log_id=other)
    with pytest.raises(annals.FailedPrecondition):
        client.subscribe(after=0, log_id=other)


def test_a_malformed_request_names_the_field(client: annals.Client) -> None:
    with pytest.raises(annals.InvalidArgument) as caught:
        client.append(annals.NewEvent("", "t", {}))
    assert caught.value.violations
    assert "entity_id" in caught.value.violations[0].field
    assert caught.value.reason


def test_what_is_not_there_is_not_found(server: Server, client: annals.Client) -> None:
    with pytest.raises(annals.NotFound):
        client.get_event(event_id=uuid.uuid4())
    with annals.connect(server.url, tenant="nobody") as other, pytest.raises(annals.NotFound):
        other.read()


def test_reads_are_narrowed_by_every_filter(client: annals.Client) -> None:
    old = datetime(2020, 1, 1, tzinfo=timezone.utc)
    recorded = [
        client.append(annals.NewEvent("a", "x.one", 1, tags=["p"], occurred_at=old)).recorded_at,
        client.append(annals.NewEvent("b", "x.two", 2, tags=["p", "q"])).recorded_at,
        client.append(annals.NewEvent("c", "y.one", 3, tags=["q"])).recorded_at,
        client.append(annals.NewEvent("a", "y.two", 4)).recorded_at,
    ]
    assert recorded[1] is not None

    assert [e.payload for e in client.read(entity_ids="a")] == [1, 4]
    assert [e.payload for e in client.read(entity_ids=["a", "c"])] == [1, 3, 4]
    assert [e.payload for e in client.read(event_types=["x.one", "y.two"])] == [1, 4]
    assert [e.payload for e in client.read(event_type_prefix="x.")] == [1, 2]
    assert [e.payload for e in client.read(tags=["p", "q"])] == [2]
    query = [annals.item(types="y.two"), annals.item(tags="p")]
    assert [e.payload for e in client.read(query=query)] == [1, 2, 4]
    assert [e.payload for e in client.read(after=1, through=3)] == [2, 3]
    assert [e.payload for e in client.read(recorded_since=recorded[1])] == [2, 3, 4]
    assert [e.payload for e in client.read(recorded_until=recorded[1])] == [1]
    assert [e.payload for e in client.read(occurred_since=old, occurred_until=old + timedelta(microseconds=1))] == [1]
    assert [e.payload for e in client.read(backward=True, limit=3)] == [4, 3, 2]
    assert [e.payload for e in client.read(as_of=annals.at_position(2))] == [1, 2]
    assert [e.payload for e in client.read(entity_ids="a", as_of=annals.at_version(1))] == [1]
    assert [e.payload for e in client.read(as_of=recorded[1])] == [1, 2]


def test_partitions_share_out_all_events(client: annals.Client) -> None:
    client.append([order(number) for number in range(40)])
    partitions = len(client.stats().tenants[0].events_per_partition)
    shares = [[e.position for e in client.read(partitions=[p])] for p in range(partitions)]
    assert sorted(position for share in shares for position in share) == list(range(1, 41))


def test_a_read_without_matches_still_tells_the_head(client: annals.Client) -> None:
    result = client.append([order(1), order(2)])
    read = client.read(entity_ids="nobody")
    assert (read.head, read.log_id, list(read)) == (2, result.log_id, [])


def test_a_read_of_many_messages_is_complete_and_of_one_snapshot(client: annals.Client) -> None:
    append_megabytes(client, 6)
    read = client.read()
    head = read.head
    client.append(order(1))
    assert [e.position for e in read] == list(range(1, head + 1))


def test_a_closed_read_ends(client: annals.Client) -> None:
    append_megabytes(client, 6)
    with client.read() as read:
        next(read)
    assert list(read) == []


def test_state_is_the_merge_as_of_any_point(client: annals.Client) -> None:
    client.append(order(1, status="placed", items={"a": 1, "b": 2}))
    second = client.append(order(1, "order.changed", items={"a": None, "c": 3}))
    client.append(order(1, "order.paid", status="paid"))

    now = client.state("order-1")
    assert now.state == {"status": "paid", "items": {"b": 2, "c": 3}}
    assert (now.entity_id, now.version, now.position, now.head) == ("order-1", 3, 3, 3)

    assert client.state("order-1", as_of=annals.at_version(1)).state == {"status": "placed", "items": {"a": 1, "b": 2}}
    changed = {"status": "placed", "items": {"b": 2, "c": 3}}
    assert client.state("order-1", as_of=annals.at_position(2)).state == changed
    assert client.state("order-1", as_of=second.recorded_at).state == changed

    before = client.state("order-1", as_of=annals.at_position(0))
    assert (before.state, before.version, before.position, before.recorded_at) == (None, 0, 0, None)
    with pytest.raises(annals.NotFound):
        client.state("nobody")


def test_listings_go_through_every_page(client: annals.Client) -> None:
    client.append([annals.NewEvent(f"e-{n:03}", f"t-{n % 5}", n) for n in range(250)])
    client.append(annals.NewEvent("other", "else", 0))
    entities = list(client.entities("e-", page_size=7))
    assert [e.entity_id for e in entities] == [f"e-{n:03}" for n in range(250)]
    assert [e.entity_id for e in client.entities()] == [f"e-{n:03}" for n in range(250)] + ["other"]
    assert (entities[4].version, entities[4].first_position, entities[4].last_position) == (1, 5, 5)
    types = list(client.event_types("t-", page_size=2))
    assert [(t.event_type, t.events, t.first_position, t.last_position) for t in types] == [
        (f"t-{n}", 50, n + 1, n + 246) for n in range(5)
    ]


def test_stats_count(client: annals.Client) -> None:
    result = client.append([order(1), order(2), order(2, "order.paid")])
    for stats in (client.stats(), client.stats(all_tenants=True)):
        (tenant,) = stats.tenants
        assert (tenant.tenant, tenant.log_id, tenant.head, tenant.floor) == ("default", result.log_id, 3, 0)
        assert (tenant.entities, tenant.event_types, tenant.poisoned) == (2, 2, "")
        assert stats.process.version


def test_a_payload_near_the_limit_comes_back(client: annals.Client) -> None:
    text = "é" * 400_000
    client.append([annals.NewEvent("a", "t", text), annals.NewEvent("a", "t", text)])
    assert [len(e.payload) for e in client.read()] == [400_000, 400_000]


def test_an_append_whose_answer_is_lost_is_stored_once(client: annals.Client, proxy: Proxy) -> None:
    live = client.subscribe()
    event = order(1)
    with annals.connect(proxy.url) as far:
        far.stats()
        proxy.hold()
        answer: list[annals.AppendResult] = []
        appending = threading.Thread(target=lambda: answer.append(far.append(event, guards=annals.absent("order-1"))))
        appending.start()
        # It is on disk although its client does not know.
        assert next(live).event_id == event.event_id
        proxy.cut()
        appending.join()
    assert answer[0].duplicate
    assert (answer[0].first_position, answer[0].versions) == (1, (1,))
    assert proxy.connections == 2
    assert client.read().head == 1


def test_a_batch_of_cursors_whose_answer_is_lost_is_not_sent_again(client: annals.Client, proxy: Proxy) -> None:
    client.append(order(1))
    with annals.connect(proxy.url) as far:
        far.stats()
        proxy.hold()
        caught: list[Exception] = []

        def append() -> None:
            try:
                far.append(cursors=annals.CursorRecord("worker", 1, expected=0))
            except annals.AnnalsError as error:
                caught.append(error)

        appending = threading.Thread(target=append)
        appending.start()
        while client.cursor("worker").position == 0:
            pass
        proxy.cut()
        appending.join()
    assert type(caught[0]) is annals.Unavailable
    assert proxy.connections == 1


def test_an_append_that_is_not_answered_in_time_says_so_and_may_be_repeated(
    client: annals.Client, proxy: Proxy
) -> None:
    live = client.subscribe()
    event = order(1)
    with annals.connect(proxy.url, timeout=1.0) as far:
        far.stats()
        proxy.hold()
        with pytest.raises(annals.DeadlineExceeded):
            far.append(event)
        assert next(live).event_id == event.event_id
        proxy.cut()
        assert far.append(event).duplicate
    assert client.read().head == 1


def test_attempts_end_when_no_server_is_there(server: Server) -> None:
    server.kill()
    retry = annals.RetryPolicy(attempts=3, delay_seconds_first=0.01)
    with annals.connect(server.url, retry=retry) as client:
        with pytest.raises(annals.Unavailable):
            client.append(order(1))
        with pytest.raises(annals.Unavailable):
            client.read()
        with pytest.raises(annals.Unavailable):
            client.subscribe()


def test_a_client_outlives_its_server(server: Server, client: annals.Client) -> None:
    client.append(order(1))
    server.kill()
    server.start()
    assert client.append(order(1), guards=annals.version("order-1", 1)).versions == (2,)
    assert [e.version for e in client.read()] == [1, 2]


def test_a_subscription_goes_from_the_past_into_the_present(client: annals.Client) -> None:
    result = client.append([order(1), order(2)])
    with client.subscribe(after=1) as subscription:
        assert subscription.position == 1
        assert subscription.log_id == result.log_id
        assert next(subscription).position == 2
        client.append(order(3))
        assert next(subscription).position == 3
        assert subscription.position == 3


def test_a_subscription_from_the_head_sees_what_is_appended_next(client: annals.Client) -> None:
    client.append(order(1))
    subscription = client.subscribe(from_head=True)
    assert subscription.position == 1
    client.append(order(2))
    assert next(subscription).position == 2


def test_a_subscription_shows_only_what_matches_but_knows_how_far_it_is(client: annals.Client) -> None:
    client.append([order(1), order(2, "order.paid"), order(1)])
    subscription = client.subscribe(event_types="order.paid", with_checkpoints=True)
    seen: list[annals.Event | annals.Checkpoint] = []
    for message in subscription:
        seen.append(message)
        if isinstance(message, annals.CaughtUp):
            break
    assert isinstance(seen[0], annals.Checkpoint)
    assert seen[0].position == 0
    assert [m.position for m in seen if isinstance(m, annals.Event)] == [2]
    assert isinstance(seen[-1], annals.CaughtUp)
    assert seen[-1].position == subscription.position == 3


def test_a_subscription_that_starts_beyond_the_head_is_refused(client: annals.Client) -> None:
    with pytest.raises(annals.OutOfRange):
        client.subscribe(after=1_000)


def test_a_closed_subscription_ends(client: annals.Client) -> None:
    client.append([order(1), order(2)])
    subscription = client.subscribe()
    next(subscription)
    subscription.close()
    assert list(subscription) == []
    assert subscription.position == 1


@pytest.mark.parametrize("how", ["subscription", "client"])
def test_closing_ends_an_iteration_that_waits_in_another_thread(server: Server, how: str) -> None:
    client = annals.connect(server.url)
    client.append(order(1))
    subscription = client.subscribe()
    first = threading.Event()
    seen: list[int] = []

    def iterate() -> None:
        for event in subscription:
            seen.append(event.position)
            first.set()

    thread = threading.Thread(target=iterate)
    thread.start()
    first.wait()
    (subscription if how == "subscription" else client).close()
    thread.join()
    assert seen == [1]
    client.close()


def test_closing_ends_a_subscription_that_waits_for_its_server(server: Server, client: annals.Client) -> None:
    subscription = client.subscribe()
    server.kill()
    thread = threading.Thread(target=list, args=(subscription,))
    thread.start()
    subscription.close()
    thread.join()


def test_a_subscription_resumes_after_its_server_was_killed(server: Server, client: annals.Client) -> None:
    client.append([order(n) for n in range(3)])
    subscription = client.subscribe()
    log_id = subscription.log_id
    seen = [next(subscription).position for _ in range(3)]
    server.kill()
    server.start()
    client.append([order(n) for n in range(3)])
    seen += [next(subscription).position for _ in range(3)]
    assert seen == [1, 2, 3, 4, 5, 6]
    assert subscription.log_id == log_id


def test_a_subscription_killed_within_a_backlog_has_no_gap_and_no_repeat(server: Server, client: annals.Client) -> None:
    head = append_megabytes(client, 12)
    subscription = client.subscribe()
    seen: list[int] = []
    for kill_after in (1, head // 3, head // 2):
        while len(seen) < kill_after:
            seen.append(next(subscription).position)
        server.kill()
        server.start()
    while len(seen) < head:
        seen.append(next(subscription).position)
    assert seen == list(range(1, head + 1))


def test_a_subscription_outlives_a_server_that_is_shut_down(server: Server, client: annals.Client) -> None:
    client.append(order(1))
    subscription = client.subscribe()
    assert next(subscription).position == 1
    server.stop()
    server.start()
    client.append(order(2))
    assert next(subscription).position == 2


def test_a_filtered_subscription_resumes_after_a_broken_connection(client: annals.Client, proxy: Proxy) -> None:
    with annals.connect(proxy.url) as far:
        subscription = far.subscribe(tags="order:1", from_head=True)
        for number in range(1, 4):
            client.append([order(2), order(1)])
            assert next(subscription).position == number * 2
            proxy.cut()
    assert proxy.connections >= 3


def test_a_subscription_does_not_resume_on_another_log(server: Server, client: annals.Client) -> None:
    client.append(order(1))
    subscription = client.subscribe()
    assert next(subscription).position == 1
    server.kill()
    server.data = server.data.with_name("other")
    server.start()
    client.append([order(1), order(2)])
    with pytest.raises(annals.FailedPrecondition):
        next(subscription)
    assert list(subscription) == []


def test_resuming_gives_up_after_as_many_attempts_as_were_asked_for(server: Server, client: annals.Client) -> None:
    subscription = client.subscribe(resume_attempts=1)
    server.kill()
    with pytest.raises(annals.Unavailable):
        next(subscription)


def test_threads_share_a_client(client: annals.Client) -> None:
    def append(worker: int) -> None:
        for _ in range(20):
            client.append(order(worker))

    threads = [threading.Thread(target=append, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [e.position for e in client.read()] == list(range(1, 81))
    assert all(a.recorded_at <= b.recorded_at for a, b in pairwise(client.read()))


def append_megabytes(client: annals.Client, megabytes: int) -> int:
    for _ in range(megabytes):
        client.append([annals.NewEvent("large", "t", "x" * 50_000) for _ in range(20)])
    return client.read(limit=1).head
