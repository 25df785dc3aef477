"""What sending costs by itself: ``python -m benchmarks.peers.bare_sender URL THREADS REQUESTS BODY_BYTES`` prints requests a second.

A pool of the HTTP client that Millpond sends with, and a loop in each thread: no database, no signature, no guard, no deadline.
"""

import sys
import threading
import time

import httpcore


def main(url: str, threads: int, requests: int, body_bytes: int) -> float:
    """Requests a second, each answered with 2xx."""
    body = b"x" * body_bytes
    headers = {"host": "127.0.0.1", "content-type": "application/json", "content-length": str(body_bytes)}
    bad: list[int] = []

    def loop(pool: httpcore.ConnectionPool) -> None:
        for _ in range(requests // threads):
            status = pool.request("POST", url, headers=headers, content=body).status
            if not 200 <= status < 300:
                bad.append(status)

    with httpcore.ConnectionPool(max_connections=threads) as pool:
        running = [threading.Thread(target=loop, args=(pool,)) for _ in range(threads)]
        began = time.perf_counter()
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()
        elapsed_s = time.perf_counter() - began
    if bad:
        raise SystemExit(f"{len(bad)} requests were not taken")
    return (requests // threads) * threads / elapsed_s


if __name__ == "__main__":
    print(main(sys.argv[1], *(int(number) for number in sys.argv[2:5])))  # type: ignore[call-arg]
