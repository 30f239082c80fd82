"""A web program with pandas: each request asks for a region's sales, and what was cut out of the
table for it is kept for the next one."""

import http.server
import sys
import threading
import urllib.request

import pandas

kept: dict[str, pandas.DataFrame] = {}


def sales_of(region: str) -> pandas.DataFrame:
    """A region's sales, of all that a day's file says."""
    rows = 20_000
    table = pandas.DataFrame(
        {
            "region": [f"region-{row % 200}" for row in range(rows)],
            "note": [f"order {row} of {region}" for row in range(rows)],
            "amount": range(rows),
        }
    )
    return table[table["region"] == region]


class Answer(http.server.BaseHTTPRequestHandler):
    """GET /REGION: its sum."""

    def do_GET(self) -> None:
        """Answers from what is kept, or keeps it first."""
        region = self.path.strip("/")
        if region not in kept:
            kept[region] = sales_of(region)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(str(kept[region]["amount"].sum()).encode())

    def log_message(self, *_: object) -> None:
        """Says nothing of each request."""


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
threading.Thread(target=server.serve_forever, daemon=True).start()
for number in range(200):
    place = f"http://127.0.0.1:{server.server_port}/region-{number}"
    urllib.request.urlopen(place).read()
print("served", flush=True)
threading.Event().wait(float(sys.argv[1]) if len(sys.argv) > 1 else 600)
