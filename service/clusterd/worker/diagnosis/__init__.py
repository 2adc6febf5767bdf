"""What a worker shows of itself: its vitals, its stacks, what is slow, and a debugger."""
