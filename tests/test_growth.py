"""Nothing that reads what others wrote takes more than linear time.

Patterns are collected from every module, so that a new one is tested without being named here, and
the texts that they are tried on are made from the patterns themselves.
"""

from __future__ import annotations

import importlib
import inspect
import json
import logging
import pkgutil
import random
import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from re import _constants as sre
from re import _parser as sre_parser
from typing import Any

import pytest

import autotrace
from autotrace.base import grants, visible_text
from autotrace.base.json_text import has_more_values, is_too_deep, repaired
from autotrace.capture.approvals.arguments_hash import show_call
from autotrace.cli import formatting as cli_text
from autotrace.decisions.notify.webhooks import slack_message
from autotrace.dialects import attribute_keys, messages, wrapped_values
from autotrace.encoding import secret_names, secret_patterns, secret_tokens
from autotrace.encoding.redaction import Redactor
from autotrace.ids import parse_trace_id
from autotrace.otlp.decode import read_json, read_protobuf
from autotrace.server import logs
from autotrace.server.mcp import json_rpc
from autotrace.settings import is_http_url
from autotrace.traces import recall
from autotrace.traces.assembly import build_trace, summarize
from autotrace.traces.tree import Tree
from tests.growth import KIB, LARGER_SIZES, SIZES, superlinear

# --- every pattern


def _modules() -> Iterator[Any]:
    for found in pkgutil.walk_packages(autotrace.__path__, "autotrace."):
        if not found.name.endswith("__main__"):
            yield importlib.import_module(found.name)


def _patterns_in(value: Any) -> Iterator[re.Pattern[Any]]:
    if isinstance(value, re.Pattern):
        yield value
    elif isinstance(value, dict):
        yield from _patterns_in(tuple(value.values()))
    elif isinstance(value, tuple | list | set | frozenset):
        for item in value:
            yield from _patterns_in(item)


def _used_by(source: str, name: str) -> set[str]:
    """Return the methods that a module calls on a pattern; the most demanding if none is seen."""
    methods = "search|match|fullmatch|finditer|findall|sub|subn|split"
    found = set(re.findall(rf"\b{name}(?:\[\w+\])?\.({methods})\b", source))
    return {"finditer"} if not found or found & {"findall", "sub", "subn", "split"} else found


def _collected() -> dict[str, dict[str, tuple[re.Pattern[Any], str]]]:
    """Return the patterns of each module with the method that it calls; each pattern once."""
    found: dict[str, dict[str, tuple[re.Pattern[Any], str]]] = {}
    seen: set[tuple[str | bytes, int, str]] = set()
    for module in _modules():
        source = inspect.getsource(module)
        for name, value in vars(module).items():
            for number, pattern in enumerate(_patterns_in(value)):
                for method in sorted(_used_by(source, name)):
                    if (key := (pattern.pattern, pattern.flags, method)) not in seen:
                        seen.add(key)
                        short = module.__name__.removeprefix("autotrace.")
                        of_module = found.setdefault(short, {})
                        of_module[f"{name}[{number}].{method}"] = (pattern, method)
    return found


PATTERNS = _collected()


class Texts:
    """Makes texts that a pattern nearly matches, out of the pattern."""

    def __init__(self, pattern: re.Pattern[Any]) -> None:
        self._random = random.Random(repr(pattern.pattern))
        self.units: set[str] = set()
        """What is worth repeating."""
        self.pumps: set[tuple[str, str]] = set()
        """What is worth repeating behind something: each repeated part, and what comes before."""
        text = pattern.pattern
        tree = sre_parser.parse(text.decode("latin-1") if isinstance(text, bytes) else text)
        for _ in range(3):
            self._groups: dict[int, str] = {}
            sample = self._sample(tree, "")
            ends = range(1, len(sample) + 1)
            self.units |= {sample[:end] for end in [*ends[:24], *ends[-3:]]}
            self.units |= {f"{sample}{c}" for c in "\n !\0"}

    def _sample(self, tree: Any, before: str) -> str:
        made = ""
        for kind, argument in tree:
            made += self._part(kind, argument, before + made)
        return made

    def _part(self, kind: Any, argument: Any, before: str) -> str:
        match kind:
            case sre.LITERAL:
                return chr(argument)
            case sre.NOT_LITERAL:
                return "a" if argument != ord("a") else "b"
            case sre.ANY:
                return "a"
            case sre.IN:
                return self._one_of(argument)
            case sre.BRANCH:
                for branch in argument[1]:
                    self.units.add(before[-40:] + self._sample(branch, before))
                return self._sample(self._random.choice(argument[1]), before)
            case sre.SUBPATTERN:
                self._groups[argument[0]] = made = self._sample(argument[3], before)
                return made
            case sre.ATOMIC_GROUP:
                return self._sample(argument, before)
            case sre.GROUPREF:
                return self._groups.get(argument, "")
            case sre.MAX_REPEAT | sre.MIN_REPEAT | sre.POSSESSIVE_REPEAT:
                low, high, inner = argument
                one = self._sample(inner, before)
                self.pumps.add((before[-80:], one))
                return one * min(max(low, self._random.randint(0, 2)), int(high), 1000)
            case _:
                return ""

    def _one_of(self, choices: Any) -> str:
        members = [c for c in map(chr, range(1, 128)) if _is_in(c, choices)] or ["é"]
        return self._random.choice(members)

    def makers(self) -> Iterator[tuple[str, Callable[[int], str]]]:
        """Yield what makes texts of a size, and its name."""
        for unit in sorted(self.units):
            yield repr(unit), lambda size, unit=unit: (unit * (size // len(unit) + 1))[:size]
        for before, pump in sorted(self.pumps):
            if pump:
                yield f"{before!r} and {pump!r}s", lambda n, b=before, p=pump: _pumped(b, p, n)
                both = before + pump * 300
                yield f"{both!r}s", lambda n, both=both: both * (n // len(both) + 1)


def _is_in(character: str, choices: Any) -> bool:
    negated = bool(choices) and choices[0][0] is sre.NEGATE
    for kind, argument in choices:
        hit = False
        if kind is sre.LITERAL:
            hit = ord(character) == argument
        elif kind is sre.RANGE:
            hit = argument[0] <= ord(character) <= argument[1]
        elif kind is sre.CATEGORY:
            name = str(argument).removeprefix("CATEGORY_")
            word = {"DIGIT": r"\d", "SPACE": r"\s", "WORD": r"\w"}[name.removeprefix("NOT_")]
            hit = bool(re.match(word, character)) is not name.startswith("NOT_")
        if hit:
            return not negated
    return negated


def _pumped(before: str, pump: str, size: int) -> str:
    return before + pump * (size // len(pump)) + "\0"


def _largest(sizes: Sequence[int]) -> str:
    return f"{max(sizes) // KIB} KiB"


def _run(pattern: re.Pattern[Any], method: str, text: str) -> None:
    value: Any = text.encode("utf-8", "replace") if isinstance(pattern.pattern, bytes) else text
    found = getattr(pattern, method)(value)
    if method == "finditer":
        for _ in found:
            pass


@pytest.fixture(
    params=[SIZES, pytest.param(LARGER_SIZES, marks=pytest.mark.full_size)], ids=_largest
)
def sizes(request: pytest.FixtureRequest) -> Sequence[int]:
    return request.param


@pytest.mark.parametrize("module", PATTERNS)
def test_patterns_take_linear_time(module: str, sizes: Sequence[int]) -> None:
    for name, (pattern, method) in PATTERNS[module].items():
        for what, make in Texts(pattern).makers():
            slow = superlinear(partial(_run, pattern, method), make, sizes)
            assert slow is None, f"{name} on {what}: {slow}"


@pytest.mark.parametrize(
    ("pattern", "method"),
    [
        (r"\nTask:\n(.*?)\n---\n", "search"),
        (r"Summary\(text=(['\"])(.*?)\1, type=", "search"),
        (r'"(?:[^"\\]|\\.)*"', "finditer"),
        (r"(?:[A-Za-z_][\w.]*(?:Error|Exception))\s*[:(]", "search"),
        (r"\s+$", "search"),
    ],
)
def test_a_pattern_that_takes_quadratic_time_is_found(pattern: str, method: str) -> None:
    compiled = re.compile(pattern, re.DOTALL)
    assert any(
        superlinear(lambda text: _run(compiled, method, text), make)
        for _, make in Texts(compiled).makers()
    )


def test_patterns_are_found_in_every_place() -> None:
    found = {f"{m}.{name.partition('[')[0]}" for m, names in PATTERNS.items() for name in names}
    assert found >= {
        "encoding.secret_patterns._CLOSED",
        "encoding.secret_pairs._CLOSED",
        "dialects.messages._SUMMARY_REPR",
        "server.logs._KEY",
    }


# --- every parser


def _repeated(*units: str) -> Callable[[int], str]:
    unit = "".join(units)
    return lambda size: unit * (size // len(unit))


def _between(start: str, unit: str, end: str) -> Callable[[int], str]:
    return lambda size: start + unit * (size // len(unit)) + end


UNITS = (
    *("{", "[", "(", '"', "'", "`", "\\", '\\"', "\\'", ",", ":", "=", "-", ".", " ", "\n", "\r"),
    *("a", "A", "aB", "é", "\0", "\ud800", "\u202e", "<", "&", "```", "9", "0.", "1e9", "/", "@"),
    *('{"a":', "{'a': ", "[{", "[['", '["', "('a', ", "None, ", "True", "b'", "\\x", "\\u00", "{}"),
    *("\nTask:\n", "\n---\n", "Summary(text='", "', type=", "ResponseReasoningItem(", "Error"),
    *("aError.", "Error: ", "Traceback (most recent call last)", '{"error":', '{"output":'),
    *("sk-", "sk-a1", "eyJaaaaaa.", "://a:", "://u:p@", "bearer ", "basic ", "basic QTpi"),
    *("-----BEGIN PRIVATE KEY-----", "-----END", "AKIA", "ghp_", "xoxb-", "AIza", "atk_0"),
    *("password=", "password='", 'password="\\', 'password=\\"', "api_key: {", "Authorization: "),
    *("token=(", "a_key", "A-", "_", "trace-", "00-", "k=v,", "%20", "$ne"),
    *("\\ud83c", '"method":"a",', '{"id":"\\a', ',"id":1,"method":"x"', "\ufffd"),
    *("a\u0301\u0327", "\u0301\u0327", "\u0327", "\u1100\u1161", "\ufdfa", "\u202e<@!", "1a"),
)
TEXTS = {
    **{repr(unit): _repeated(unit) for unit in UNITS},
    **{
        f"[{unit}]": _between("[", unit, "]") for unit in ("1,", "'a', ", '"a",', "{},", "a,", "()")
    },
    "number": _between("[", "9", "]"),
    "brackets": lambda size: "[" * (size // 2) + "]" * (size // 2),
    "braces": lambda size: '{"a":' * (size // 6) + "1" + "}" * (size // 6),
    "repr": lambda size: str([{"a": "b'\n", "c": (1, None)}] * (size // 40)),
    "lines": lambda size: "\n".join(f"password{n}=\\'x" for n in range(size // 16)),
    "words": lambda size: " ".join(f"secret{n}" for n in range(size // 10)),
}


def _notice(text: str) -> dict[str, Any]:
    names = ("intent", "requester", "title", "message")
    answer = {"approve": "autotrace approve", "reject": "autotrace reject"}
    made = {"decision_id": "decision-1", "answer": answer, "arguments": {"a": text}}
    return dict.fromkeys(names, text) | made


@pytest.fixture(autouse=True)
def _no_logs() -> Iterator[None]:
    """Log nothing: workers of pytest-xdist cannot report lines with halves of characters."""
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


def _attached(text: str) -> None:
    trace = "00-" + "0a" * 16 + "-" + "0b" * 8 + "-01"
    for carrier in ({"traceparent": text}, {"traceparent": trace, "tracestate": text}):
        with autotrace.attach(carrier | {"baggage": text}):
            pass


REDACTOR = Redactor()
READERS: dict[str, Callable[[str], object]] = {
    "values.loads": wrapped_values.loads,
    "values.arguments_of": wrapped_values.arguments_of,
    "values.result_of": wrapped_values.result_of,
    "values.is_error_text": wrapped_values.is_error_text,
    "values.message_in": wrapped_values.message_in,
    "messages.conversation": lambda text: messages.conversation(text, "user"),
    "scrub_formats": secret_tokens.scrub_formats,
    "scrub_basic": secret_patterns.scrub_basic,
    "scrub_pairs": lambda text: secret_patterns.scrub_pairs(text, secret_names.names_a_secret),
    "may_hold_secret": secret_tokens.may_hold_secret,
    "mask": lambda text: secret_patterns.mask(text, [text[:100], text[1:9], text[:4]]),
    "redact.text": REDACTOR.text,
    "redact.is_secret": REDACTOR.is_secret,
    "fingerprint": lambda text: show_call({"name": "tool"}, {"a": text}).sha256,
    "cli.visible": cli_text.visible,
    "cli.block": cli_text.block,
    "cli.one_line": cli_text.one_line,
    "logs.without_keys": logs.without_keys,
    "slack_message": lambda text: slack_message(_notice(text)),
    "ids.parse_trace_id": parse_trace_id,
    "attach": _attached,
    "said": recall._said,
    "visible.visible": visible_text.visible,
    "visible.escaped": visible_text.escaped,
    "grant_in": grants.grant_in,
    "signer_in": grants.signer_in,
    "is_http_url": is_http_url,
}
BYTES: dict[str, Callable[[bytes], object]] = {
    "is_too_deep": lambda body: is_too_deep(body, 64),
    "has_more_values": lambda body: has_more_values(body, 1000),
    "repaired": repaired,
    "mcp": json_rpc.read_message,
    "mcp.id_between": lambda body: json_rpc.id_between(body, body),
    "otlp.json": read_json,
    "otlp.protobuf": read_protobuf,
}


def _body(text_of: Callable[[int], str], size: int) -> bytes:
    return text_of(size).encode("utf-8", "replace")


@pytest.mark.parametrize("name", READERS)
def test_a_reader_of_text_takes_linear_time(name: str, sizes: Sequence[int]) -> None:
    for what, make in TEXTS.items():
        slow = superlinear(READERS[name], make, sizes)
        assert slow is None, f"{name} on {what}: {slow}"


@pytest.mark.parametrize("name", BYTES)
def test_a_reader_of_bodies_takes_linear_time(name: str, sizes: Sequence[int]) -> None:
    for what, text_of in TEXTS.items():
        slow = superlinear(BYTES[name], partial(_body, text_of), sizes)
        assert slow is None, f"{name} on {what}: {slow}"


# --- whole traces of other instrumentations


def _of(unit: str, start: str, end: str) -> Callable[[int], str]:
    return lambda size: start + ",".join(unit % n for n in range(size // len(unit))) + end


def _nested(start: str, end: str) -> Callable[[int], str]:
    """Nest as deep as JSON is read, and repeat that."""

    def make(size: int) -> str:
        one = start * 300 + "1" + end * 300
        return "[" + ",".join([one] * max(1, size // len(one))) + "]"

    return make


SAID = '[{"role":"assistant","parts":['
SHAPES = {
    "texts": _of('{"type":"text","content":"a%d"}', SAID, "]}]"),
    "thoughts": _of('{"type":"reasoning","content":"a%d"}', SAID, "]}]"),
    "calls": _of('{"type":"tool_call","id":"%d","name":"t","arguments":{}}', SAID, "]}]"),
    "calls without ids": _of('{"type":"tool_call","name":"t","arguments":{"a":%d}}', SAID, "]}]"),
    "answers": _of(
        '{"type":"tool_call_response","id":"%d","response":1}', '[{"role":"tool","parts":[', "]}]"
    ),
    "named answers": _of('{"role":"tool","name":"t","content":"%d"}', "[", "]"),
    "messages": _of('{"role":"user","content":"%d"}', "[", "]"),
    "pairs": _of('["user","%d"]', "[", "]"),
    "errors": _of('{"error":{"error":{"message":"%d"}}}', "[", "]"),
    "blocks": _of('{"type":"text","text":"[%d]"}', "[", "]"),
    "fields": _of('"a%d":1', "{", "}"),
    "reprs": _of("\"[{'a': (%d, None)}]\"", "[", "]"),
    "summary": _of("Summary(text='%d", '["ResponseReasoningItem(', '"]'),
    "nested calls": _nested('{"tool_call":', "}"),
    "nested answers": _nested('{"type":"tool_result","toolResult":', "}"),
    "nested data": _nested('{"type":"human","data":', "}"),
    "nested kwargs": _nested('{"lc":1,"kwargs":', "}"),
    "nested message": _nested('{"message":', "}"),
    "nested content": _nested('{"content":', "}"),
    "nested lists": _nested("[", "]"),
    "nested strings": lambda size: json.dumps(json.dumps(json.dumps("[" * (size // 9)))),
}
ATTRIBUTES = (
    *("gen_ai.output.messages", "gen_ai.completion", "gen_ai.tool.call.arguments"),
    *(
        "gen_ai.tool.call.result",
        "input.value",
        "output.value",
        "metadata",
        attribute_keys.CREW_TASKS,
    ),
    *(attribute_keys.AI_CALLS, "events", *attribute_keys.RUN_MESSAGES),
)
FOLLOWING = ("gen_ai.input.messages", "gen_ai.prompt")


def _read_trace(text: str) -> None:
    records: list[Any] = []

    def add(kind: str, parent: str | None, *names: str, **more: Any) -> None:
        number = len(records) + 1
        attributes = {"gen_ai.operation.name": kind, "gen_ai.tool.name": "t"}
        records.append(
            {
                "trace": "0a" * 16,
                "id": f"{number:016x}",
                "parent": parent,
                "start_ns": number,
                "end_ns": 99,
                "name": "x",
                "scope": attribute_keys.SMOLAGENTS_SCOPE,
                "attributes": attributes | dict.fromkeys(names, text),
            }
            | more
        )

    root = f"{1:016x}"
    event = {"name": "exception", "time_ns": 1, "attributes": {"exception.message": text}}
    add("invoke_agent", None, *ATTRIBUTES, status=2, message=text, events=[event])
    add("chat", root, "gen_ai.output.messages")
    add("execute_tool", root, *ATTRIBUTES, status=2, message=text)
    add("chat", root, "gen_ai.output.messages", *FOLLOWING)
    add("chat", root, "gen_ai.output.messages", *FOLLOWING)
    tree = Tree(records)
    for task in tree.tasks:
        summarize(tree, task)
        build_trace(tree, task).model_dump_json()


@pytest.mark.parametrize("shape", SHAPES)
def test_a_trace_of_another_instrumentation_is_read_in_linear_time(
    shape: str, sizes: Sequence[int]
) -> None:
    assert superlinear(_read_trace, SHAPES[shape], sizes) is None


# --- traces of many spans


def _spans(number: int, kind: Callable[[int], tuple[str, int | None]]) -> list[Any]:
    records: list[Any] = []
    for n in range(1, number + 1):
        what, parent = kind(n)
        attributes = {
            "task": {"autotrace.kind": "task", "autotrace.task": "t"},
            "step": {"autotrace.kind": "step"},
            "tool": {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "t"},
        }.get(what, {"gen_ai.operation.name": what, "gen_ai.tool.name": "t"})
        record: Any = {
            "trace": "0a" * 16,
            "id": f"{n:016x}",
            "parent": None if parent is None else f"{parent:016x}",
            "start_ns": n,
            "end_ns": 10**9 - n,
            "name": "x",
            "attributes": attributes,
        }
        records.append(record if what in ("task", "step", "tool") else record | {"scope": "x"})
    return records


FAR = 10**15
TREES: dict[str, Callable[[int], tuple[str, int | None]]] = {
    "tasks, and orphans": lambda n: ("task", None) if n % 2 else ("tool", FAR + n),
    "nested tasks, and orphans": lambda n: ("task", n - 2) if n % 2 else ("tool", FAR + n),
    "steps, and calls beside them": lambda n: (("tool", "step")[n % 2] if n > 1 else "task", 1),
    "steps in steps": lambda n: ("step", n - 1) if n > 1 else ("task", None),
    "calls in calls": lambda n: ("tool", n - 1) if n > 1 else ("task", None),
    "a cycle": lambda n: ("task", n + 1),
    "agents in agents": lambda n: ("invoke_agent", n - 1),
    "agents in calls": lambda n: (("invoke_agent", "execute_tool")[n % 2], n - 1),
    "calls of an agent": lambda n: ("execute_tool" if n > 1 else "invoke_agent", 1),
    "models in models": lambda n: ("chat", n - 1),
    "roots": lambda n: ("invoke_agent", None),
}


@pytest.mark.parametrize("kind", TREES)
def test_a_trace_of_many_spans_is_assembled_in_linear_time(kind: str, sizes: Sequence[int]) -> None:
    def read(records: list[Any]) -> None:
        tree = Tree(records)
        for task in tree.tasks:
            summarize(tree, task)
            build_trace(tree, task)

    assert superlinear(read, lambda size: _spans(size // 32, TREES[kind]), sizes) is None
