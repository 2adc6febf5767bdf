"""What is measured of clusterd, a module for each scenario, beside other servers where they have the like."""
