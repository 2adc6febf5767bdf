"""The bridge between hosts: what a worker sends goes to the workers of every host, by pub/sub of Redis."""

import json
import os
import threading

import redis

from clusterd import cluster

store = redis.Redis.from_url(os.environ["REDIS_URL"], socket_timeout=5, retry=None)


@cluster.on("message")
def publish(worker: object, message: object) -> object:
    """Reply with the number of hosts that hear it. An error is that of the worker's request."""
    return store.publish("broadcast", json.dumps(message))


def listen(pause: threading.Event) -> None:
    """Hear, with another connection where one is lost or has brought what is no JSON, as long as the process lives."""
    while not pause.wait(0.5):
        try:
            with store.pubsub(ignore_subscribe_messages=True) as subscription:
                subscription.subscribe("broadcast")
                while True:
                    if heard := subscription.get_message(timeout=1):
                        cluster.broadcast(json.loads(heard["data"]))
        except (redis.RedisError, ValueError) as error:
            print(f"other hosts are not heard: {error}")


cluster.on("setup")(lambda _: threading.Thread(target=listen, args=[threading.Event()], daemon=True).start())
