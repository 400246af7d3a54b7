"""`python -m shared.live`: the live page of every run below an outputs folder."""

import argparse
import sys
from pathlib import Path

from shared.errors import UserError
from shared.live.security import TOKEN_VARIABLE, Access, read_token
from shared.live.serve import serve

PORT = 8600


def main(arguments: list[str] | None = None) -> int:
    """Serve until stopped; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m shared.live", description=__doc__)
    parser.add_argument("--outputs", type=Path, default=Path("outputs"), help="folder of the runs")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; any but the loopback needs a token")
    parser.add_argument("--port", type=int, default=PORT)
    parser.add_argument("--token-file", type=Path, help=f"file that holds the token; or set {TOKEN_VARIABLE}")
    parser.add_argument("--name", action="append", default=[], help="host name under which the page is called")
    parser.add_argument("--idle-minutes", type=float, help="leave after so long without viewers and runs")
    given = parser.parse_args(arguments)
    try:
        access = Access(given.host, read_token(given.token_file), tuple(given.name))
        host = f"[{given.host}]" if ":" in given.host else given.host

        def announce(port: int) -> None:
            print(f"live page: http://{host}:{port}/ (runs below {given.outputs})", flush=True)

        serve(given.outputs, access, given.port, idle_minutes=given.idle_minutes, on_ready=announce)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
