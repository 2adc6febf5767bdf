"""How a worker hands over its connections: during a drain, or to rebalance the load."""
