"""Stand-ins for parts of the package, for tests of what is built on them."""
