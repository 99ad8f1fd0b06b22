"""The document at ``/schema/openapi.json``: every route with its bodies, answers, failures and examples."""
