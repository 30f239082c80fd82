"""Reading: copies the bytes of a heap and takes them apart into records and blocks. Tables and
other output are made elsewhere."""
