"""requests in 100 threads, each with a `Session` and its connection: GET, read."""

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor

import requests
from contract import Meter, Result, Spec, play, polled_in_turn

THREADS = 100


def run(spec: Spec) -> Result:
    """Poll the tasks in turn."""
    urls = spec.urls
    bodies: dict[int, bytes] = {}
    mine = threading.local()

    def open_session() -> None:
        mine.session = requests.Session()
        mine.session.headers.update(spec.headers)

    def poll(index: int) -> None:
        # Said per request: a bundle named in the environment goes before the session's.
        reply = mine.session.get(urls[index], timeout=30, verify=spec.ca_file)
        bodies[index] = reply.content

    def poll_all(count: int) -> None:
        numbers = itertools.islice(itertools.cycle(range(spec.tasks)), count)
        for _ in threads.map(poll, numbers):
            pass

    with ThreadPoolExecutor(THREADS, initializer=open_session) as threads:
        poll_all(spec.warm_up)
        meter = Meter()
        poll_all(spec.polls)
        result = meter.read()
    return polled_in_turn(result, bodies, spec)


if __name__ == "__main__":
    play(run)
