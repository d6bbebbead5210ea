"""Play a machine under load: no loop and no real time, the same for the same seed."""
