"""Programs that show how the packages are used. Each can be run, and is, by the tests."""
