"""What somebody sends who wants to get past the gateway, or to keep others from it."""

import json
import random

DISALLOWED = (
    "/metrics",
    "/health",
    "/version",
    "/load",
    "/ping",
    "/invocations",
    "/tokenize",
    "/detokenize",
    "/docs",
    "/redoc",
    "/openapi.json",
    "/adapters",
    "/adapters/x",
    "/kv_event_sources",
    "/pooling",
    "/classify",
    "/score",
    "/rerank",
    "/v2/rerank",
    "/server_info",
    "/sleep",
    "/wake_up",
    "/is_sleeping",
    "/collective_rpc",
    "/reset_prefix_cache",
    "/pause",
    "/resume",
    "/abort_requests",
    "/update_weights",
    "/scale_elastic_ep",
    "/is_scaling_elastic_ep",
    "/generative_scoring",
    "/inference/v1/generate",
    "/v1/load_lora_adapter",
    "/v1/unload_lora_adapter",
    "/v1/systemone",
    "/v1/responses/r/cancel",
    "/v1/chat/completions/render",
    "/v1/embeddings",
    "/v1/audio/transcriptions",
)
"""Paths of vLLM 0.31 to 0.33 that a chat model's clients have no business with, /health among them."""


def spellings(path: str, key: str = "ml/bot") -> list[str]:
    """A path as somebody writes it who wants to get past a list; the model's key is NAMESPACE/NAME."""
    tail = path[1:]
    first = f"%{ord(tail[0]):02x}"
    plain = [
        path,
        "/" + path,
        path + "/",
        path + "?x=/v1/chat/completions",
        path + ";/v1/chat/completions",
        path + "%00",
        path + "%2f",
        path + "#/v1/chat/completions",
        "/." + path,
        "/%2e" + path,
        "/" + first + tail[1:],
        path.upper(),
        "/v1/../" + tail,
        "/v1/%2e%2e/" + tail,
        "/v1/chat/completions/../../.." + path,
        "/v1/chat/completions/..%2f..%2f.." + path,
        "/v1/chat/completions%2f..%2f..%2f.." + path,
        "/v1/chat/completions;" + path,
        "/v1/chat/completions#" + path,
        "\\" + tail,
        "/v1/..\\" + tail,
        "http://ml" + path,
        "//ml" + path,
    ]
    under = [f"/{key}" + one for one in plain if one.startswith("/")]
    return [*plain, *under, f"/{key}/v1" + path, f"/{key}/v1/.." + path, f"/{key}/../.." + path, "*", tail]


def request(method: str, target: str, host: str, key: str = "ml/bot") -> bytes:
    """An empty JSON object to a target as it stands, for a model by the header as well."""
    head = f"{method} {target} HTTP/1.1\r\nHost: {host}\r\nx-model: {key}\r\nContent-Type: application/json\r\n"
    return (head + "Content-Length: 2\r\nConnection: close\r\n\r\n{}").encode("latin-1")


HIDDEN = b"POST /v1/load_lora_adapter HTTP/1.1\r\nHost: e\r\nContent-Length: 2\r\n\r\n{}"
_CHUNKED_HIDDEN = b"0\r\n\r\n" + HIDDEN


def smuggling(key: str = "ml/bot") -> dict[str, bytes]:
    """Requests that hide another one, by how they do it."""
    head = b"POST /%b/v1/chat/completions HTTP/1.1\r\nHost: g\r\n" % key.encode()
    return {
        "a length and chunks": head + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n" + _CHUNKED_HIDDEN,
        "chunks and a length": head + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n" + _CHUNKED_HIDDEN,
        "two lengths": head + b"Content-Length: 2\r\nContent-Length: 90\r\n\r\n{}" + HIDDEN,
        "two lengths in one line": head + b"Content-Length: 2, 90\r\n\r\n{}" + HIDDEN,
        "a length with a sign": head + b"Content-Length: +2\r\n\r\n{}" + HIDDEN,
        "a length that is negative": head + b"Content-Length: -2\r\n\r\n{}" + HIDDEN,
        "a length with a space in its name": head + b"Content-Length : 2\r\n\r\n{}" + HIDDEN,
        "a length in hexadecimal": head + b"Content-Length: 0x2\r\n\r\n{}" + HIDDEN,
        "an encoding with a space in its name": head + b"Transfer-Encoding : chunked\r\n\r\n" + _CHUNKED_HIDDEN,
        "an encoding in odd letters": head
        + b"Transfer-Encoding: xchunked\r\nContent-Length: 5\r\n\r\n"
        + _CHUNKED_HIDDEN,
        "an encoding that is listed twice": head + b"Transfer-Encoding: chunked, chunked\r\n\r\n" + _CHUNKED_HIDDEN,
        "an encoding behind another": head + b"Transfer-Encoding: identity, chunked\r\n\r\n" + _CHUNKED_HIDDEN,
        "an encoding in front of another": head + b"Transfer-Encoding: chunked, identity\r\n\r\n" + _CHUNKED_HIDDEN,
        "an encoding with a tab": head + b"Transfer-Encoding:\tchunked\r\nContent-Length: 5\r\n\r\n" + _CHUNKED_HIDDEN,
        "an encoding with a vertical tab": head
        + b"Transfer-Encoding: \x0bchunked\r\nContent-Length: 5\r\n\r\n"
        + _CHUNKED_HIDDEN,
        "a folded line": head + b"X: y\r\n Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n" + _CHUNKED_HIDDEN,
        "a folded length": head + b"Content-Length:\r\n 2\r\n\r\n{}" + HIDDEN,
        "a bare line feed": head + b"X: y\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n" + _CHUNKED_HIDDEN,
        "a bare carriage return": head
        + b"X: y\rTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n"
        + _CHUNKED_HIDDEN,
        "a zero byte": head + b"X: \x00\r\nContent-Length: 2\r\n\r\n{}" + HIDDEN,
        "a chunk of a negative size": head + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n" + HIDDEN,
        "a chunk of an enormous size": head + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n" + HIDDEN,
        "a chunk with an extension": head + b"Transfer-Encoding: chunked\r\n\r\n0;x=\n\r\n\r\n" + HIDDEN,
        "HTTP/1.0 with chunks": head.replace(b"1.1", b"1.0") + b"Transfer-Encoding: chunked\r\n\r\n" + _CHUNKED_HIDDEN,
        "an upgrade": head + b"Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 2\r\n\r\n{}" + HIDDEN,
        "an upgrade to HTTP/2": head
        + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"
        b"Content-Length: 2\r\n\r\n{}" + HIDDEN,
        "HTTP/2 from the start": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + HIDDEN,
        "CONNECT": b"CONNECT e:8000 HTTP/1.1\r\nHost: e:8000\r\n\r\n" + HIDDEN,
        "a line break in the path": head.replace(b" HTTP/1.1", b"\r\nX: y HTTP/1.1")
        + b"Content-Length: 0\r\n\r\n"
        + HIDDEN,
    }


def random_body(dice: random.Random, key: str = "ml/bot") -> bytes:
    """A body that may or may not be JSON, and may or may not name the model."""
    kind = dice.randrange(6)
    if kind == 0:
        return dice.randbytes(dice.randrange(300))
    if kind == 1:
        return b"[" * dice.randrange(5000)
    if kind == 2:
        text = "".join(chr(dice.choice([34, 92, 0x20AC, 0x1F600, 10, 37, 39, 0x202E, 97])) for _ in range(20))
        return json.dumps({"model": text}, ensure_ascii=dice.random() < 0.5).encode()
    if kind == 3:
        return b'{"model": "%b", "model": "ml/none", "x": %f}' % (key.encode(), dice.random())
    if kind == 4:
        return json.dumps({"messages": "x" * dice.randrange(2000), "model": key}).encode()
    whole = json.dumps({"model": key, "prompt": "y" * dice.randrange(200)}).encode()
    return whole[: dice.randrange(len(whole))]
