"""The listening sockets: opened by systemd or by the master, accepted on for round-robin, closed at a stop."""
