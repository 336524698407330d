"""How the services of a stack run: ``protocol`` is what ``Stack`` needs, ``native`` and ``compose`` provide it."""
