"""``appliance bench``: how fast a running server answers, measured from outside as its clients see it.

``measure`` drives the routes that everybody uses and knows no server's inside; ``report`` shows what was found.
"""
