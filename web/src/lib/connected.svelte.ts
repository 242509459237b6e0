/** The wallet that a page works with: whose account it shows, and on which chain it is. */
import { failed, type Failed, type Network } from "./api";
import { chainOf } from "./chain";
import { account, add, chainId, change, hasWallet, knownAccount, watch } from "./wallet";

export class Connected {
  account = $state("");
  chain = $state(0);
  trouble = $state.raw<Failed>();
  /** Whether it has been looked at. */
  known = $state(false);

  constructor() {
    $effect(() => {
      void this.look();
      return watch(() => void this.look());
    });
  }

  /** Looks at what its holder lets this page see. */
  async look(): Promise<void> {
    if (!hasWallet()) return;
    await this.#try(async () => {
      this.account = (await knownAccount()) ?? "";
      this.chain = await chainId();
    });
    this.known = true;
  }

  /** Asks its holder for an account. */
  async connect(): Promise<void> {
    await this.#try(async () => {
      this.account = await account();
      this.chain = await chainId();
    });
  }

  /** Has it change to the network's chain. One that the network runs it is told of, if it does not know that yet. */
  async go(network: Network): Promise<void> {
    const chain = chainOf(network);
    await this.#try(async () => {
      try {
        await change(chain);
      } catch (error) {
        if (failed(error).code !== "wallet.chain_unknown" || !chain.rpc) throw error;
        await add(chain);
      }
      this.chain = await chainId();
    });
  }

  async #try(what: () => Promise<void>): Promise<void> {
    this.trouble = undefined;
    try {
      await what();
    } catch (error) {
      this.trouble = failed(error);
    }
  }
}
