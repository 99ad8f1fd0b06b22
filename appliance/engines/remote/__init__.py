"""A model behind somebody else's OpenAI-compatible endpoint: an upstream.

``backend`` is called by the scheduler like every other backend, ``engine`` by the requests; between them and the
network stands ``client``, the server's only use of httpx. ``address``, ``ask``, ``answer``, ``events`` and ``faults``
are pure: which addresses are allowed, what is sent, how answers, event streams and refusals are read.
"""
