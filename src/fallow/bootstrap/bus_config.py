"""What a NATS server must know of a network: who may connect, and as what."""

from __future__ import annotations

from pathlib import Path

from fallow.adapters.engines.folders import make_data_folder
from fallow.adapters.engines.nats import MAX_PAYLOAD, MAX_SUBSCRIPTIONS
from fallow.adapters.engines.users import choose_user
from fallow.adapters.nats.nkeys import Kind, encode_public
from fallow.adapters.nats.server_config import nats_auth_config
from fallow.bootstrap.keys import NetworkKeys, key_files, load_keys
from fallow.bootstrap.settings import Settings

_OWN_SERVER = f"""\
# For the configuration of a NATS server or cluster that is used by this network alone, on every server of it. Its
# listeners, routes and certificates are yours; clients expect TLS from the first byte:
#   tls {{ cert_file: "...", key_file: "...", handshake_first: true }}
max_payload: {MAX_PAYLOAD}
max_subscriptions: {MAX_SUBSCRIPTIONS}
"""


def bus_config(keys: NetworkKeys) -> str:
    """Return accounts and authorization, in NATS's configuration syntax. It holds public keys only."""

    def public(key: str) -> str:
        return encode_public(Kind.USER, bytes(getattr(keys, key).verify_key))

    return nats_auth_config(
        core_public_keys={"core": public("core"), "gateway": public("gateway")},
        callout_public_key=public("callout"),
        system_public_key=public("system"),
        callout_issuer_public=encode_public(Kind.ACCOUNT, bytes(keys.issuer.verify_key)),
    )


def own_server_config(data: Path, settings: Settings) -> tuple[str, list[Path]]:
    """Return what the operator of a NATS server puts into its configuration, and the keys that were made for it.

    The network has those from then on.
    """
    make_data_folder(data, choose_user(settings.engine_user or None, data / "nats"))
    before = key_files(data)
    config = _OWN_SERVER + bus_config(load_keys(data, create=True))
    return config, sorted(key_files(data) - before)
