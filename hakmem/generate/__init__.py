"""What is made from `hakmem.layout`: the ctypes mirror, the C header, the tables for people."""
