"""The messages of `pie_client`, byte for byte those that the server's own tests record from docs/protocol.md."""

import json
import re
from base64 import b64decode

import pytest
from conftest import ROOT
from pie_client import calls, events, records
from pie_client.codec import decode, encode, encode_request
from pie_client.connection import FINAL_CODES, closing

HASH = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
ID = "0b2f6a0e-39f5-4a5c-8c55-3b7d3c1f1a10"
# The calls of the page, by the numbers of their requests.
CALLS = {
    1: [calls.inferlets(), calls.find(HASH)],
    2: [calls.upload(HASH, 8, 0, b"\0asm\x0d\0\x01\0")],
    3: [calls.install(HASH, "drafts@0.1.0")],
    4: [calls.remove("drafts@0.1.0")],
    5: [calls.programs()],
    6: [calls.launch("text-completion", ["--prompt", "Hello"], detached=False)],
    7: [calls.launch("drafts@0.1.0", ["--topic", "rivers"], detached=True)],
    8: [calls.attach("0b2f6a0e", None)],
    9: [calls.attach(ID, 12)],
    10: [calls.detach(ID)],
    11: [calls.send(ID, "What is a river?")],
    12: [calls.send(ID, b"\0\x01\x02\xff")],
    13: [calls.end_input(ID)],
    14: [calls.terminate("0b2f6a0e")],
    15: [calls.inferlets()],
    16: [calls.stats()],
    17: [calls.usage()],
    18: [calls.describe("drafts@0.1.0")],
    19: [calls.pages(ID)],
}


def recorded():
    """Each message of the page as JSON and as MessagePack."""
    lines = (ROOT / "crates/protocol/tests/golden.txt").read_text().splitlines()
    pairs = [line.split("\t") for line in lines]
    return [(json.loads(text), bytes.fromhex(frame)) for text, frame in pairs]


def of_type(kind):
    found = [(message, frame) for message, frame in recorded() if message["type"] == kind]
    assert found, f"no `{kind}` is recorded"
    return found


def test_every_request_of_the_page_is_sent_as_the_page_has_it():
    sent = {encode_request(number, encode(call.message)) for number, calls in CALLS.items() for call in calls}
    assert sent == {frame for _, frame in of_type("request")}
    # And every call of the client is among them.
    kinds = {call.message["type"] for calls in CALLS.values() for call in calls}
    assert {message["call"]["type"] for message, _ in of_type("request")} == kinds


def test_what_has_no_answer_is_written_as_the_page_has_it():
    for message, frame in of_type("hello") + of_type("acknowledge"):
        assert encode(message) == frame


def test_every_answer_of_the_page_is_read():
    expected = {call.message["type"]: call.answer for calls in CALLS.values() for call in calls}
    assert {message["answer"]["type"] for message, _ in of_type("answer")} <= set(expected.values())
    readers = {"programs": records.ListedProgram, "inferlets": records.ListedInferlet}
    for message, frame in of_type("answer"):
        said, fields = message["answer"], decode(frame).fields("answer")
        kind = fields.text("type")
        if kind in readers:
            for read, listed in zip([readers[kind].read(item) for item in fields.items(kind)], said[kind], strict=True):
                assert {key: value for key, value in vars(read).items() if value is not None} == listed
        elif kind == "usage":
            usage = records.Usage.read(fields)
            plain = {
                key: vars(value) if isinstance(value, records.Used) else value for key, value in vars(usage).items()
            }
            assert {"type": "usage", **plain} == said
        elif kind == "described":
            described = records.DescribedProgram.read(fields)
            assert {"type": "described", **vars(described)} == said
        elif kind == "pages":
            assert fields.value("models") == said["models"]
        elif kind == "stats":
            assert fields.value("stats") == said["stats"]


def test_the_welcome_and_errors_of_the_page_are_read():
    ((said, frame),) = of_type("welcome")
    welcome = vars(records.Welcome.read(decode(frame)))
    assert {**welcome, "type": "welcome", "limits": vars(welcome["limits"])} == said
    for said, frame in of_type("error"):
        error = records.read_failure(decode(frame).fields("error"))
        assert (error.code, error.message) == (said["error"]["code"], said["error"]["message"])
        assert error.retry_after_ms == said["error"].get("retry_after_ms")
    ((said, frame),) = of_type("closing")
    assert closing(decode(frame)).error.code == said["error"]["code"]


def test_every_event_of_the_page_is_read():
    for said, frame in of_type("event"):
        first, *end = events.EventReader().read(decode(frame).fields("event"))
        event = said["event"]
        value = event.get("text", event.get("error", {}).get("message"))
        if event["type"] == "blob":
            value = b64decode(event["data"])
        elif "data" in event:
            value = b64decode(event["data"]).decode()
        assert first.value == value and (first.kind == event["type"] or event["type"] == "text")
        assert [kind for kind, _ in end] == (["terminated"] if event["type"] in ("result", "error") else [])
    kinds = {said["event"]["type"] for said, _ in of_type("event")}
    assert kinds == {"text", "blob", "stdout", "stderr", "result", "error"}


@pytest.mark.parametrize("code", sorted(FINAL_CODES))
def test_codes_that_end_a_session_are_those_of_the_page(code):
    page = (ROOT / "docs/protocol.md").read_text()
    assert re.search(rf"^\| `{code}` \|", page, re.MULTILINE), f"docs/protocol.md has no code `{code}`"
