"""The operations console: a Textual application that knows the appliance through HTTP only.

It imports ``appliance.wire`` for the shapes of bodies and nothing else, so it works from another machine too.
``client`` is the only network code, ``keymap`` lists every key, ``screens`` own state, ``widgets`` show it.
"""
