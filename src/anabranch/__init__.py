"""Run branches of work concurrently, each under a limit, in the host's own loop."""
