"""What the kernel tells of the service and its processes: /proc and the control group."""
