"""An MCP server with the `mcp` package: over stdio, or with a port over streamable HTTP, where it wants a token."""

import os
import sys
from typing import Annotated

import uvicorn
from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from pydantic import Field
from starlette.responses import PlainTextResponse

Digit = Annotated[int, Field(ge=0, le=9)]

server = MCPServer("test")


@server.tool()
def add(a: Digit, b: Digit) -> str:
    """The sum of two digits."""
    return str(a + b)


@server.tool()
def fail(a: Digit) -> str:
    """Tells of a failure."""
    raise ToolError("it failed as asked")


@server.tool()
def process(a: Digit) -> str:
    """The process of the server, and what it was greeted with."""
    return f"{os.getpid()} {os.environ.get('GREETING')} {os.environ.get('MCP_TOKEN')}"


@server.tool()
def hidden(a: Digit) -> str:
    """The operator does not allow it."""
    return "hidden"


class Token:
    """Refuses what comes without the token."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        token = dict(scope.get("headers", [])).get(b"authorization")
        if scope["type"] == "http" and token != f"Bearer {os.environ['MCP_TOKEN']}".encode():
            await PlainTextResponse("no token", status_code=401)(scope, receive, send)
            return
        await self.app(scope, receive, send)


if len(sys.argv) > 1:
    uvicorn.run(Token(server.streamable_http_app()), host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
else:
    server.run()
