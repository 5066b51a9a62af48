"""Traces over REST: what is told is there at once, and what is wrong is named."""

from __future__ import annotations

from typing import Any

import pytest

from tests.server.serving import TRACES, App, completed_trace, problem

STEP = {"thought": "I need to search first", "action": "call web_search"}
CALL: dict[str, Any] = {
    "tool_name": "web_search",
    "arguments": {"query": "italian near the venue", "limit": 10},
    "result": {"results": ["Trattoria Milano", "Perbacco"]},
    "duration_ms": 420,
    "status": "success",
}
DONE = {"outcome": "Found two", "success": True}
UNKNOWN = f"trace-{'0' * 32}-{'0' * 16}"


@pytest.fixture(scope="module")
def lasting(app: App) -> str:
    """A trace that stays open: for what is refused."""
    return _begun(app)


@pytest.fixture
def open_trace(app: App) -> str:
    return _begun(app)


def _begun(app: App) -> str:
    started = app.client().post(
        f"{TRACES}/start", {"task": "Find a restaurant", "session_id": "s1"}
    )
    assert started.status_code == 200
    trace_id: str = started.json()["trace_id"]
    return trace_id


def test_a_trace_told_call_by_call_is_read_whole(app: App) -> None:
    ann = app.client()
    started = ann.post(
        f"{TRACES}/start",
        {"task": "Find a table", "session_id": "s9", "triggered_by_memory_id": "mem_1"},
    ).json()
    one = f"{TRACES}/{started['trace_id']}"
    step = ann.post(f"{one}/step", STEP | {"observations": ["Found 15 results"]}).json()
    call = ann.post(f"{one}/tool_call", CALL | {"memory_id": "mem_2"}).json()
    completed = ann.post(f"{one}/complete", DONE).json()

    found = ann.get(one).json()

    assert started["status"] == "active"
    assert started["created_at"].endswith("Z")
    assert step["trace_id"] == call["trace_id"] == completed["trace_id"] == found["trace_id"]
    assert {name: found[name] for name in ("task", "status", "success", "outcome")} == {
        "task": "Find a table",
        "status": "completed",
        "success": True,
        "outcome": "Found two",
    }
    assert (found["agent"], found["session_id"]) == ("ann", "s9")
    assert found["triggered_by_memory_id"] == "mem_1"
    (told,) = found["steps"]
    assert (told["step_id"], told["thought"]) == (step["step_id"], STEP["thought"])
    assert told["observations"] == ["Found 15 results"]
    (called,) = told["tool_calls"]
    assert {name: called[name] for name in CALL} == CALL
    assert called["memory_id"] == "mem_2"
    assert called["tool_call_id"] == call["tool_call_id"]
    assert found["completed_at"] == completed["completed_at"]


def test_a_tool_call_belongs_to_the_step_that_it_names(app: App, open_trace: str) -> None:
    ann, one = app.client(), f"{TRACES}/{open_trace}"
    first, _second = (ann.post(f"{one}/step", STEP).json()["step_id"] for _ in range(2))
    ann.post(f"{one}/tool_call", CALL | {"step_id": first, "tool_name": "named"})
    ann.post(f"{one}/tool_call", CALL | {"step_id": None, "tool_name": "latest"})

    steps = ann.get(one).json()["steps"]

    assert [[call["tool_name"] for call in step["tool_calls"]] for step in steps] == [
        ["named"],
        ["latest"],
    ]


def test_to_complete_again_is_the_same_answer_or_a_conflict(app: App, open_trace: str) -> None:
    ann, one = app.client(), f"{TRACES}/{open_trace}"
    first = ann.post(f"{one}/complete", DONE)

    assert ann.post(f"{one}/complete", DONE).json() == first.json()
    for other in (DONE | {"success": False}, DONE | {"outcome": "Found none"}):
        again = ann.post(f"{one}/complete", other)
        assert (again.status_code, problem(again)["type"]) == (409, "trace_state")
        assert "another outcome" in problem(again)["msg"]
    assert ann.get(one).json()["outcome"] == "Found two"


@pytest.mark.parametrize(("what", "body"), [("step", STEP), ("tool_call", CALL)])
def test_a_completed_trace_takes_nothing_more(app: App, what: str, body: Any) -> None:
    ann = app.client()
    trace_id = completed_trace(ann, "Find a table")
    before = ann.get(f"{TRACES}/{trace_id}").json()

    refused = ann.post(f"{TRACES}/{trace_id}/{what}", body)

    assert (refused.status_code, problem(refused)["type"]) == (409, "trace_state")
    assert ann.get(f"{TRACES}/{trace_id}").json() == before


@pytest.mark.parametrize("trace_id", [UNKNOWN, "nonsense", "trace-%2e%2e", "%F0%9F%8D%95", "a%20b"])
@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "", None),
        ("POST", "/step", STEP),
        ("POST", "/tool_call", CALL),
        ("POST", "/complete", DONE),
    ],
)
def test_an_unknown_trace_is_not_found(
    app: App, trace_id: str, method: str, path: str, body: Any
) -> None:
    answer = app.client()(method, f"{TRACES}/{trace_id}{path}", body)

    assert (answer.status_code, problem(answer)["type"]) == (404, "trace_not_found")
    assert "/" not in problem(answer)["msg"]  # nothing about where the store lies


@pytest.mark.parametrize("step_id", ["step-001", f"step-{'0' * 32}-{'0' * 16}"])
def test_an_unknown_step_is_not_found(app: App, lasting: str, step_id: str) -> None:
    answer = app.client().post(f"{TRACES}/{lasting}/tool_call", CALL | {"step_id": step_id})

    assert (answer.status_code, problem(answer)["type"]) == (404, "step_not_found")


@pytest.mark.parametrize(
    ("path", "body", "field", "allowed"),
    [
        ("start", {"session_id": "s1"}, "task", "required"),
        ("start", {"task": "x"}, "session_id", "required"),
        ("start", {"task": "", "session_id": "s1"}, "task", "at least 1"),
        ("start", {"task": " \n", "session_id": "s1"}, "task", "match pattern"),
        ("start", {"task": 5, "session_id": "s1"}, "task", "string"),
        ("{id}/step", {"action": "a"}, "thought", "required"),
        ("{id}/step", STEP | {"observations": "one"}, "observations", "list"),
        ("{id}/step", STEP | {"observations": [1]}, "observations", "string"),
        ("{id}/tool_call", CALL | {"status": "ok"}, "status", "'success', 'error' or 'timeout'"),
        ("{id}/tool_call", CALL | {"duration_ms": -1}, "duration_ms", "whole number from 0 to "),
        ("{id}/tool_call", CALL | {"duration_ms": 1.5}, "duration_ms", "whole number"),
        ("{id}/tool_call", CALL | {"duration_ms": "5"}, "duration_ms", "whole number"),
        ("{id}/tool_call", CALL | {"duration_ms": True}, "duration_ms", "whole number"),
        ("{id}/tool_call", CALL | {"duration_ms": 10**15}, "duration_ms", "whole number"),
        ("{id}/tool_call", CALL | {"arguments": [1]}, "arguments", "dictionary"),
        ("{id}/tool_call", {k: v for k, v in CALL.items() if k != "result"}, "result", "required"),
        ("{id}/complete", {"outcome": "x"}, "success", "required"),
        ("{id}/complete", {"outcome": "x", "success": 1}, "success", "boolean"),
        ("recall", {"query": "x", "limit": 0}, "limit", "from 1 to 50"),
        ("recall", {"query": "x", "limit": 51}, "limit", "from 1 to 50"),
        ("recall", {"query": " "}, "query", "pattern"),
        ("recall", {"query": "x", "success_only": "yes"}, "success_only", "boolean"),
    ],
)
def test_a_bad_field_is_named_with_what_is_allowed(
    app: App, lasting: str, path: str, body: Any, field: str, allowed: str
) -> None:
    answer = app.client().post(f"{TRACES}/{path.format(id=lasting)}", body)

    assert answer.status_code == 422
    found = problem(answer)
    assert found["loc"][:2] == ["body", field]
    assert allowed in found["msg"]
    assert "input" not in found


def test_a_number_with_nothing_behind_its_point_is_whole(app: App, lasting: str) -> None:
    answer = app.client().post(f"{TRACES}/{lasting}/tool_call", CALL | {"duration_ms": 5.0})

    assert answer.status_code == 200


def test_a_field_that_the_contract_does_not_know_does_no_harm(app: App, lasting: str) -> None:
    assert app.client().post(f"{TRACES}/{lasting}/step", STEP | {"mood": 1}).status_code == 200


@pytest.mark.parametrize(
    "result", [None, 0, "text", [], {"a": [1, {"b": None}]}, "\U0001f355", 1e308]
)
def test_a_result_may_be_any_json(app: App, open_trace: str, result: Any) -> None:
    ann = app.client()
    call = ann.post(f"{TRACES}/{open_trace}/tool_call", CALL | {"result": result})

    assert call.status_code == 200
    (step,) = ann.get(f"{TRACES}/{open_trace}").json()["steps"]
    assert step["tool_calls"][0]["result"] == result


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"nothing",
        b'"text"',
        b"\xff\xfe",
    ],
)
def test_a_body_that_is_no_object_of_the_contract_is_refused(app: App, body: bytes) -> None:
    answer = app.client()(
        "POST", f"{TRACES}/start", content=body, headers={"Content-Type": "application/json"}
    )

    assert answer.status_code in (400, 422)
    assert answer.json()["detail"]


@pytest.mark.parametrize(
    ("content_type", "body", "said"),
    [
        (
            "text/plain",
            b'{"task": "t", "session_id": "s"}',
            "Content-Type must be application/json",
        ),
        ("application/x-www-form-urlencoded", b"{}", "Content-Type must be application/json"),
        ("application/json", b"[]", "must be a JSON object"),
        ("Application/JSON; charset=utf-8", b"[]", "must be a JSON object"),
    ],
)
def test_a_body_that_is_no_json_object_is_told_what_to_be(
    app: App, content_type: str, body: bytes, said: str
) -> None:
    headers = {"Content-Type": content_type}

    answer = app.client()("POST", f"{TRACES}/start", content=body, headers=headers)

    assert answer.status_code == 422
    assert problem(answer)["loc"] == ["body"]
    assert said in problem(answer)["msg"]


def test_recall_finds_what_succeeded_unless_asked_for_all(app: App) -> None:
    ann = app.client("recaller")
    good = completed_trace(ann, "Summarize research papers on safety")
    bad = completed_trace(ann, "Summarize research papers on safety", success=False)

    def found(**options: Any) -> set[str]:
        body = {"query": "Summarize research papers on safety", "limit": 50} | options
        answer = ann.post(f"{TRACES}/recall", body).json()
        assert answer["count"] == len(answer["results"])
        return {each["trace_id"] for each in answer["results"]}

    assert good in found()
    assert bad not in found()
    assert {good, bad} <= found(success_only=False)
    assert len(found(limit=1)) == 1


def test_recall_notes_a_failed_trace_that_is_nearer_and_how_to_see_it(app: App) -> None:
    ann = app.client("noter")
    said = "a trace that failed is nearer (1.00): ask with success_only=false"
    task = "Deploy the mobile application to the store of noter"
    completed_trace(ann, task, success=False)

    def recalled(**options: Any) -> Any:
        return ann.post(f"{TRACES}/recall", {"query": task, "limit": 1} | options).json()

    assert recalled()["note"] == said
    only = recalled(agents=["noter"])
    assert (only["results"], only["count"], only["note"]) == ([], 0, said)
    assert recalled(success_only=False)["note"] is None
    assert recalled(agents=["nobody"]) == {"results": [], "count": 0, "note": None}
    completed_trace(ann, task)
    assert recalled()["note"] is None


def test_tool_stats_come_in_pages_and_the_rest_is_counted_together(app: App) -> None:
    ann = app.client()
    trace_id = ann.post(f"{TRACES}/start", {"task": "t", "session_id": "s"}).json()["trace_id"]
    for tool in ("a", "a", "b", "b", "b", "c"):
        ann.post(f"{TRACES}/{trace_id}/tool_call", CALL | {"tool_name": f"paged-{tool}"})
    whole = ann.get(f"{TRACES}/tool_stats").json()
    names = [tool["tool_name"] for tool in whole["tool_stats"]]
    calls = sum(tool["call_count"] for tool in whole["tool_stats"])
    assert (whole["left_out"], whole["others"]) == (0, None)

    answer = ann.get(f"{TRACES}/tool_stats?limit=1&after={names[0]}").json()

    (shown,) = answer["tool_stats"]
    assert (shown["tool_name"], answer["count"]) == (names[1], 1)
    assert answer["left_out"] == len(names) - 2
    before = whole["tool_stats"][0]["call_count"]
    assert answer["others"]["call_count"] + shown["call_count"] + before == calls
    for wrong, status in (("limit=0", 422), ("limit=1001", 422), ("after=nothing", 404)):
        refused = ann.get(f"{TRACES}/tool_stats?{wrong}")
        assert refused.status_code == status
        assert wrong.partition("=")[0 if status == 422 else 2] in refused.text


def test_tool_stats_count_every_call(app: App) -> None:
    ann = app.client()
    trace_id = ann.post(f"{TRACES}/start", {"task": "t", "session_id": "s"}).json()["trace_id"]
    for status in ("success", "success", "error", "timeout"):
        ann.post(
            f"{TRACES}/{trace_id}/tool_call", CALL | {"tool_name": "counted", "status": status}
        )

    answer = ann.get(f"{TRACES}/tool_stats").json()

    (found,) = [tool for tool in answer["tool_stats"] if tool["tool_name"] == "counted"]
    assert answer["count"] == len(answer["tool_stats"])
    assert {name: found[name] for name in ("call_count", "success_rate", "timeout_count")} == {
        "call_count": 4,
        "success_rate": 0.5,
        "timeout_count": 1,
    }
    assert (found["min_duration_ms"], found["max_duration_ms"]) == (420, 420)


def test_traces_are_listed_page_by_page(app: App) -> None:
    ann = app.client("lister")
    recorded = [completed_trace(ann, f"task {n}") for n in range(5)]

    pages: list[list[str]] = []
    after: dict[str, str] = {}
    while True:
        page = ann.get(TRACES, params={"agent": "lister", "limit": 2} | after).json()
        pages.append([trace["trace_id"] for trace in page["traces"]])
        if page["next"] is None:
            break
        after = {"after": page["next"]}

    assert pages == [recorded[:2:-1], recorded[2:0:-1], recorded[:1]]


@pytest.mark.parametrize(
    ("params", "status"),
    [
        ({"status": "done"}, 422),
        ({"limit": 0}, 422),
        ({"limit": 1001}, 422),
        ({"after": UNKNOWN}, 404),
        ({"status": "completed", "session_id": "s1", "agent": "nobody"}, 200),
    ],
)
def test_a_page_is_asked_for_as_allowed(app: App, params: Any, status: int) -> None:
    assert app.client().get(TRACES, params=params).status_code == status


def test_a_trace_is_deleted_from_everything(app: App) -> None:
    ann = app.client("deleter")
    task = "Count the penguins of the southern colony"
    kept, gone = (completed_trace(ann, task) for _ in range(2))
    one = f"{TRACES}/{gone}"
    assert ann.get(one).status_code == 200

    deleted = ann("DELETE", one)

    assert (deleted.status_code, deleted.content) == (204, b"")
    for answer in (ann.get(one), ann("DELETE", one), ann.post(f"{one}/step", STEP)):
        assert (answer.status_code, problem(answer)["type"]) == (404, "trace_not_found")
    listed = ann.get(TRACES, params={"agent": "deleter"}).json()["traces"]
    assert [trace["trace_id"] for trace in listed] == [kept]
    found = ann.post(f"{TRACES}/recall", {"query": task, "limit": 50}).json()["results"]
    assert gone not in {each["trace_id"] for each in found}
    assert kept in {each["trace_id"] for each in found}


def test_an_open_trace_is_deleted_and_takes_nothing_more(app: App, open_trace: str) -> None:
    one = f"{TRACES}/{open_trace}"
    app.client().post(f"{one}/step", STEP)

    assert app.client()("DELETE", one).status_code == 204
    for what, body in (("step", STEP), ("tool_call", CALL), ("complete", DONE)):
        assert app.client().post(f"{one}/{what}", body).status_code == 404


@pytest.mark.parametrize(("role", "status"), [("agent", 403), ("approver", 403), ("admin", 204)])
def test_another_agent_s_trace_is_deleted_by_admins_alone(app: App, role: Any, status: int) -> None:
    trace_id = completed_trace(app.client(), "Find a table")

    assert app.client("other", role)("DELETE", f"{TRACES}/{trace_id}").status_code == status
    there = app.client().get(f"{TRACES}/{trace_id}").status_code
    assert there == (404 if status == 204 else 200)
