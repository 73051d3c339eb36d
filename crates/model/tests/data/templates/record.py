"""Records what Jinja2 renders, set up as transformers sets it up, for tests to compare with.

    python3 -m venv /tmp/venv && /tmp/venv/bin/pip install jinja2==3.1.6
    /tmp/venv/bin/python record.py

Reads `cases.json` and the templates beside this file, and writes `expected.json`. A case that a template
refuses, or that fails, has `null`.
"""

import datetime
import json
import pathlib

import jinja2
import jinja2.ext
from jinja2.sandbox import ImmutableSandboxedEnvironment

HERE = pathlib.Path(__file__).parent
NOW = datetime.datetime.fromtimestamp(1_722_000_000, datetime.timezone.utc)


class Generation(jinja2.ext.Extension):
    """`{% generation %}`, which transformers uses to find what the assistant said."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("said"), [], [], body).set_lineno(line)

    def said(self, caller):
        return caller()


def to_json(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


def environment():
    env = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols]
    )
    env.filters["tojson"] = to_json
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = NOW.strftime
    return env


def render(source, variables):
    try:
        return environment().from_string(source).render(**variables)
    except Exception:
        return None


def main():
    cases = json.loads((HERE / "cases.json").read_text())
    special = {"bos_token": "<s>", "eos_token": "</s>"}
    expected = {"expressions": {}, "templates": {}}
    for source in cases["expressions"]:
        expected["expressions"][source] = render(source, {**special, **cases["variables"]})
    for path in sorted(HERE.glob("*.jinja")):
        for case in cases["conversations"]:
            variables = {
                "documents": None,
                **case.get("variables", {}),
                "messages": [cases["messages"][name] for name in case["messages"]],
                "tools": cases["tools"] if case["has_tools"] else None,
                "add_generation_prompt": case["add_generation_prompt"],
                **special,
            }
            rendered = render(path.read_text(), variables)
            expected["templates"].setdefault(path.name, {})[case["name"]] = rendered
    text = json.dumps(expected, ensure_ascii=False, indent=1)
    (HERE / "expected.json").write_text(text + "\n")


main()
