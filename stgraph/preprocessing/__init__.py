"""What is done to a signal before a model sees it."""
