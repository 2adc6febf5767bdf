"""The listening sockets: from systemd or bound here, accepted on for round_robin, and closed at a stop."""
