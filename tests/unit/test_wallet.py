"""A holder's wallet, and a network that is after what its key has elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from fallow.bootstrap.wallet import open_wallet
from fallow.domain.chains import chain_id_of
from fallow.domain.errors import NotAllowed
from fallow.domain.views.network import ContractsView, NetworkView


@pytest.mark.parametrize("chain_id", [0, 1, chain_id_of("another")])
async def test_it_signs_for_no_chain_but_the_networks_own(tmp_path: Path, chain_id: int) -> None:
    key, address = tmp_path / "key", "0x" + "11" * 20
    key.write_text("07" * 32)
    key.chmod(0o600)
    contracts = ContractsView(
        block=1, settlement=address, token=address, distributor=address, validators=address, vault=address,
        timelock=address,
    )  # fmt: skip
    network = NetworkView(
        net="public-1", public_key="", bus_url="", preset="public", version="1", chain_url="http://127.0.0.1:1",
        chain_id=chain_id, contracts=contracts,
    )  # fmt: skip
    with pytest.raises(NotAllowed, match=r"wallet\.other_chain"):
        async with open_wallet(key, network, None):
            pass
