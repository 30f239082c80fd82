"""`hakmem.Heap`, safe to use from Python.

- ``api``: the class `Heap`: it checks arguments and raises faults as exceptions
- ``gate``: what every call passes, so that `destroy` and forks can wait for other threads
- ``faults``: turns what a plane reports about a wrong address into an exception
- ``fork``: pauses heaps of the Python plane while the process forks; native ones are repaired
- ``process``: the process heap, the one behind malloc
"""
