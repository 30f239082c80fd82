"""Pictures of a heap: a page to look around in, an image for a report."""
