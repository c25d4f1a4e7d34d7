"""A plan of work as data, and executors that run it: one process, a pool, a Ray cluster."""
