// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {StakeVault} from "../src/StakeVault.sol";
import {Harness} from "./Harness.sol";

contract StakeVaultTest is Harness {
    address private constant OPERATOR = address(0x0B);
    address private constant ALICE = address(0xA);
    address private constant BOB = address(0xB);

    function setUp() public override {
        super.setUp();
        _fund(OPERATOR);
        _fund(ALICE);
        _fund(BOB);
    }

    function testStakeUnbondRelease() public {
        uint256 shares = _stake(ALICE, 10e18);
        vm.prank(ALICE);
        vault.unbond(OPERATOR, shares);
        assertEq(vault.stakeOf(OPERATOR, ALICE), 0);
        vm.warp(block.timestamp + 14 days - 1);
        vm.prank(ALICE);
        vm.expectPartialRevert(StakeVault.NothingReleased.selector);
        vault.release(OPERATOR);
        vm.warp(block.timestamp + 1);
        vm.prank(ALICE);
        assertEq(vault.release(OPERATOR), 10e18);
        assertEq(token.balanceOf(ALICE), 1000e18);
    }

    function testASlashTakesFromAllAlikeAndFromWhatIsLeaving() public {
        _stake(OPERATOR, 10e18);
        _stake(ALICE, 30e18);
        uint256 shares = _stake(BOB, 60e18);
        vm.prank(BOB);
        vault.unbond(OPERATOR, shares);
        _slash(100_000);
        assertEq(token.balanceOf(SLASHED), 10e18);
        assertEq(vault.stakeOf(OPERATOR, OPERATOR), 9e18);
        assertEq(vault.stakeOf(OPERATOR, ALICE), 27e18);
        vm.warp(block.timestamp + 14 days);
        vm.prank(BOB);
        assertEq(vault.release(OPERATOR), 54e18);
    }

    function testNobodyLeavesBetweenTheAnnouncementAndTheSlash() public {
        uint256 shares = _stake(ALICE, 10e18);
        vm.prank(ALICE);
        vault.unbond(OPERATOR, shares);
        vm.warp(block.timestamp + 14 days - 1);
        uint256 id = _announce(500_000);
        vm.warp(block.timestamp + 1);
        vm.prank(ALICE);
        vm.expectPartialRevert(StakeVault.SlashPending.selector);
        vault.release(OPERATOR);
        vm.prank(BOB);
        vm.expectPartialRevert(StakeVault.SlashPending.selector);
        vault.stake(OPERATOR, 1e18);
        vm.warp(block.timestamp + 7 days);
        vault.takeSlash(id);
        vm.prank(ALICE);
        assertEq(vault.release(OPERATOR), 5e18);
    }

    function testTheGuardianStopsASlash() public {
        _stake(ALICE, 10e18);
        uint256 id = _announce(500_000);
        vm.expectPartialRevert(StakeVault.NotGuardian.selector);
        vault.stopSlash(id);
        vm.prank(GUARDIAN);
        vault.stopSlash(id);
        vm.warp(block.timestamp + 7 days);
        vm.expectPartialRevert(StakeVault.SlashUnknown.selector);
        vault.takeSlash(id);
        assertEq(vault.stakeOf(OPERATOR, ALICE), 10e18);
    }

    function testASlashBeforeItsTimeOrTwice() public {
        _stake(ALICE, 10e18);
        uint256 id = _announce(500_000);
        vm.expectPartialRevert(StakeVault.SlashNotYet.selector);
        vault.takeSlash(id);
        vm.warp(block.timestamp + 7 days);
        vault.takeSlash(id);
        vm.expectPartialRevert(StakeVault.SlashUnknown.selector);
        vault.takeSlash(id);
    }

    function testOnlyTheSlasherAnnouncesAndOnlyShares() public {
        vm.expectPartialRevert(StakeVault.NotSlasher.selector);
        vault.announceSlash(OPERATOR, 1, "compute.wrong_result", 0);
        vm.prank(SLASHER);
        vm.expectPartialRevert(StakeVault.ShareOutOfRange.selector);
        vault.announceSlash(OPERATOR, 1_000_001, "compute.wrong_result", 0);
    }

    function testTooLittleIsNoStake(uint256 amount) public {
        amount = bound(amount, 0, vault.STAKE_MIN() - 1);
        vm.prank(ALICE);
        vm.expectRevert(abi.encodeWithSelector(StakeVault.StakeTooSmall.selector, amount));
        vault.stake(OPERATOR, amount);
    }

    function testNobodyTakesMoreThanHeHas() public {
        uint256 shares = _stake(ALICE, 10e18);
        vm.prank(ALICE);
        vm.expectPartialRevert(StakeVault.TooFewShares.selector);
        vault.unbond(OPERATOR, shares + 1);
        vm.prank(BOB);
        vm.expectPartialRevert(StakeVault.TooFewShares.selector);
        vault.unbond(OPERATOR, 1);
    }

    function testAFirstStakerCannotTakeFromTheNext(uint256 donated) public {
        donated = bound(donated, 1, 900e18);
        _stake(ALICE, vault.STAKE_MIN());
        vm.prank(ALICE);
        token.transfer(address(vault), donated);
        _stake(BOB, 10e18);
        assertTrue(vault.stakeOf(OPERATOR, BOB) >= 10e18 - 1);
    }

    function testOnlyTheTimelockChangesParameters() public {
        bytes memory refused = abi.encodeWithSelector(Ownable.OwnableUnauthorizedAccount.selector, address(this));
        vm.expectRevert(refused);
        vault.setSlasher(address(this));
        vm.expectRevert(refused);
        vault.setGuardian(address(this));
        vm.expectRevert(refused);
        vault.setDelays(0, 0);
        govern(address(vault), abi.encodeCall(StakeVault.setDelays, (3 days, 2 days)));
        assertEq(vault.unbondingDelay(), 3 days);
    }

    function testUnbondingIsNeverShorterThanTheAppeal() public {
        vm.prank(address(timelock));
        vm.expectPartialRevert(StakeVault.UnbondingShorterThanAppeal.selector);
        vault.setDelays(1 days, 2 days);
    }

    function _fund(address account) private {
        vm.prank(address(distributor));
        token.mint(account, 1000e18);
        vm.prank(account);
        token.approve(address(vault), type(uint256).max);
    }

    function _stake(address holder, uint256 amount) private returns (uint256 shares) {
        vm.prank(holder);
        return vault.stake(OPERATOR, amount);
    }

    function _announce(uint32 share) private returns (uint256) {
        vm.prank(SLASHER);
        return vault.announceSlash(OPERATOR, share, "compute.wrong_result", keccak256("evidence"));
    }

    function _slash(uint32 share) private {
        uint256 id = _announce(share);
        vm.warp(block.timestamp + 7 days);
        vault.takeSlash(id);
    }
}
