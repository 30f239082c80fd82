"""`hakmem.Heap`, safe to use from Python.

- ``api``: the class, its arguments checked, faults raised as exceptions
- ``gate``: every call goes through it, so that `destroy` and forks wait for other threads
- ``faults``: what a plane reports of a wrong address, as an exception that says so
- ``fork``: heaps of the Python plane wait while the process forks, native ones are repaired
- ``process``: the process heap, which is the one behind malloc
"""
