"""What all tests share: a Ray started in this process asks for a token, from the first import on.

Ray reads how it authenticates when it is first imported, and here that may be long before
`cluster.local` starts one.
"""

import os
import secrets

os.environ.setdefault("RAY_AUTH_MODE", "token")
os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
