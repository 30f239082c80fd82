"""The ``hakmem`` command inside gdb: the views over the program that gdb holds, running or a core.

``load.py`` is the file that gdb sources; it finds this package and what it needs in gdb's Python.
``memory.py`` is what gdb reads as a source for views, ``commands.py`` the commands. gdb's Python
module is named ``gdb`` too; it is there only inside gdb.
"""
