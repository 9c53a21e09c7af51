"""A stand-in for the analytics API: a real HTTP server for the first run, the tests and the benchmark.

Its rows are believable, every oddity of the real API occurs in them, and it fails in as many ways as one asks it to.
Here belongs what the API would send (`data`), how it answers (`server`), how it fails (`faults`), the command
(`python -m analytics_assets.sample_api --help`) and a way to run it beside other code (`process`). What reads the API
does not belong here: apart from the contract over HTTP the two share nothing, so neither can hide the other's mistakes.
"""
