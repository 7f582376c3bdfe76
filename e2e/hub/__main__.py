"""`python -m e2e.hub --root DIR --port 8080`: serve the models below DIR until stopped."""

import argparse
import logging
from pathlib import Path

from aiohttp import web

from e2e.hub.server import HubServer


def main() -> None:
    """Run the server in the foreground."""
    parser = argparse.ArgumentParser(prog="python -m e2e.hub", description="A local Hub for tests.")
    parser.add_argument("--root", type=Path, required=True, help="directory with ORG/NAME[@BRANCH] directories")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--host", default=None, help="address to listen on; default: all")
    parser.add_argument("--cdn", default=None, help="base address that large files are redirected to")
    arguments = parser.parse_args()
    if not arguments.root.is_dir():
        parser.error(f"{arguments.root} is not a directory")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    server = HubServer(arguments.root, cdn=arguments.cdn)
    web.run_app(server.application(), host=arguments.host, port=arguments.port)


if __name__ == "__main__":
    main()
