"""Training package of UDFA: prepare data, fit, evaluate. Imports networks from `udfa` and defines none."""
