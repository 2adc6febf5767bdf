"""How a worker gives its connections away: at the end of its life, or to even the load out."""
