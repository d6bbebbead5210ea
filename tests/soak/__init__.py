"""Use everything at once for minutes, with faults, and see that nothing stays behind."""
