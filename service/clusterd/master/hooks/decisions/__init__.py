"""Pure decisions about hooks processes, like the supervisor's about workers: events in, actions out."""
