// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Distributor} from "../src/Distributor.sol";
import {Harness} from "./Harness.sol";

/// @dev Does at random what users, validators and the guardian do, with trees of two leaves. What it may not do reverts,
/// which is part of the play.
contract Players is Harness {
    address private constant ANN = address(0xA11);
    address private constant BEN = address(0xBE11);

    uint256 public deposited;
    uint256 public highestSettlementTotal;
    uint256 public highestTokenTotal;
    uint64[] private _epochs;
    mapping(uint64 epoch => uint96[2]) private _leaves;
    mapping(uint64 epoch => address) private _assets;

    constructor() {
        setUp();
    }

    function pay(uint256 amount) external {
        amount = bound(amount, distributor.DEPOSIT_MIN(), 1e12);
        deposit(amount);
        deposited += amount;
    }

    /// @dev Leaves of one asset; its total may be signed too low, which must never let claims exceed it.
    function close(uint96 first, uint96 second, uint96 missing, bool inTokens) external {
        uint96 most = inTokens ? EPOCH_MINT_MAX : 1e12;
        uint96[2] memory leaves = [uint96(bound(first, 0, most)), uint96(bound(second, 0, most))];
        uint96 total = leaves[0] + leaves[1] - uint96(bound(missing, 0, leaves[1]));
        address asset = inTokens ? address(token) : address(dollars);
        uint64 epoch = distributor.lastEpoch() + 1;
        (,,, uint96 settlementTotal, uint96 tokenTotal) = distributor.roots(epoch - 1);
        Distributor.Epoch memory signed = epochOf(
            epoch,
            pair(leafOf(ANN, asset, leaves[0]), leafOf(BEN, asset, leaves[1])),
            inTokens ? settlementTotal : total,
            inTokens ? total : tokenTotal
        );
        distributor.submit(signed, signatures(distributor.digestOf(signed), 3));
        _epochs.push(epoch);
        _leaves[epoch] = leaves;
        _assets[epoch] = asset;
        if (signed.settlementTotal > highestSettlementTotal) highestSettlementTotal = signed.settlementTotal;
        if (signed.tokenTotal > highestTokenTotal) highestTokenTotal = signed.tokenTotal;
    }

    function wait(uint256 duration) external {
        vm.warp(block.timestamp + bound(duration, 1, 2 * ACTIVATION_DELAY));
    }

    function withdraw(uint256 back) external {
        uint64 last = distributor.lastEpoch();
        vm.prank(GUARDIAN);
        distributor.withdraw(last - uint64(bound(back, 0, last < 2 ? 0 : 1)));
    }

    function claim(uint256 which, bool forBen) external {
        uint64 epoch = _epochs[which % _epochs.length];
        address asset = _assets[epoch];
        uint96[2] memory leaves = _leaves[epoch];
        bytes32[] memory proof = new bytes32[](1);
        proof[0] = forBen ? leafOf(ANN, asset, leaves[0]) : leafOf(BEN, asset, leaves[1]);
        distributor.claim(
            claimsOf(Distributor.Claim(epoch, forBen ? BEN : ANN, asset, leaves[forBen ? 1 : 0], proof))
        );
    }

    function paidOut() external view returns (uint256 settled, uint256 minted) {
        return (dollars.balanceOf(ANN) + dollars.balanceOf(BEN), token.balanceOf(ANN) + token.balanceOf(BEN));
    }

    function held() external view returns (uint256) {
        return dollars.balanceOf(address(distributor));
    }

    function mintedTotal() external view returns (uint256) {
        return token.mintedTotal();
    }

    function claimedSums() external view returns (uint256 settled, uint256 minted) {
        settled = distributor.claimed(ANN, address(dollars)) + distributor.claimed(BEN, address(dollars));
        minted = distributor.claimed(ANN, address(token)) + distributor.claimed(BEN, address(token));
    }
}

contract InvariantsTest {
    struct Target {
        address addr;
        bytes4[] selectors;
    }

    Players private players;

    function setUp() public {
        players = new Players();
    }

    /// @dev Tells forge whom to call.
    function targetContracts() external view returns (address[] memory list) {
        list = new address[](1);
        list[0] = address(players);
    }

    /// @dev Tells forge what to call there.
    function targetSelectors() external view returns (Target[] memory list) {
        list = new Target[](1);
        list[0] = Target(address(players), new bytes4[](5));
        list[0].selectors[0] = Players.pay.selector;
        list[0].selectors[1] = Players.close.selector;
        list[0].selectors[2] = Players.wait.selector;
        list[0].selectors[3] = Players.withdraw.selector;
        list[0].selectors[4] = Players.claim.selector;
    }

    /// @dev What was deposited is held or was paid out, to the last unit.
    function invariantNothingIsLost() external view {
        (uint256 settled,) = players.paidOut();
        require(players.held() + settled == players.deposited(), "deposits");
    }

    /// @dev No more leaves than what a quorum signed as total, whatever the trees say.
    function invariantNoMoreThanTheSignedTotals() external view {
        (uint256 settled, uint256 minted) = players.paidOut();
        require(settled <= players.highestSettlementTotal(), "settlement");
        require(minted <= players.highestTokenTotal(), "tokens");
    }

    /// @dev What counts as claimed is what arrived, and what was minted.
    function invariantClaimedIsWhatArrived() external view {
        (uint256 settled, uint256 minted) = players.paidOut();
        (uint256 settledClaims, uint256 mintedClaims) = players.claimedSums();
        require(settled == settledClaims && minted == mintedClaims && minted == players.mintedTotal(), "claims");
    }
}
