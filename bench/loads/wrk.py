"""Load by wrk and by ab: as many requests as are answered."""

import re
import subprocess
from collections.abc import Callable


def wrk(path: str = "/", connections: int = 16, *arguments: str) -> Callable[[int, int], float]:
    """Load by wrk over kept-alive connections. A response that is not 2xx makes the number worthless: it raises."""

    def load(port: int, seconds: int) -> float:
        url = f"http://127.0.0.1:{port}{path}"
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", *arguments, url]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        if "Non-2xx" in done.stdout:
            raise RuntimeError(f"{' '.join(command)}:\n{done.stdout}")
        return float(re.findall(r"Requests/sec:\s*([0-9.]+)", done.stdout)[0])

    return load


def ab(concurrency: int) -> Callable[[int, int], float]:
    """Load by ab, which opens a connection for each request."""

    def load(port: int, seconds: int) -> float:
        command = ["ab", "-q", "-s", "10", "-t", str(seconds), "-n", "1000000", "-c", str(concurrency)]
        url = f"http://127.0.0.1:{port}/"
        done = subprocess.run([*command, url], capture_output=True, text=True, check=True)
        return float(re.findall(r"Requests per second:\s*([0-9.]+)", done.stdout)[0])

    return load
