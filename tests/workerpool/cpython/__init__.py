"""CPython's own tests of executors, found where they are installed and run on WorkerPool."""
