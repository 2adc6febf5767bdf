"""What operators and monitoring see and use: the control socket, metrics, probes and events."""
