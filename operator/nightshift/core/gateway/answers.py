"""What the gateway answers by itself, in the shape of OpenAI's errors."""

import json
from dataclasses import dataclass

from nightshift.core.gateway.settings import BUFFER_BYTES, REWRITE_BYTES

CONTENT_TYPE = "application/json"
_PLACEHOLDER = "{}"
_CLEAN = "bytes(0,256),json(utf8s)"
"""A text of the client's inside of a JSON string. Bytes that are no UTF-8 are left out."""


@dataclass(frozen=True)
class Answer:
    """An error that rules answer with."""

    status: int
    code: str
    message: str
    """A sentence for the client. `{}` stands for the value of `value`."""
    value: str = ""
    """A sample expression of HAProxy whose value the message carries; where it is empty, it is given with the rule."""
    type: str = "invalid_request_error"
    param: str | None = None
    retry_after: int | None = None

    def rule(self, condition: str) -> str:
        """The http-request rule that gives this answer under a condition."""
        header = f" hdr retry-after {self.retry_after}" if self.retry_after is not None else ""
        if self.retry_after is None and self.status >= 500:
            header = " hdr x-should-retry false"  # or OpenAI's clients try again in vain
        how = f"status {self.status} content-type {CONTENT_TYPE}{header}"
        return f"http-request return {how} lf-string '{self._format()}' if {condition}"

    def _format(self) -> str:
        text = error_body(self.message, self.type, self.code, self.param)
        text = text.replace("%", "%%").replace("'", "\\u0027")
        return text.replace(_PLACEHOLDER, f"%[{self.value},{_CLEAN}]") if self.value else text


def error_body(message: str, kind: str, code: str, param: str | None = None) -> str:
    """An error as OpenAI's API words it."""
    return json.dumps({"error": {"message": message, "type": kind, "param": param, "code": code}})


_REMEDY = "send it to /NAMESPACE/NAME/v1/..., to the Host NAME.NAMESPACE, or with the header x-model: NAMESPACE/NAME"
NO_PATH = Answer(
    404,
    "unknown_path",
    "There is nothing at {}. Models are served at /NAMESPACE/NAME/v1/... and /v1/....",
    "var(txn.path)",
)
NO_MODEL_BY_PATH = Answer(
    404,
    "model_not_found",
    "There is no model {}; GET /v1/models lists those there are.",
    "var(txn.route)",
    param="model",
)
NO_REVISION = Answer(
    404,
    "revision_not_found",
    "No replica of the revision that the header x-nightshift-revision names is ready; revisions with a ready one: {}.",
    param="x-nightshift-revision",
)
NO_MODEL = Answer(
    404,
    "model_not_found",
    "There is no model {}; GET /v1/models lists those there are.",
    "var(txn.asked)",
    param="model",
)
MODEL_MISSING = Answer(
    400,
    "model_missing",
    f"The request names no model: its body is no JSON object with a text as model. Name one there, or {_REMEDY}.",
    param="model",
)
BARE_HOST = Answer(
    404,
    "host_not_full",
    "The Host is no full name, and names in other namespaces may be the same. Full names are: {}.",
    "var(txn.full)",
)
PATH_REFUSED = Answer(
    404,
    "path_not_served",
    "This model does not serve {} with this method; what it serves follows from its task.",
    "var(txn.path)",
)
TOO_LARGE_FOR_BODY = Answer(
    413,
    "model_not_visible",
    f"The body is larger than the gateway looks into ({(BUFFER_BYTES - REWRITE_BYTES) // 1024} KiB with the headers), "
    f"so that the model in it cannot be seen: {_REMEDY}.",
    param="model",
)
TOO_LARGE = Answer(413, "body_too_large", "The body is larger than this model's limit of {} bytes.", "var(txn.limit)")
NO_LENGTH = Answer(
    411, "length_required", "A body that is larger than the gateway's buffer needs the header Content-Length."
)
OFF = Answer(
    503,
    "model_off",
    "{} is switched off (spec.replicas is 0). Somebody has to set its replicas to 1 or more.",
    "var(txn.route)",
    type="server_error",
)
NO_ADAPTER = Answer(
    503,
    "adapter_loading",
    "No replica has loaded the adapter {} yet; try again shortly.",
    "var(txn.model)",
    type="server_error",
    param="model",
    retry_after=5,
)
QUEUE_FULL = Answer(
    429,
    "queue_full",
    "All replicas of {} are busy and its queue is full; try again later.",
    "var(txn.route)",
    type="rate_limit_error",
    retry_after=2,
)

STATUSES: dict[int, tuple[str, str, str, str]] = {
    400: (
        "Bad Request",
        "invalid_request_error",
        "malformed_request",
        "The request is malformed, or its headers are larger than the gateway's buffer.",
    ),
    403: ("Forbidden", "invalid_request_error", "forbidden", "The request is not allowed."),
    405: ("Method Not Allowed", "invalid_request_error", "method_not_allowed", "The method is not allowed."),
    408: ("Request Timeout", "invalid_request_error", "request_timeout", "The request did not arrive in time."),
    413: ("Payload Too Large", "invalid_request_error", "body_too_large", "The body is too large."),
    429: ("Too Many Requests", "rate_limit_error", "too_many_requests", "There are too many requests."),
    500: ("Internal Server Error", "server_error", "internal_error", "The gateway failed."),
    501: ("Not Implemented", "invalid_request_error", "not_implemented", "The gateway does not support this."),
    502: (
        "Bad Gateway",
        "server_error",
        "bad_answer",
        "The replica broke off, or answered with something that is no HTTP; try again.",
    ),
    503: (
        "Service Unavailable",
        "server_error",
        "no_replica",
        "No replica took the request in time; try again shortly.",
    ),
    504: ("Gateway Timeout", "server_error", "no_answer", "The replica did not answer in time."),
}
"""What HAProxy answers where no rule of ours does: reason phrase, type, code, message."""


def error_files() -> dict[str, str]:
    """Whole HTTP responses for HAProxy's own errors, by file name."""
    return {f"errors/{status}.http": _response(status, *parts) for status, parts in STATUSES.items()}


def _response(status: int, phrase: str, kind: str, code: str, message: str) -> str:
    body = error_body(message, kind, code)
    head = [f"HTTP/1.1 {status} {phrase}", f"content-type: {CONTENT_TYPE}", f"content-length: {len(body)}"]
    head += ["retry-after: 1"] if status in (429, 503) else []
    return "\r\n".join([*head, "cache-control: no-cache", "connection: close", "", body])
