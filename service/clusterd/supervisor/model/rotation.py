"""Whether load balancers are to send requests to this service."""

from enum import Enum


class Rotation(Enum):
    """The place of the service in the rotation of load balancers. They learn it from /readyz and from the agent."""

    IN = "in rotation"
    LEAVING = "leaving rotation"
    """Balancers are told to send nothing more. Until they have noticed, everything goes on as before."""
    OUT = "out of rotation"
    """Connections are closed after their responses. What still comes is answered."""
