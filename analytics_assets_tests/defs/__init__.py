"""What Dagster and its UI show: assets, checks, schedules, sensors, and a browser that looks at them."""
