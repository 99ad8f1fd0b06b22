"""HTTP: routes, keys, errors, streaming. Thin translations; every decision is in the lifecycle below."""
