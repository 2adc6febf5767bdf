"""What load balancers are told, and how a service leaves their rotation and comes back."""
