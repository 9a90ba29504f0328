"""The client for asyncio against a real server: what differs from the one for threads, and one round of the rest."""

from __future__ import annotations

import asyncio
import uuid

import pytest
from proxy import Proxy
from server import Server

import annals


def order(number: int, event_type: str = "order.placed", **payload: object) -> annals.NewEvent:
    return annals.NewEvent(f"order-{number}", event_type, payload, tags=[f"order:{number}"])


async def test_events_are_appended_and_read(aclient: annals.aio.Client) -> None:
    event = order(1, name="Zoë 🚚")
    result = await aclient.append([event, order(2)], guards=annals.absent("order-1"))
    assert (result.first_position, result.last_position, result.versions) == (1, 2, (1, 1))

    read = await aclient.read(entity_ids="order-1")
    assert (read.head, read.log_id) == (2, result.log_id)
    (found,) = [e async for e in read]
    assert found.payload == {"name": "Zoë 🚚"}
    assert found == await aclient.get_event(position=1) == await aclient.get_event(event_id=event.event_id)

    assert [e.position async for e in aclient.read(backward=True, limit=1)] == [2]
    assert (await aclient.append([event, order(2)][:1])).duplicate


async def test_a_read_knows_its_head_once_it_is_iterated(aclient: annals.aio.Client) -> None:
    await aclient.append([order(1), order(2)])
    read = aclient.read(entity_ids="nobody")
    assert [e async for e in read] == []
    assert read.head == 2


async def test_state_listings_cursors_and_stats_answer(aclient: annals.aio.Client) -> None:
    await aclient.append([order(n, total=n) for n in range(5)], cursors=annals.CursorRecord("worker", 0))
    await aclient.append(order(3, "order.paid", paid=True), cursors=annals.CursorRecord("worker", 5, expected=0))
    assert (await aclient.state("order-3")).state == {"total": 3, "paid": True}
    assert (await aclient.state("order-3", as_of=annals.at_version(1))).state == {"total": 3}
    assert [e.entity_id async for e in aclient.entities("order-", page_size=2)] == [f"order-{n}" for n in range(5)]
    assert [(t.event_type, t.events) async for t in aclient.event_types(page_size=1)] == [
        ("order.paid", 1),
        ("order.placed", 5),
    ]
    assert (await aclient.cursor("worker")).position == 5
    assert (await aclient.stats()).tenants[0].head == 6


async def test_errors_are_typed(aclient: annals.aio.Client) -> None:
    await aclient.append(order(1))
    with pytest.raises(annals.VersionConflict) as conflict:
        await aclient.append(order(1), guards=annals.version("order-1", 5))
    assert (conflict.value.expected, conflict.value.found) == (5, 1)
    with pytest.raises(annals.QueryMatched) as matched:
        await aclient.append(order(1), guards=annals.no_match(annals.item(tags="order:1"), after=0))
    assert matched.value.found_position == 1
    with pytest.raises(annals.NotFound):
        await aclient.get_event(event_id=uuid.uuid4())
    with pytest.raises(annals.InvalidArgument) as invalid:
        await aclient.append(annals.NewEvent("", "t", {}))
    assert invalid.value.violations
    other = str(uuid.uuid4())
    with pytest.raises(annals.FailedPrecondition):
        await aclient.read(log_id=other)
    with pytest.raises(annals.FailedPrecondition):
        async for _ in aclient.read(log_id=other):
            pass
    with pytest.raises(annals.OutOfRange):
        await aclient.subscribe(after=1_000)


async def test_a_large_read_is_complete_and_may_be_left_early(aclient: annals.aio.Client) -> None:
    for _ in range(6):
        await aclient.append([annals.NewEvent("large", "t", "x" * 50_000) for _ in range(20)])
    assert [e.position async for e in aclient.read()] == list(range(1, 121))
    async with aclient.read() as read:
        async for event in read:
            assert event.position == 1
            break
    assert [e async for e in read] == []


async def test_a_subscription_goes_from_the_past_into_the_present(aclient: annals.aio.Client) -> None:
    await aclient.append([order(1), order(2)])
    async with aclient.subscribe(after=1) as subscription:
        assert (await anext(subscription)).position == 2
        await aclient.append(order(3))
        assert (await anext(subscription)).position == 3
        assert subscription.position == 3
        assert subscription.log_id


async def test_a_subscription_from_the_head_sees_what_is_appended_next(aclient: annals.aio.Client) -> None:
    await aclient.append(order(1))
    subscription = await aclient.subscribe(from_head=True)
    assert subscription.position == 1
    await aclient.append(order(2))
    assert (await anext(subscription)).position == 2


async def test_checkpoints_come_when_asked_for(aclient: annals.aio.Client) -> None:
    await aclient.append([order(1), order(2)])
    kinds = []
    async for message in aclient.subscribe(entity_ids="order-1", with_checkpoints=True):
        kinds.append(type(message))
        if isinstance(message, annals.CaughtUp):
            assert message.position == 2
            break
    assert kinds[0] is annals.Checkpoint
    assert kinds.count(annals.Event) == 1
    assert kinds[-1] is annals.CaughtUp


@pytest.mark.parametrize("how", ["subscription", "client"])
async def test_closing_ends_an_iteration_that_waits_in_another_task(server: Server, how: str) -> None:
    client = annals.aio.connect(server.url)
    await client.append(order(1))
    subscription = client.subscribe()
    first = asyncio.Event()

    async def iterate() -> list[int]:
        seen = []
        async for event in subscription:
            seen.append(event.position)
            first.set()
        return seen

    task = asyncio.create_task(iterate())
    await first.wait()
    await (subscription if how == "subscription" else client).close()
    assert await task == [1]
    assert [e async for e in subscription] == []
    await client.close()


async def test_a_cancelled_task_is_cancelled(aclient: annals.aio.Client) -> None:
    subscription = await aclient.subscribe()
    task = asyncio.ensure_future(anext(subscription))
    await aclient.stats()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_wait_that_ran_out_loses_nothing(aclient: annals.aio.Client) -> None:
    subscription = await aclient.subscribe()
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(anext(subscription), 0.05)
    await aclient.append([order(1), order(2)])
    assert [(await anext(subscription)).position for _ in range(2)] == [1, 2]


async def test_a_cancelled_read_does_not_pass_for_a_complete_one(aclient: annals.aio.Client, proxy: Proxy) -> None:
    for _ in range(6):
        await aclient.append([annals.NewEvent("large", "t", "x" * 50_000) for _ in range(20)])
    async with annals.aio.connect(proxy.url) as far:
        await far.stats()
        proxy.hold(after_bytes=3 << 20)
        read = await far.read()
        seen = asyncio.Event()

        async def iterate() -> None:
            async for _ in read:
                seen.set()

        task = asyncio.create_task(iterate())
        await seen.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(annals.Cancelled):
            await anext(read)


async def test_a_read_whose_opening_was_cancelled_opens_again(aclient: annals.aio.Client, proxy: Proxy) -> None:
    await aclient.append(order(1))
    async with annals.aio.connect(proxy.url) as far:
        await far.stats()
        proxy.hold()
        read = far.read()
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(anext(read), 0.1)
        proxy.cut()
        assert [e.position async for e in read] == [1]


async def test_a_subscription_resumes_after_its_server_was_killed(server: Server, aclient: annals.aio.Client) -> None:
    await aclient.append([order(n) for n in range(3)])
    subscription = await aclient.subscribe()
    log_id = subscription.log_id
    seen = [(await anext(subscription)).position for _ in range(2)]
    await asyncio.to_thread(server.kill)
    await asyncio.to_thread(server.start)
    await aclient.append([order(n) for n in range(3)])
    seen += [(await anext(subscription)).position for _ in range(4)]
    assert seen == [1, 2, 3, 4, 5, 6]
    assert subscription.log_id == log_id


async def test_a_subscription_waits_for_a_server_that_is_away(server: Server, aclient: annals.aio.Client) -> None:
    await aclient.append(order(1))
    subscription = await aclient.subscribe(after=1)
    await asyncio.to_thread(server.kill)
    waiting = asyncio.ensure_future(anext(subscription))
    with pytest.raises(annals.Unavailable):
        await aclient.append(order(9))
    await asyncio.to_thread(server.start)
    await aclient.append(order(2))
    assert (await waiting).entity_id == "order-2"


async def test_an_append_whose_answer_is_lost_is_stored_once(aclient: annals.aio.Client, proxy: Proxy) -> None:
    live = await aclient.subscribe()
    event = order(1)
    async with annals.aio.connect(proxy.url) as far:
        await far.stats()
        proxy.hold()
        appending = asyncio.create_task(far.append(event, guards=annals.absent("order-1")))
        assert (await anext(live)).event_id == event.event_id
        proxy.cut()
        answer = await appending
    assert answer.duplicate
    assert answer.first_position == 1
    assert (await aclient.read()).head == 1


async def test_attempts_end_when_no_server_is_there(server: Server) -> None:
    await asyncio.to_thread(server.kill)
    retry = annals.RetryPolicy(attempts=3, delay_seconds_first=0.01)
    async with annals.aio.connect(server.url, retry=retry) as client:
        with pytest.raises(annals.Unavailable):
            await client.append(order(1))
        with pytest.raises(annals.Unavailable):
            await client.read()
        with pytest.raises(annals.Unavailable):
            await client.subscribe()


async def test_many_appends_run_at_once(aclient: annals.aio.Client) -> None:
    results = await asyncio.gather(*(aclient.append(order(n)) for n in range(50)))
    assert sorted(result.first_position for result in results) == list(range(1, 51))
