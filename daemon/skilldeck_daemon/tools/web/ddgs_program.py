"""A program of its own: one web search with the `ddgs` library, apart from the daemon and killed with its run.

    python ddgs_program.py < QUESTION > ANSWER

QUESTION is one JSON object {query, count, region, engines, proxy, timeout}; ANSWER is `{"results": [{url, title,
text}]}` or `{"error"}`, a sentence. Everything goes through the proxy, which decides what may be reached. Imports
nothing of the project.
"""

from __future__ import annotations

import json
import resource
import sys
from typing import Any

CPU_SECONDS = 20
MEMORY_BYTES = 4 * 1024 * 1024 * 1024
NOTHING = "No results found."
"""What the library raises when engines answered and had nothing."""


def search(asked: dict[str, Any]) -> dict[str, Any]:
    """What ANSWER holds."""
    try:
        from ddgs import DDGS
        from ddgs.exceptions import DDGSException
        from ddgs.http_client import HttpClient
    except ImportError as error:
        return {"error": f"the ddgs package is not installed ({error})"}
    statuses: set[int] = set()
    plain = HttpClient.request

    def noted(self: Any, *args: Any, **kwargs: Any) -> Any:
        """The library takes a refusal for a page without results; here it is an error."""
        response = plain(self, *args, **kwargs)
        statuses.add(response.status_code)
        return response

    HttpClient.request = noted  # type: ignore[method-assign]
    try:
        found = DDGS(proxy=asked["proxy"], timeout=asked["timeout"]).text(
            asked["query"], region=asked["region"], max_results=asked["count"], backend=asked["engines"]
        )
    except DDGSException as error:
        if str(error) != NOTHING:
            return {"error": str(error)[:500]}
        if 200 not in statuses:
            return {"error": f"they answered HTTP {', '.join(map(str, sorted(statuses)))}"}
        return {"results": []}
    return {
        "results": [
            {"url": entry.get("href"), "title": entry.get("title"), "text": str(entry.get("body"))[:5000]}
            for entry in found
        ]
    }


def main() -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS + 2))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    print(json.dumps(search(json.load(sys.stdin))))


if __name__ == "__main__":
    main()
