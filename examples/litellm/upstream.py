"""Fake OpenAI servers on loopback, one for each model; each answers at once with the name of the model it was asked for.

    python examples/litellm/upstream.py 9001 pocket-xs pocket-num pocket-text pocket-l

listens on 9001, 9002, ... It knows chat completions (streamed too), completions and responses. Needs the standard library alone.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

USAGE = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}
NOTHING = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"  # to the proxy's own GET of the model list


def answer(path: str, asked: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """The body of the answer; several for a stream. `name`: of the server."""
    model = asked["model"]
    text = f"{model} at {name}"
    plain = {"id": "fake-1", "created": int(time.time()), "model": model}
    if path.endswith("/responses"):
        part = {"type": "output_text", "text": text, "annotations": []}
        message = {"type": "message", "id": "m1", "status": "completed", "role": "assistant", "content": [part]}
        usage = {"input_tokens": 9, "output_tokens": 3, "total_tokens": 12}
        more = {"parallel_tool_calls": True, "tool_choice": "auto", "tools": []}
        return [
            plain
            | {"object": "response", "created_at": plain["created"], "status": "completed", "output": [message], "usage": usage}
            | more
        ]
    if not path.endswith("/chat/completions"):
        choice = {"index": 0, "text": text, "finish_reason": "stop", "logprobs": None}
        return [plain | {"object": "text_completion", "choices": [choice], "usage": USAGE}]
    if not asked.get("stream"):
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        return [plain | {"object": "chat.completion", "choices": [choice], "usage": USAGE}]
    deltas = [{"role": "assistant", "content": text}, {}]
    return [
        plain | {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta, "finish_reason": None if delta else "stop"}]}
        for delta in deltas
    ]


def framed(bodies: list[dict[str, Any]], *, stream: bool) -> bytes:
    """An HTTP answer."""
    if stream:
        body = b"".join(f"data: {json.dumps(one)}\n\n".encode() for one in bodies) + b"data: [DONE]\n\n"
        kind = "text/event-stream"
    else:
        body, kind = json.dumps(bodies[0]).encode(), "application/json"
    return f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body


async def serve(port: int, name: str) -> asyncio.Server:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                lines = head.lower().split("\r\n")
                length = next((int(line.split(":")[1]) for line in lines if line.startswith("content-length:")), 0)
                asked = json.loads(await reader.readexactly(length) or b"{}")
                path = head.split(" ")[1]
                writer.write(framed(answer(path, asked, name), stream=bool(asked.get("stream"))) if asked else NOTHING)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):  # the proxy has hung up, or all ends
            writer.close()

    return await asyncio.start_server(talk, "127.0.0.1", port)


async def main(first: int, names: list[str]) -> None:
    servers = [await serve(first + i, name) for i, name in enumerate(names)]
    await asyncio.gather(*(server.serve_forever() for server in servers))


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2:]))
