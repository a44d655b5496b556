"""python sdk/examples/python/mint_token.py ACCOUNT_KEY.pem KEY.json USER

The backend's half: signs a short token for one of your users, with a key whose public half the service knows.
The app gets the token, and nobody but the backend the key. KEY.json is the service's answer to
`POST /v1/account/keys`.
"""

import json
import sys
import time
from pathlib import Path

import jwt


def mint_token(pem: str, key: dict[str, str], user: str, claims: dict[str, str | int] | None = None) -> str:
    """Signs a token that is good for five minutes.

    Args:
        pem: the private key.
        key: what the service calls it.
        user: which of your users it is for, 1 to 128 characters: it sees that user's portraits alone.
        claims: narrows it further: `scope`, `max_images`, `max_price`; a `jti` makes it good for one request.
    """
    now = int(time.time())
    issued = {"iss": key["issuer"], "aud": key["audience"], "iat": now, "exp": now + 300, "end_user": user}
    return jwt.encode(
        {**(claims or {}), **issued}, pem, algorithm=key["algorithm"], headers={"kid": key["id"]}
    )


def main() -> None:
    if len(sys.argv) != 4:
        sys.exit("mint_token.py ACCOUNT_KEY.pem KEY.json USER")
    pem, key, user = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    print(mint_token(pem.read_text(), json.loads(key.read_text()), user, {"max_images": 2, "max_price": 500}))


if __name__ == "__main__":
    main()
