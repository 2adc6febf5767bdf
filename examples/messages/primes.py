"""What the workers do: count the primes of each range that they are sent."""

from typing import Any

from clusterd import worker


def main() -> None:
    """Nothing of its own: messages come until the worker is to stop."""
    worker.stop_event.wait()


@worker.on("message")
def count(task: list[int]) -> None:
    """Do one task, and say so."""
    first, end = task
    done: dict[str, Any] = {"task": task, "primes": sum(map(is_prime, range(first, end)))}
    worker.send(done)


def is_prime(number: int) -> bool:
    """Whether it is one, by trying: this is to take a while."""
    return number > 1 and all(number % divisor for divisor in range(2, int(number**0.5) + 1))
