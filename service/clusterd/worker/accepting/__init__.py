"""How a worker accepts connections: when it is its turn, and from which listeners."""
