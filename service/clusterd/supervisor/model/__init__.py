"""The state of the supervisor: workers, templates and generations, with their states and limits."""
