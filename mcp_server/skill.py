"""The skill over MCP: its files as resources, and the skills extension (SEP-2640).

Source: https://github.com/modelcontextprotocol/ext-skills specification/stable/skills.mdx.
"""

import hashlib
from collections.abc import Callable
from typing import Any, TypeVar

from mcp import MCPError
from mcp.server import Server, ServerRequestContext
from mcp.types import (
    INVALID_PARAMS,
    ListResourcesResult,
    PaginatedRequestParams,
    ReadResourceRequestParams,
    ReadResourceResult,
    RequestParams,
    Resource,
    TextResourceContents,
)
from pydantic import BaseModel

from mcp_server.skill_files import SKILL, frontmatter, skill_files, skill_name

EXTENSION = "io.modelcontextprotocol/skills"
MARKDOWN = "text/markdown"
TTL_MS = 300_000
"""How long a host may take a listing for current; the files change only with an upgrade."""

Params = TypeVar("Params", bound=BaseModel)


class GetSkillParams(RequestParams):
    """Which skill, by the URI of its SKILL.md."""

    uri: str


def list_resources() -> ListResourcesResult:
    """Return every file of the skill as a resource."""
    name, description = skill_name(), str(frontmatter()["description"])
    resources = []
    for path, content in skill_files().items():
        main = path == SKILL
        resources.append(
            Resource(
                uri=_uri(path),
                name=name if main else path,
                description=description if main else _heading(content),
                mime_type=MARKDOWN,
                size=len(content),
            )
        )
    return ListResourcesResult(resources=resources, ttl_ms=TTL_MS, cache_scope="public")


def read_resource(uri: str) -> ReadResourceResult:
    """Return one file of the skill.

    Raises:
        MCPError: No file has that URI.
    """
    known = {_uri(path): path for path in skill_files()}
    if uri not in known:
        message = f"unknown resource {uri!r}; known: {', '.join(known)}"
        raise MCPError(INVALID_PARAMS, message, {"uri": uri})
    contents = [_contents(known[uri])]
    return ReadResourceResult(contents=contents, ttl_ms=TTL_MS, cache_scope="public")


def skills_list() -> dict[str, Any]:
    """Return the result of `skills/list`: this one skill, with the digest of each file."""
    return {"skills": [_skill()], **_CACHEABLE}


def skills_get(uri: str) -> dict[str, Any]:
    """Return the result of `skills/get`.

    Raises:
        MCPError: No skill has that URI.
    """
    if uri != _uri(SKILL):
        raise MCPError(INVALID_PARAMS, f"unknown skill {uri!r}; known: {_uri(SKILL)}")
    return {"skill": _skill(), **_CACHEABLE}


def install(server: Server[Any]) -> None:
    """Add the resources and the skills extension to a server."""
    _add(server, "resources/list", PaginatedRequestParams, lambda _: list_resources())
    _add(server, "resources/read", ReadResourceRequestParams, lambda p: read_resource(str(p.uri)))
    _add(server, "skills/list", PaginatedRequestParams, lambda _: skills_list())
    _add(server, "skills/get", GetSkillParams, lambda p: skills_get(p.uri))
    server.extensions[EXTENSION] = {}


_CACHEABLE = {"ttlMs": TTL_MS, "cacheScope": "public", "resultType": "complete"}


def _add(
    server: Server[Any],
    method: str,
    params: type[Params],
    answer: Callable[[Params], BaseModel | dict[str, Any]],
) -> None:
    async def handle(_: ServerRequestContext[Any], given: Params) -> BaseModel | dict[str, Any]:
        return answer(given)

    server.add_request_handler(method, params, handle)


def _skill() -> dict[str, Any]:
    resources = [
        {
            "uri": _uri(path),
            "digest": f"sha256:{hashlib.sha256(content).hexdigest()}",
            "size": len(content),
        }
        for path, content in skill_files().items()
    ]
    return {"uri": _uri(SKILL), "frontmatter": frontmatter(), "resources": resources}


def _uri(path: str) -> str:
    return f"skill://{skill_name()}/{path}"


def _contents(path: str) -> TextResourceContents:
    text = skill_files()[path].decode("utf-8")
    return TextResourceContents(uri=_uri(path), mime_type=MARKDOWN, text=text)


def _heading(content: bytes) -> str:
    """Return a reference's first line of text, without its marks."""
    first = next((line for line in content.decode("utf-8").splitlines() if line.strip()), "")
    return first.lstrip("# ").strip()
