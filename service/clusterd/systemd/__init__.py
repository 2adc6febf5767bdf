"""The protocols between systemd and clusterd: socket activation, readiness, the watchdog."""
