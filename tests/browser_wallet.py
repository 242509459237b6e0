"""A wallet for pages in Chromium (EIP-1193): a real key signs here, and a real chain takes what it signs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import httpx2
from playwright.async_api import Page

from fallow.domain.identity import address, address_text
from fallow.domain.transactions import Unsigned
from fallow.domain.wallets import text_digest
from fallow.ports.signer import Signer
from tests.network import BOUND

ELSEWHERE = 1
GAS = 500_000
DECLINED = {"code": 4001, "message": "The request was declined."}
UNKNOWN_CHAIN = {"code": 4902, "message": "Unrecognized chain."}
SCRIPT = """
(() => {
  const heard = {};
  window.ethereum = {
    async request({ method, params }) {
      const { result, error } = await window.askedOfWallet(method, params ?? []);
      if (error) throw error;
      if (method === "wallet_switchEthereumChain") for (const one of heard.chainChanged ?? []) one(params[0].chainId);
      return result;
    },
    on: (event, one) => (heard[event] ??= new Set()).add(one),
    removeListener: (event, one) => heard[event]?.delete(one),
  };
})();
"""


class Chain(NamedTuple):
    """A chain that it may be told of."""

    id: int
    url: str


NO_CHAIN = Chain(0, "")


class BrowserWallet:
    """Knows another chain at first, and asks nobody until a page has asked for its account. `declines` it once."""

    def __init__(self, signer: Signer, chain: Chain = NO_CHAIN) -> None:
        self._signer, self._chain = signer, chain
        self._known = {ELSEWHERE}
        self._on = ELSEWHERE
        self._shown = False
        self.declines = False
        self.signed: list[Unsigned] = []
        self._answers: dict[str, Callable[[dict[str, Any]], Any]] = {
            "eth_requestAccounts": self._show,
            "eth_accounts": lambda _: [address_text(signer.address)] if self._shown else [],
            "eth_chainId": lambda _: hex(self._on),
            "wallet_addEthereumChain": self._add,
        }

    async def put_into(self, page: Page) -> None:
        """Have it in a page, from the next time that one is loaded."""
        await page.expose_function("askedOfWallet", self.asked)
        await page.add_init_script(SCRIPT)

    async def asked(self, method: str, params: list[Any]) -> dict[str, Any]:
        """Answer a page: with a `result`, or an `error`."""
        first = params[0] if params else {}
        if method in self._answers:
            return {"result": self._answers[method](first)}
        if method == "wallet_switchEthereumChain":
            wanted = int(first["chainId"], 16)
            self._on = wanted if wanted in self._known else self._on
            return {"result": None} if wanted in self._known else {"error": UNKNOWN_CHAIN}
        if method == "personal_sign":
            text = bytes.fromhex(first[2:]).decode()
            return {"result": f"0x{(await self._signer.sign(text_digest(text))).hex()}"}
        if method != "eth_sendTransaction":
            return await self._ask(method, params)
        if self.declines:
            self.declines = False
            return {"error": DECLINED}
        return await self._send(first)

    def _show(self, _: object) -> list[str]:
        self._shown = True
        return [address_text(self._signer.address)]

    def _add(self, chain: dict[str, Any]) -> None:
        assert (int(chain["chainId"], 16), chain["rpcUrls"]) == (self._chain.id, [self._chain.url])
        self._known.add(self._chain.id)

    async def _send(self, wanted: dict[str, Any]) -> dict[str, Any]:
        assert (int(wanted["chainId"], 16), wanted["from"]) == (self._on, address_text(self._signer.address))
        nonce = await self._ask("eth_getTransactionCount", [wanted["from"], "pending"])
        made = Unsigned(
            self._on, int(nonce["result"], 16), address(wanted["to"]), bytes.fromhex(wanted["data"][2:]), GAS, 0, 0
        )
        self.signed.append(made)
        raw = made.signed(await self._signer.sign(made.digest))
        return await self._ask("eth_sendRawTransaction", [f"0x{raw.hex()}"])

    async def _ask(self, method: str, params: list[Any]) -> dict[str, Any]:
        asked = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        async with httpx2.AsyncClient(timeout=BOUND) as http:
            answer = await http.post(self._chain.url, json=asked)
        said: dict[str, Any] = answer.json()
        return said
