"""What every answer of the store must be, beyond what its OpenAPI document says of it, and how bodies are made that no
schema describes."""

import json
import re
import struct

import schemathesis
from hypothesis import strategies as st
from schemathesis.specs.openapi import checks as built_in

# Words of the inside that no caller is to read: of panics, of SQL, of PostgreSQL's client and its roles, of files.
INTERNALS = re.compile(
    r"panicked|RUST_BACKTRACE|tokio_postgres|deadpool|SQLSTATE|(?:postgres(?:ql)?|redis|file)://"
    r"|utxoiq_(?:app|owner|migrator|retention|backup|drill|audit)\b"
    r"|crates/\w+/src|/src/\w+\.rs|\.rs:\d+|/home/|/root/|/tmp/|/\.cargo/"
    r"|\b(?:insert into|delete from|select .{1,80} from)\b|violates \w+ constraint|relation \"",
    re.IGNORECASE,
)

# Entries of the audit log name the role that wrote them: whoever may read the log is to know.
TELLS_ROLES = re.compile(r'"database_role":"\w+"')

# An archive's address: who runs retention is to find what it wrote.
TELLS_ADDRESSES = re.compile(r'"archive_uris?":(?:"[^"]*"|\[[^\]]*\])')

# The codes with which the store says that something is away or too busy. Each is documented at its call as 503.
BUSY = {"unavailable", "overloaded", "timeout", "database_unavailable", "pool_exhausted"}

# What a schema cannot tell, and is refused with 422 also where the schema is met.
BEYOND_THE_SCHEMA = {
    "cursor": "only what an answer gave is one",
    "labels": "a little language of its own: host=a,region=b",
    "anchors": "lines of what `audit verify` printed",
    "action": "the actions of the audit log become more with its versions",
    "to_day": "not too long after from_day",
    "to": "not too long after from",
    "offset": "not beside a cursor",
    "end_time": "not too long after start_time",
    "day": "which days a hold may be on depends on what it is on",
    "dataset": "of a hold on days only",
    "first_day": "of a hold on days only",
    "last_day": "of a hold on days only, and not before the first",
    "user_id": "of a hold on a user only",
    "insight_id": "of a hold on an insight only",
    "expires_at": "in the future",
    "timestamp": "not older than what is kept hot, and not of tomorrow",
}

# The same of any text.
BEYOND_ANY_SCHEMA = {"must not contain control characters", "must not be blank", "must not contain NUL characters"}

# Bodies of these types have no schema: a file of samples, a message in protocol buffers.
WITHOUT_SCHEMA = ("/api/v1/monitoring/metrics/import", "/api/v1/write", "/v1/metrics")


@schemathesis.check
def refusals_have_one_form(ctx, response, case):
    """An answer of 400 and above is a problem document with a stable code and the request's id."""
    if response.status_code < 400 or case.method.upper() == "HEAD":
        return
    kind = response.headers.get("content-type", [""])[0]
    assert kind == "application/problem+json", f"{response.status_code} is {kind!r}"
    problem = response.json()
    assert re.fullmatch(r"[a-z][a-z0-9_]*", problem["code"]), problem
    assert problem["status"] == response.status_code, problem
    assert problem["detail"], problem
    assert [problem["request_id"]] == response.headers.get("x-request-id"), problem


@schemathesis.check
def a_busy_store_says_so_on_purpose(ctx, response, case):
    """503 is for what is away, and says when to come back."""
    if response.status_code == 503:
        assert response.headers.get("retry-after"), "503 without Retry-After"
        assert response.json()["code"] in BUSY, response.text


@schemathesis.check
def no_answer_tells_of_the_inside(ctx, response, case):
    """Neither a panic, nor SQL, nor a file, nor a role is in an answer."""
    text = TELLS_ADDRESSES.sub("", TELLS_ROLES.sub("", response.text))
    if case.operation.path == "/openapi.json":
        return
    found = INTERNALS.search(text)
    assert found is None, f"the answer has {found.group()!r}: {text[:300]}"


@schemathesis.check
def what_the_document_allows_is_accepted(ctx, response, case):
    """The built-in `positive_data_acceptance`, but for what no schema tells. 400 is for a rule between fields, or between a
    field and what is stored, by the contract; 413 for what only together is too much."""
    if response.status_code in (400, 413) or case.operation.path in WITHOUT_SCHEMA:
        return
    if response.status_code == 422:
        fields = {error["field"].split(".")[-1]: error["message"] for error in response.json().get("errors", [])}
        beyond = [
            name in BEYOND_THE_SCHEMA or message in BEYOND_ANY_SCHEMA
            for name, message in fields.items()
        ]
        if fields and all(beyond):
            return
    built_in.positive_data_acceptance(ctx, response, case)


@schemathesis.hook
def before_load_schema(context, raw_schema):
    """The generator heeds the format of what is a string, and not of what is a string or null."""

    def visit(node):
        if isinstance(node, dict):
            if "format" in node and node.get("type") == ["string", "null"] and "enum" not in node:
                nullable = {key: node.pop(key) for key in ("type", "format")}
                node["anyOf"] = [{"type": "string", "format": nullable["format"]}, {"type": "null"}]
            for value in node.values():
                visit(value)
        elif isinstance(node, list):
            for value in node:
                visit(value)

    visit(raw_schema.get("paths", {}))
    for name, schema in raw_schema.get("components", {}).get("schemas", {}).items():
        visit(schema)


def varint(number):
    out = bytearray()
    while True:
        number, low = number >> 7, number & 0x7F
        out.append(low | (0x80 if number else 0))
        if not number:
            return bytes(out)


def field(tag, payload):
    return varint(tag << 3 | 2) + varint(len(payload)) + payload


def number(tag, value):
    return varint(tag << 3 | 1) + struct.pack("<d", value)


def snappy(message):
    """A block of snappy of literals only."""
    out = varint(len(message))
    for at in range(0, len(message), 60):
        piece = message[at : at + 60]
        out += bytes([(len(piece) - 1) << 2]) + piece
    return out


NAMES = st.text(st.characters(codec="utf-8"), max_size=12) | st.sampled_from(["job", "__name__", "cpu_seconds", ""])
VALUES = st.floats() | st.sampled_from([0.0, 1.5, float("nan"), float("inf")])


@st.composite
def remote_write(draw):
    """A `WriteRequest`, whole or with some bytes of it changed."""
    request = b""
    for _ in range(draw(st.integers(0, 3))):
        series = b""
        for _ in range(draw(st.integers(0, 3))):
            name, value = draw(NAMES).encode(), draw(NAMES).encode()
            series += field(1, field(1, name) + field(2, value))
        for _ in range(draw(st.integers(0, 3))):
            millis = draw(st.integers(0, 2**64 - 1) | st.just(1_790_000_000_000))
            series += field(2, number(1, draw(VALUES)) + varint(2 << 3) + varint(millis))
        request += field(1, series)
    return damaged(draw, snappy(request))


def damaged(draw, message):
    if message and draw(st.booleans()):
        at = draw(st.integers(0, len(message) - 1))
        message = message[:at] + draw(st.binary(max_size=4)) + message[at + draw(st.integers(0, 3)) :]
    return message


@st.composite
def lines(draw):
    """Lines of samples, some of them none."""
    sample = st.fixed_dictionaries(
        {
            "service_name": NAMES,
            "metric_type": NAMES,
            "metric_value": VALUES | st.none() | NAMES,
            "unit": NAMES,
            "timestamp": st.sampled_from(["2026-11-23T10:00:00Z", "2026-11-23", "", None, 5]),
        },
        optional={"labels": st.dictionaries(NAMES, NAMES, max_size=3), "metric_metadata": st.none() | NAMES},
    )
    text = "\n".join(json.dumps(one) for one in draw(st.lists(sample, max_size=5)))
    return damaged(draw, text.encode())


@st.composite
def table(draw):
    """The same as CSV."""
    head = "service_name,metric_type,metric_value,unit,timestamp\n"
    rows = draw(st.lists(st.tuples(NAMES, NAMES, VALUES, NAMES, NAMES), max_size=5))
    text = head + "".join(",".join(map(str, row)) + "\n" for row in rows)
    return damaged(draw, text.encode())


schemathesis.openapi.media_type("application/x-protobuf", remote_write() | st.binary(max_size=64))
schemathesis.openapi.media_type("application/x-ndjson", lines())
schemathesis.openapi.media_type("text/csv", table())
