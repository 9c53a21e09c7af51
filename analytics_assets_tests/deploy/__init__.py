"""The deployment for a team and the one on Kubernetes, tried in sandboxes without containers."""
