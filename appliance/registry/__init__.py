"""What the operator wants, and what was called: two SQLite files in the home.

``registry.db`` holds intent (accounts, keys, templates, models, deployments, groups, artifacts, jobs, the audit trail),
``calls.db`` the call log. The lifecycle uses both; nothing here knows engines, memory or HTTP.
"""
