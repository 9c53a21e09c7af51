"""How fast the main job is: measured beside the least that can be done, and beside others that do the same.

`contestants` are the programs, `plan` says who takes part in what, and `__main__` has all of it run. `measuring` runs
one contestant once, `contents` says what it loaded, `goals` and `report` what came out. None of it is installed.
"""
