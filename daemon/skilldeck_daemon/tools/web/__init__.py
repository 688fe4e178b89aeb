"""The web as the model's tools see it: search behind one interface (`providers`), pages as text (`pages`), and which
URLs a run may open (`said`). All of it is off until the operator names a provider in the settings.

Nothing here trusts what comes from outside: addresses are checked at each hop, sizes and times are bounded, pages are
parsed in a sandbox, and text reaches the model as data inside marks it cannot close.
"""
