"""The model zoo: the catalog of built-in models, the starters' weights, and the recipes that made them.

Data for the lifecycle layer; of the appliance it knows the domain's words only.
"""
