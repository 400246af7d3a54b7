"""A request that gets no answer: its status, a short name and one sentence, always as JSON."""

import json

from starlette.responses import Response


class Refusal(Exception):  # noqa: N818 - a refusal is an answer, not a fault of ours
    """Ends a request.

    Args:
        status: HTTP status.
        error: Short name that a program can compare.
        detail: One sentence for a person, without anything of the server's insides.
        retry_after_s: For 503: whole seconds after which another try makes sense.
        close: Whether the connection ends, because the rest of the body is not wanted.
    """

    def __init__(
        self, status: int, error: str, detail: str, *, retry_after_s: int | None = None, close: bool = False
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.error = error
        self.detail = detail
        self.retry_after_s = retry_after_s
        self.close = close

    def response(self) -> Response:
        """The answer to send."""
        headers = {"Retry-After": str(self.retry_after_s)} if self.retry_after_s is not None else {}
        if self.close:
            headers["Connection"] = "close"
        body = json.dumps({"error": self.error, "detail": self.detail}).encode()
        return Response(body, self.status, headers, media_type="application/json")


class ClientGone(Exception):  # noqa: N818 - nobody is left to be told
    """The client closed the connection before it had its answer."""
