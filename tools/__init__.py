"""What serves the tests, the checks and the demo of a checkout; not part of the package."""
