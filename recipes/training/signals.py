"""SIGTERM and SIGINT that wait until the training step is finished and saved."""

import signal
import threading


class Signals:
    """Context in which the first SIGTERM or SIGINT is only noted, and the second takes effect at once.

    Whoever trains calls `leave` after a step is finished and saved. Before and after, the handlers are those that were
    there; one that was not set from Python, or that ignores the signal, stays. Outside the main thread nothing happens.

    Attributes:
        received: Number of the signal that was noted, or `None`.
    """

    def __init__(self):
        self.received = None
        self._before = {}

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                before = signal.getsignal(number)
                if before is not None and before is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *error):
        for number, before in self._before.items():
            signal.signal(number, before)
        self._before = {}

    def leave(self):
        """Raise what the noted signal means: `SystemExit(143)` or `KeyboardInterrupt`."""
        if self.received == signal.SIGTERM:
            raise SystemExit(128 + signal.SIGTERM)
        if self.received is not None:
            raise KeyboardInterrupt

    def _note(self, number, frame):
        again, self.received = self.received is not None, number
        if again:
            self.leave()
