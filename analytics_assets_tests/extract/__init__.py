"""From the API to typed rows: HTTP and its faults, pages and their end, the budget, typing."""
