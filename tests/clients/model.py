"""A stand-in for a model on loopback: it calls one tool, then repeats what the tool said.

Speaks as much of two public protocols as a turn needs: Anthropic's Messages and OpenAI's
Responses, streamed.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SAYS = "the tool answered: "


@contextmanager
def serving_model(tool: str) -> Iterator[str]:
    """Serve a model that calls the tool of that name without arguments; give the address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer(b"", "text/plain")

        def do_GET(self) -> None:
            self._answer(b'{"data": [], "models": []}', "application/json")

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.path.partition("?")[0].endswith("/responses"):
                events = _responses(asked, tool)
            elif "count_tokens" in self.path:
                self._answer(b'{"input_tokens": 1}', "application/json")
                return
            else:
                events = _messages(asked, tool)
            lines = (f"event: {e['type']}\ndata: {json.dumps(e)}\n\n" for e in events)
            self._answer("".join(lines).encode(), "text/event-stream")

        def _answer(self, body: bytes, kind: str) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Stay quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def _messages(asked: dict[str, Any], tool: str) -> list[dict[str, Any]]:
    """Answer a request for a message of Anthropic's API."""
    parts = [p for m in asked["messages"] if isinstance(m["content"], list) for p in m["content"]]
    results = [part for part in parts if part.get("type") == "tool_result"]
    # Claude Code lists its servers' tools only after a search, and takes their names at once.
    name = _full_name(asked.get("tools", []), tool) or f"mcp__fine-tuning-llm__{tool}"
    if results or not asked.get("tools"):
        block: dict[str, Any] = {"type": "text", "text": ""}
        said = json.dumps(results[-1]["content"]) if results else ""
        delta = {"type": "text_delta", "text": SAYS + said}
    else:
        block = {"type": "tool_use", "id": "toolu_1", "name": name, "input": {}}
        delta = {"type": "input_json_delta", "partial_json": "{}"}
    message = {"id": "msg_1", "type": "message", "role": "assistant", "content": []}
    message |= {"model": asked["model"], "stop_reason": None, "stop_sequence": None}
    message |= {"usage": {"input_tokens": 1, "output_tokens": 1}}
    stop = "tool_use" if block["type"] == "tool_use" else "end_turn"
    return [
        {"type": "message_start", "message": message},
        {"type": "content_block_start", "index": 0, "content_block": block},
        {"type": "content_block_delta", "index": 0, "delta": delta},
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": stop, "stop_sequence": None},
            "usage": {"output_tokens": 1},
        },
        {"type": "message_stop"},
    ]


def _full_name(declared: list[dict[str, Any]], tool: str) -> str:
    """Return the name that a client gave to our tool: each puts the server's before it."""
    names = [str(each.get("name")) for each in declared]
    return next((n for n in names if "fine-tuning-llm" in n and n.endswith(f"_{tool}")), "")


def _responses(asked: dict[str, Any], tool: str) -> list[dict[str, Any]]:
    """Answer a request of OpenAI's Responses API."""
    outputs = [p for p in asked["input"] if p.get("type") == "function_call_output"]
    groups = [group for group in asked["tools"] if group.get("type") == "namespace"]
    known = [g["name"] for g in groups if tool in [each.get("name") for each in g["tools"]]]
    if outputs or not known:
        text = SAYS + json.dumps(outputs[-1]["output"] if outputs else asked["tools"])
        content = [{"type": "output_text", "text": text, "annotations": []}]
        item: dict[str, Any] = {"type": "message", "id": "msg_1", "role": "assistant"}
        item |= {"status": "completed", "content": content}
    else:
        item = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "status": "completed"}
        item |= {"namespace": known[0], "name": tool, "arguments": "{}"}
    usage: dict[str, Any] = {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}
    usage |= {"input_tokens_details": None, "output_tokens_details": None}
    done = {"id": "resp_1", "output": [item], "usage": usage}
    return [
        {"type": "response.created", "response": {"id": "resp_1"}},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": done},
    ]
