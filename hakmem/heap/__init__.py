"""`hakmem.Heap`: the API, safe to use from Python, and what it does at a fork."""
