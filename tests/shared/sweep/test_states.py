import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.sweep.states import Event, Limits, Planned, fold

POINT = Planned("0" * 12, 3, 1, 0, {"lr": 0.1}, ("lr=0.1",))


def event(n, kind, lease=0, token="t0", **data):
    if kind == "running":
        data = {"token": token, "machine": "m", "born": 1.0} | data
    elif kind != "retry":
        needs = {"opened": {"run": f"run{n}"}, "done": {"outcome": {"score": n}}, "failed": {"error": f"broke at {n}"}}
        data = {"lease": lease, "token": token} | needs.get(kind, {"reason": f"stopped at {n}"}) | data
    return Event(POINT.id, n, kind, 0.0, "h", 1, data)


def chain(*kinds, limits=None):
    """Fold events that follow the rules: each belongs to the newest lease."""
    events, lease = [], 0
    for n, (kind, data) in enumerate((k, {}) if isinstance(k, str) else k for k in kinds):
        lease = n if kind == "running" else lease
        events.append(event(n, kind, lease, f"t{lease}", **data))
    return fold(POINT, events, limits or Limits())


def test_a_point_without_events_is_planned():
    view = fold(POINT, [], Limits())
    assert (view.state, view.attempts, view.last_event, view.is_free, view.is_settled) == (
        "planned",
        0,
        -1,
        True,
        False,
    )
    assert (view.id, view.number, view.stage, view.values, view.overrides) == ("0" * 12, 3, 1, {"lr": 0.1}, ("lr=0.1",))


def test_a_point_from_claim_to_done():
    running = chain("running", "opened")
    assert (running.state, running.run, running.lease.token, running.is_free) == ("running", "run1", "t0", False)
    done = chain("running", "opened", "done")
    assert (done.state, done.outcome, done.lease, done.is_settled) == ("done", {"score": 2}, None, True)


def test_failures_up_to_the_retries_and_then_for_good():
    once = ("running", "opened", "failed")
    assert [chain(*once * k).final for k in (1, 2, 3)] == [False, False, True]
    view = chain(*once * 3)
    assert (view.state, view.attempts, view.failures, view.error, view.run) == ("failed", 3, 3, "broke at 8", "run7")
    assert chain(*once, limits=Limits(retries=0)).final
    assert chain("running", ("failed", {"final": True})).final


def test_retry_gives_all_attempts_again_and_nothing_else_is_retried():
    view = chain(*("running", "failed") * 3, "retry")
    assert (view.state, view.failures, view.attempts, view.error, view.is_free) == ("planned", 0, 3, None, True)
    assert not chain(*("running", "failed") * 3, "retry", *("running", "failed") * 2).final
    assert chain("running", "done", "retry").state == "done"
    assert chain("running", "retry").stale == (1,)


def test_interruptions_count_in_a_row_without_progress():
    stop = ("running", "interrupted")
    limits = Limits(max_interruptions=2)
    assert chain(*stop * 2, limits=limits).state == "interrupted"
    view = chain(*stop * 3, limits=limits)
    assert (view.state, view.final, view.failures) == ("failed", True, 0)
    assert view.error == "interrupted 3 times without progress, at last: stopped at 5"
    epochs = [step for epoch in range(9) for step in ("running", ("interrupted", {"epoch": epoch}))]
    assert chain(*epochs, limits=limits).interruptions == 1
    stuck = [step for _ in range(3) for step in ("running", ("interrupted", {"epoch": 4}))]
    assert [chain(*stuck[: 2 * k], limits=limits).interruptions for k in (1, 2, 3)] == [1, 2, 3]
    assert chain(*stop * 2, "running", "failed", *stop * 2, limits=limits).interruptions == 2


def test_what_a_worker_without_the_lease_wrote_does_not_count():
    events = [event(0, "running"), event(1, "interrupted"), event(2, "running", token="t2"), event(3, "done")]
    view = fold(POINT, events, Limits())
    assert (view.state, view.lease.token, view.stale, view.last_event) == ("running", "t2", (3,), 3)
    wrong_token = fold(POINT, [event(0, "running"), event(1, "done", 0, "other")], Limits())
    assert (wrong_token.state, wrong_token.stale) == ("running", (1,))


def test_a_gap_left_by_a_damaged_event_does_not_lose_a_result():
    view = fold(POINT, [event(1, "opened", 0), event(2, "done", 0)], Limits())
    assert (view.state, view.run, view.outcome) == ("done", "run1", {"score": 2})
    view = fold(POINT, [event(0, "running"), event(2, "running", token="t2"), event(3, "done", 2, "t2")], Limits())
    assert (view.state, view.stale) == ("done", ())


def test_nothing_after_done_counts():
    view = chain("running", "done", "running", "failed")
    assert (view.state, view.outcome, view.stale) == ("done", {"score": 1}, (2, 3))


def test_arguments():
    with pytest.raises(ValueError, match="retries must be at least 0, found -1"):
        Limits(retries=-1)
    with pytest.raises(ValueError, match="max_interruptions must be at least 0, found -1"):
        Limits(max_interruptions=-1)
    with pytest.raises(ValueError, match=r"must be its own and in order, found numbers \[1, 0\]"):
        fold(POINT, [event(1, "running"), event(0, "running")], Limits())


OPERATIONS = st.sampled_from(["claim", "opened", "done", "failed", "interrupted", "look"])


@given(st.lists(st.tuples(st.integers(0, 3), OPERATIONS, st.booleans()), max_size=60))
def test_any_interleaving_gives_a_valid_chain_and_no_two_holders(steps):
    """Four workers, each with its own, maybe old, view; a write succeeds only where the next number is free."""
    limits = Limits(retries=2, max_interruptions=3)
    disk: dict[int, Event] = {}
    seen = [0, 0, 0, 0]  # how many events each worker has read
    held: dict[int, tuple[int, str]] = {}
    num_tokens = 0
    for worker, operation, is_fresh in steps:
        if is_fresh or operation == "look":
            seen[worker] = len(disk)
        view = fold(POINT, [disk[n] for n in range(seen[worker])], limits)
        n, new = view.last_event + 1, None
        if operation == "claim" and view.is_free:
            num_tokens += 1
            new = event(n, "running", token=f"token{num_tokens}")
        elif (
            operation not in ("claim", "look") and worker in held and view.lease and view.lease.token == held[worker][1]
        ):
            new = event(n, operation, *held[worker])
        if new is None or n in disk:
            continue
        disk[n] = new
        seen[worker] = n + 1
        if operation == "claim":
            held[worker] = (n, new.data["token"])
        truth = fold(POINT, [disk[k] for k in range(len(disk))], limits)
        assert truth.stale == ()
        holders = [w for w, (_, token) in held.items() if truth.lease and token == truth.lease.token]
        assert len(holders) == (truth.state == "running")
        assert operation == "claim" or operation == "opened" or truth.lease is None
    kinds = [disk[n].kind for n in range(len(disk))]
    assert kinds.count("done") <= 1
    assert "done" not in kinds[:-1]
    assert kinds.count("failed") <= 3
