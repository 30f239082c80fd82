"""Four threads keep orders, drop seven of eight of them, and go on with a little: a program to look
at with ``hakmem``."""

import sys
import threading
import time


def trade(orders: list[dict[str, object]]) -> None:
    """Takes 60,000 orders, settles most, then sleeps and takes one now and then."""
    orders += [{"id": number, "note": "n" * (number % 400)} for number in range(60_000)]
    orders[:] = orders[::8]
    settled.wait()
    while True:
        orders[len(orders) % 7]["note"] = "again" * (len(orders) % 50)
        time.sleep(0.2)


settled = threading.Barrier(5)
books: list[list[dict[str, object]]] = [[] for _ in range(4)]
for book in books:
    threading.Thread(target=trade, args=(book,), daemon=True).start()
settled.wait()
print("settled", flush=True)
time.sleep(float(sys.argv[1]) if len(sys.argv) > 1 else 600)
