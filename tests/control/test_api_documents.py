"""The OpenAPI document and the page that is made of it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import pytest

from control.api.problem import KINDS
from tests.control.api_rig import Rig, open_rig


@pytest.fixture
def rig() -> Iterator[Rig]:
    with open_rig() as opened:
        yield opened


@pytest.fixture
async def document(rig: Rig) -> dict[str, Any]:
    found: dict[str, Any] = (await rig.ask("GET", "/openapi.json", key=None)).json
    return found


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, described in methods.items():
            yield method, path, described


def references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        if isinstance(part.get("$ref"), str):
            yield part["$ref"]
        for value in part.values():
            yield from references(value)
    elif isinstance(part, list):
        for value in part:
            yield from references(value)


async def test_document_has_every_route_of_the_map(rig: Rig, document: dict[str, Any]) -> None:
    """No route without description, no description without route."""
    routes = {
        (method.lower(), re.sub(r"<([^>]+)>", r"{\1}", rule.rule))
        for rule in rig.app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert {(method, path) for method, path, _ in operations(document)} == routes


CONTRACT = {
    ("post", "/v2/agents"),
    ("get", "/v2/agents"),
    ("get", "/v2/agents/{agent_id}"),
    ("patch", "/v2/agents/{agent_id}"),
    ("delete", "/v2/agents/{agent_id}"),
    ("post", "/v2/calls/initiate"),
    ("get", "/v2/calls"),
    ("get", "/v2/calls/{call_id}"),
    ("get", "/v2/calls/{call_id}/transcript"),
    ("get", "/v2/calls/{call_id}/timeline"),
    ("get", "/v2/calls/{call_id}/recording"),
    ("post", "/v2/calls/{call_id}/hangup"),
    ("post", "/v2/policy/check"),
    ("get", "/v2/opt-outs"),
    ("post", "/v2/opt-outs"),
    ("delete", "/v2/opt-outs/{e164}"),
    ("get", "/healthz"),
    ("get", "/readyz"),
    ("get", "/metrics"),
    ("get", "/openapi.json"),
    ("get", "/docs"),
}


async def test_document_has_the_published_paths(document: dict[str, Any]) -> None:
    """The names that others rely on, written down a second time."""
    assert {(method, path) for method, path, _ in operations(document)} >= CONTRACT


async def test_document_references_resolve(document: dict[str, Any]) -> None:
    """Every $ref leads to a schema of the document."""
    names = set(references(document))
    assert names
    for name in names:
        assert name.startswith("#/components/schemas/")
        assert name.rpartition("/")[2] in document["components"]["schemas"], name


async def test_document_operations_are_complete(document: dict[str, Any]) -> None:
    """Each has a unique id, a summary, its path parameters, a good answer and its problems."""
    assert document["openapi"].startswith("3.1")
    ids = [described["operationId"] for _, _, described in operations(document)]
    assert len(ids) == len(set(ids))
    for method, path, described in operations(document):
        assert described["summary"], path
        in_path = {given["name"] for given in described["parameters"] if given["in"] == "path"}
        assert in_path == set(re.findall(r"{(\w+)}", path))
        statuses = set(described["responses"])
        assert statuses & {"200", "201", "202", "204"}
        if path.startswith("/v2/"):
            assert {"401", "503", "500"} <= statuses, path
        if "requestBody" in described:
            assert {"400", "413", "422"} <= statuses, path
        if in_path:
            assert "404" in statuses, path
        for status, given in described["responses"].items():
            assert given["description"], (method, path, status)
            if status >= "400" and path != "/readyz":
                assert list(given["content"]) == ["application/problem+json"], path


async def test_document_says_which_routes_need_a_key(document: dict[str, Any]) -> None:
    """The bearer key by default; what is open says so."""
    assert document["security"] == [{"apiKey": []}]
    assert document["components"]["securitySchemes"]["apiKey"]["scheme"] == "bearer"
    for _, path, described in operations(document):
        assert (described.get("security") == [{}]) == (not path.startswith("/v2/"))


async def test_document_names_the_creating_requests_header(document: dict[str, Any]) -> None:
    """Idempotency-Key is a parameter where it is honoured, and nowhere else."""
    with_key = {
        described["operationId"]
        for _, _, described in operations(document)
        for given in described["parameters"]
        if given["name"].lower() == "idempotency-key"
    }
    assert with_key >= {"createAgent", "addAgentNumber", "initiateCall", "addOptOut"}


async def test_document_body_fields_are_those_that_are_read(document: dict[str, Any]) -> None:
    """The field names of the contract, with what is required and that nothing else is taken."""
    schema = document["components"]["schemas"]["CallInitiate"]
    assert list(schema["properties"]) == [
        "purpose",
        "postcode",
        "state",
        "timezone",
        "agent_id",
        "to",
        "variables",
        "metadata",
        "not_before",
        "on_blocked",
        "machine_detection",
    ]
    assert schema["required"] == ["agent_id", "to"]
    assert schema["additionalProperties"] is False
    assert "from" in document["components"]["schemas"]["CallBrief"]["properties"]
    names = {
        given["name"]
        for given in document["paths"]["/v2/calls"]["get"]["parameters"]
        if given["in"] == "query"
    }
    assert names == {
        *("agent_id", "tenant_id", "direction", "status", "from", "to"),
        *("since", "until", "limit", "cursor"),
    }


async def test_document_examples_are_accepted_by_their_routes(
    rig: Rig, document: dict[str, Any]
) -> None:
    """What the page tells people to send is not refused as invalid."""
    tried = 0
    for method, path, described in operations(document):
        body = described.get("requestBody", {}).get("content", {}).get("application/json")
        if body is None:
            continue
        schema = document["components"]["schemas"][body["schema"]["$ref"].rpartition("/")[2]]
        for example in schema.get("examples", ()):
            named = path.replace("{agent_id}", "agt_x").replace("{e164}", "%2B15550100123")
            answered = await rig.ask(method.upper(), named, example)
            assert answered.status not in (400, 413, 422), (path, answered.raw)
            tried += 1
    assert tried >= 5


class Page(HTMLParser):
    """What a page links to, its anchors, and whether its tags are closed."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.ids: list[str] = []
        self.tags: list[str] = []
        self.commands: list[str] = []
        self._open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self._open.append(tag)
        if tag == "pre":
            self.commands.append("")
        for name, value in attrs:
            if name in ("href", "src", "action", "srcset", "data"):
                self.links.append(value or "")
            if name == "id":
                self.ids.append(value or "")

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if "pre" in self._open:
            self.commands[-1] += data


async def read_page(rig: Rig) -> tuple[Page, str]:
    answered = await rig.ask("GET", "/docs", key=None)
    assert answered.headers["Content-Type"] == "text/html; charset=utf-8"
    page = Page()
    page.feed(answered.raw.decode())
    return page, answered.raw.decode()


async def test_page_needs_nothing_from_another_host(rig: Rig) -> None:
    """No script, no frame, no image; links stay inside; the browser is told to fetch nothing."""
    page, text = await read_page(rig)
    assert not {"script", "link", "img", "iframe", "object", "embed"} & set(page.tags)
    assert all(link.startswith("#") or link == "/openapi.json" for link in page.links)
    assert "@import" not in text
    assert "url(" not in text
    answered = await rig.ask("GET", "/docs", key=None)
    assert "default-src 'none'" in answered.headers["Content-Security-Policy"]


async def test_page_links_lead_somewhere(rig: Rig) -> None:
    """Every anchor exists once, the kinds of problem among them (they are the `type` of errors)."""
    page, _ = await read_page(rig)
    assert len(page.ids) == len(set(page.ids))
    for link in page.links:
        if link.startswith("#"):
            assert link[1:] in page.ids, link
    assert {f"problem-{kind}" for kind in KINDS} <= set(page.ids)


async def test_page_shows_every_operation_with_a_command(
    rig: Rig, document: dict[str, Any]
) -> None:
    """Path, summary and a curl line that a shell can take apart."""
    page, text = await read_page(rig)
    for _, path, described in operations(document):
        assert described["operationId"] in page.ids
        assert path in text
    commands = [text for text in page.commands if text.startswith("curl")]
    assert len(commands) == len(list(operations(document)))
    for command in commands:
        words = shlex.split(command)
        assert words[0] == "curl"
        assert any(word.startswith("$TANDEM_URL/") for word in words)
    initiate = next(command for command in commands if "/v2/calls/initiate" in command)
    assert "-X POST" in initiate
    assert "Authorization: Bearer $TANDEM_KEY" in initiate
    assert '"to": "+15550100456"' in initiate
