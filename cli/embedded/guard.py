"""Waits beside ``millpond up`` and clears away behind it if it dies without a word (SIGKILL, out of memory).

The parent holds the other end of this process's standard input: when it is gone, however it went, the read ends. After an orderly stop
nothing is recorded any more, and there is nothing to do. The guard holds the state folder's lock too, so a new start waits for it.
"""

import signal
import sys
from pathlib import Path

from cli.embedded.processes import stop_in_order
from cli.embedded.state import StateFolder


def main() -> None:
    """Run as ``python -m cli.embedded.guard STATE_FOLDER``, in a session of its own."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    state = StateFolder(Path(sys.argv[1]))
    sys.stdin.buffer.read()
    left = state.recorded()
    stop_in_order(left)
    state.record(())


if __name__ == "__main__":
    main()
