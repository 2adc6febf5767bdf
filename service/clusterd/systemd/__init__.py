"""What systemd and clusterd say to each other: sockets, readiness, the watchdog."""
