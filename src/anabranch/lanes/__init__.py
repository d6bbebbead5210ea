"""Run calls where they belong: on the loop, in threads, in processes."""
