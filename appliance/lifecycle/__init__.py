"""What the operator and the callers want done: templates, models, deployments, imports, and the running of requests."""
