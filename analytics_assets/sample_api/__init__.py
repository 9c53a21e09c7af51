"""A stand-in for the analytics API: a real HTTP server for the first run, the tests and the benchmark.

Its rows are believable, every oddity of the real API occurs in them, and it fails in as many ways as one asks it to
(`python -m analytics_assets.sample_api --help`). It serves the tables that are declared, and shares nothing else with
what reads the API, so neither can hide the other's mistakes.
"""
