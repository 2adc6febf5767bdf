"""The interfaces for operators and monitoring: the control socket, metrics, probes and events."""
