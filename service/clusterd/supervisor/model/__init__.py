"""What the supervisor knows: workers, templates, generations, their states and limits."""
