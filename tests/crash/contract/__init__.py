"""Small workflows for single Temporal commands, run in the simulation and on the real service, and compared."""
