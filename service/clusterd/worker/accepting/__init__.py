"""How a worker accepts connections: the accept policy, the acceptor, and the listeners in the loop's epoll."""
