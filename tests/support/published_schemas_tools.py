"""Shapes found in tools as packages list them, which the other two files lack. A title names the package and its tool.

On 2026-11-30 the 614 tools of 33 servers of MCP were listed (npm: server-everything, -filesystem, -github, -memory and
-sequential-thinking of @modelcontextprotocol; @antv/mcp-server-chart, @brave/brave-search-mcp-server,
@browserstack/mcp-server, @circleci/mcp-server-circleci, @cyanheads/git-mcp-server and pubmed-mcp-server, @eslint/mcp,
@notionhq/notion-mcp-server, @playwright/mcp, @sentry/mcp-server, @stripe/mcp, @upstash/context7-mcp,
@wonderwhy-er/desktop-commander, chrome-devtools-mcp, exa-mcp-server, figma-developer-mcp, firecrawl-mcp,
mongodb-mcp-server, tavily-mcp; PyPI: awslabs-aws-documentation-mcp-server, duckduckgo-mcp-server, excel-mcp-server,
mcp-atlassian, mcp-clickhouse, mcp-server-fetch, mcp-server-git, mcp-server-time, office-word-mcp-server), and beside
them 260 outputs of zod 4 and zod-to-json-schema and 40 of pydantic made. No request was refused with them; 26 schemas
were loosened, all for a pattern or a reference that no grammar holds. Only the shapes below are theirs: names are plain
ones, and there is no text of anybody's.
"""

from __future__ import annotations

from typing import Any

from support.published_schemas_more import DRAFT_7, TEXT, TEXTS, WHOLE, YES, listed, maybe, one_of, plain, pydantic, zod

SAFE: dict[str, Any] = {"type": "integer", "minimum": 1, "maximum": 9007199254740991}
"""A whole number as zod 4 bounds it."""
EITHER: dict[str, Any] = {"anyOf": [{"type": "number"}, YES, TEXT, {"type": "null"}]}


def tagged(kind: str, *required: str, **properties: Any) -> dict[str, Any]:
    """One of several objects, told apart by a constant."""
    made = plain("kind", *required, kind={"type": "string", "const": kind}, **properties)
    return {**made, "additionalProperties": False}


_PARENTS = {
    "byPage": {**plain("page", page={"type": "string", "format": "uuid"}), "additionalProperties": True},
    "byBase": {**plain("base", kind={"type": "string", "const": "base"}, base=TEXT), "additionalProperties": True},
    "parent": {"oneOf": [{"$ref": "#/$defs/byPage"}, {"$ref": "#/$defs/byBase"}, plain("kind", kind={"const": "top"})]},
    "text": plain("content", content=TEXT, link={"type": ["object", "null"]}),
}
_SYMMETRY = {"number": {"type": "number", "const": 1}, "down": {"type": "number", "const": -1}}
_DOMAIN = r"^(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9][a-z0-9-]{0,61}[a-z0-9]$"

TOOLS: dict[str, dict[str, Any]] = {
    "@notionhq/notion-mcp-server: API-get-user": {
        **plain("user", user=TEXT, version={"type": "string", "default": "1"}),
        "$defs": _PARENTS,  # of every tool, used or not
    },
    "@notionhq/notion-mcp-server: API-post-page": {
        **plain(
            "parent",
            parent={"anyOf": [{"$ref": "#/$defs/parent"}, TEXT]},
            body={"type": "string", "format": "json"},
            children={"anyOf": [listed({"anyOf": [{"$ref": "#/$defs/text"}, {"type": "object"}, TEXT]}), TEXT]},
        ),
        "$defs": _PARENTS,
    },
    "@notionhq/notion-mcp-server: API-post-search": plain(
        query=TEXT,
        sort={"anyOf": [plain("by", by=one_of("time", "name")), TEXT]},
        page_size={"type": "integer", "format": "int32", "default": 100},
    ),
    "mongodb-mcp-server: create-index": zod(
        "definition",
        definition=listed(
            {
                "oneOf": [
                    tagged(
                        "classic",
                        "keys",
                        keys={
                            "type": "object",
                            "propertyNames": TEXT,
                            "additionalProperties": {
                                "anyOf": [*_SYMMETRY.values(), *({"type": "string", "const": name} for name in "abc")]
                            },
                        },
                    ),
                    tagged(
                        "vector",
                        "fields",
                        fields=listed(
                            {
                                "oneOf": [
                                    tagged("filter", "path", path=TEXT),
                                    tagged("vector", "path", path=TEXT, size={"type": "number", "maximum": 8192}),
                                ]
                            },
                            minItems=1,
                        ),
                    ),
                    tagged("search", mapping={"anyOf": [YES, {"type": "object", "additionalProperties": {}}]}),
                ]
            }
        ),
    ),
    "mongodb-mcp-server: explain": zod(
        "method",
        method=listed(
            {
                "oneOf": [
                    plain("name", "given", name={"const": "find", "type": "string"}, given=plain(limit=SAFE)),
                    plain("name", "given", name={"const": "count", "type": "string"}, given=plain(query={})),
                ]
            }
        ),
        verbosity={**one_of("plan", "times"), "default": "plan"},
        scale={"anyOf": [{"type": "number"}, {"type": "object", "additionalProperties": {}}, TEXT]},
    ),
    "@brave/brave-search-mcp-server: brave_web_search": zod(
        "query",
        query={"type": "string", "maxLength": 400},
        country={**one_of(*(f"{a}{b}" for a in "ABCDEF" for b in "GHIJKL")), "default": "AG"},
        freshness={"anyOf": [one_of("day", "week"), {"type": "string", "pattern": r"^\d{4}-\d{2}-\d{2}to\d{4}$"}]},
        goggles={"anyOf": [TEXT, TEXTS]},
    ),
    "@modelcontextprotocol/server-sequential-thinking: sequentialthinking": zod(
        "thought", "more", "number", thought=TEXT, more={"type": ["boolean", "string"]}, number=SAFE, of=SAFE
    ),
    "@antv/mcp-server-chart: generate_spreadsheet": zod(
        "data",
        data=listed(
            {
                "type": "object",
                "propertyNames": TEXT,
                "additionalProperties": {"type": ["string", "number", "null"]},
            },
            minItems=1,
        ),
        width={"type": "number", "default": 600},
    ),
    "@wonderwhy-er/desktop-commander: set_config_value": zod(
        "key", "value", key=TEXT, value={"anyOf": [TEXT, {"type": "number"}, YES, TEXTS, {"type": "null"}]}
    ),
    "@sentry/mcp-server: search_events": zod(
        "organisation",
        organisation=TEXT,
        fields={"anyOf": [TEXTS, {"type": "null"}]},
        environment={"anyOf": [{"anyOf": [{"type": "string", "minLength": 1}, TEXTS]}, {"type": "null"}]},
        limit={"type": "number", "minimum": 1, "maximum": 100, "default": 10},
    ),
    "excel-mcp-server: set_sheet_layout": {
        **pydantic("layout", layout={"$ref": "#/$defs/Layout"}),
        "$defs": {
            "Layout": plain(filter={"$ref": "#/$defs/Filter"}, fit={"$ref": "#/$defs/Fit"}, zoom={"type": "number"}),
            "Filter": plain("range", range=TEXT, columns=listed({"$ref": "#/$defs/Column"}), remove={"const": True}),
            "Column": plain("column", column=TEXT, tests=listed({"$ref": "#/$defs/Test"}, minItems=1, maxItems=2)),
            "Test": plain("operator", "value", operator=one_of("equals", "contains"), value={"anyOf": [TEXT, WHOLE]}),
            "Fit": plain(wide={"type": "integer", "maximum": 100, "default": 1}, scale={"default": 0.5}),
        },
    },
    "excel-mcp-server: write_range": {
        **pydantic("at", "rows", at=TEXT, rows=listed(listed(EITHER)), links=listed({"$ref": "#/$defs/Link"})),
        "$defs": {"Link": plain("cell", "target", cell=TEXT, target=TEXT)},
    },
    "mcp-atlassian: confluence_set_page_restrictions": {
        **pydantic("page_id", page_id=TEXT, read_users={**maybe(TEXTS), "items": TEXT}, notify=maybe(YES)),
        "additionalProperties": False,
    },
    "@browserstack/mcp-server: createTestCase": zod(
        "name",
        name=TEXT,
        owner={"type": "string", "format": "email", "pattern": r"^(?!\.)[\w.]+@(?:[a-z]+\.)+[a-z]{2,}$"},
        custom={
            "type": "object",
            "propertyNames": TEXT,
            "additionalProperties": {
                "anyOf": [TEXT, {"type": "number"}, YES, listed({"type": ["string", "number"]})],
            },
        },
        tracker=plain("name", "host", name=TEXT, host={"type": "string", "format": "uri"}),
    ),
    "mcp-clickhouse: run_query": {
        **pydantic("query", query=TEXT, params=maybe({"type": "object", "additionalProperties": True})),
        "additionalProperties": False,
    },
    "@cyanheads/git-mcp-server: git_branch": zod(
        mode={**one_of("list", "create"), "default": "list"},
        merged={"anyOf": [YES, {"type": "string", "minLength": 1}]},
        limit={"type": "integer", "minimum": 1, "maximum": 1000},
    ),
    "firecrawl-mcp: firecrawl_search": zod(
        "query",
        query={"type": "string", "minLength": 1},
        domains=listed({"type": "string", "minLength": 1, "maxLength": 253, "pattern": _DOMAIN}),
        options=plain(schema={"type": "object", "propertyNames": TEXT, "additionalProperties": {}}),
    ),
    "zod-to-json-schema: its target openAi with relative references": {
        "$ref": "2",
        "definitions": {"Any": {"type": ["string", "number", "array", "null"], "items": {"$ref": "1"}}},
        "$schema": DRAFT_7,
    },
}
