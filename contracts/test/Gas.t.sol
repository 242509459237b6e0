// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Distributor} from "../src/Distributor.sol";
import {Harness} from "./Harness.sol";

interface VmGas {
    function snapshotGasLastCall(string calldata name) external returns (uint256 gas);
}

/// @title What transactions cost, as a chain charges them
/// @notice Run with `--isolate`: every call is a transaction of its own, with its intrinsic cost and cold storage. Proofs have
/// the length that they have in a tree of so many leaves; which siblings stand in them costs nothing more or less.
contract GasTest is Harness {
    address private constant PROVIDER = address(0xA11CE);

    function testGas() public {
        deposit(1e12);
        _root(1, "root_first");
        _root(2, "root_later");
        // The first claim of all opens the counter of its asset, which no later one pays for again.
        _claim(1, address(dollars), 1e6, "");
        _claim(1, address(token), 1e18, "");
        _claims(10, "1000");
        _claims(23, "8500000");
        vm.prank(address(uint160(PROVIDER) + 10));
        token.transfer(address(0xB0B), 1e18);
        VmGas(address(vm)).snapshotGasLastCall("transfer");
    }

    function _root(uint64 epoch, string memory name) private {
        Distributor.Epoch memory signed = epochOf(epoch, keccak256(abi.encode(epoch)), epoch * 1e6, epoch * 1e18);
        bytes memory call =
            abi.encodeCall(Distributor.submit, (signed, signatures(distributor.digestOf(signed), 3)));
        _send(call, name);
        vm.warp(block.timestamp + ACTIVATION_DELAY);
    }

    function _claims(uint256 depth, string memory leaves) private {
        _claim(depth, address(dollars), 1e6, string.concat("claim_first_settlement_", leaves));
        _claim(depth, address(dollars), 2e6, string.concat("claim_later_settlement_", leaves));
        _claim(depth, address(token), 1e18, string.concat("claim_first_token_", leaves));
        _claim(depth, address(token), 2e18, string.concat("claim_later_token_", leaves));
    }

    function _claim(uint256 depth, address asset, uint96 cumulative, string memory name) private {
        address account = address(uint160(uint160(PROVIDER) + depth));
        (bytes32 root, bytes32[] memory proof) = treeAround(leafOf(account, asset, cumulative), depth);
        uint64 epoch = distributor.lastEpoch() + 1;
        (,,, uint96 settlementTotal, uint96 tokenTotal) = distributor.roots(epoch - 1);
        if (asset == address(token)) activate(epoch, root, settlementTotal, tokenTotal + 10e18);
        else activate(epoch, root, settlementTotal + 10e6, tokenTotal);
        _send(
            abi.encodeCall(
                Distributor.claim, (claimsOf(Distributor.Claim(epoch, account, asset, cumulative, proof)))
            ),
            name
        );
    }

    function _send(bytes memory call, string memory name) private {
        (bool done,) = address(distributor).call(call);
        if (bytes(name).length > 0) VmGas(address(vm)).snapshotGasLastCall(name);
        assertTrue(done);
    }
}
