// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {Distributor} from "../src/Distributor.sol";
import {Validators} from "../src/Validators.sol";
import {Harness} from "./Harness.sol";

contract DistributorTest is Harness {
    address private constant PROVIDER = address(0xA11CE);
    uint256 private constant PROVIDER_KEY = 0xBEEF;

    function _claim(uint64 epoch, address account, address asset, uint256 cumulative, bytes32[] memory proof)
        private
        pure
        returns (Distributor.Claim[] memory)
    {
        return claimsOf(Distributor.Claim(epoch, account, asset, cumulative, proof));
    }

    /// @dev A root of one account's leaf in the settlement asset, and the claims that it allows.
    function _settle(uint64 epoch, address account, uint96 cumulative) private returns (Distributor.Claim[] memory) {
        (bytes32 root, bytes32[] memory proof) = treeAround(leafOf(account, address(dollars), cumulative), 3);
        activate(epoch, root, cumulative, 0);
        return _claim(epoch, account, address(dollars), cumulative, proof);
    }

    function _earn(uint64 epoch, address account, uint96 cumulative) private returns (Distributor.Claim[] memory) {
        (bytes32 root, bytes32[] memory proof) = treeAround(leafOf(account, address(token), cumulative), 3);
        activate(epoch, root, 0, cumulative);
        return _claim(epoch, account, address(token), cumulative, proof);
    }

    // --- Claims

    function testClaimPaysTheDifference() public {
        deposit(100e6);
        distributor.claim(_settle(1, PROVIDER, 10e6));
        assertEq(dollars.balanceOf(PROVIDER), 10e6);
        Distributor.Claim[] memory later = _settle(2, PROVIDER, 25e6);
        distributor.claim(later);
        assertEq(dollars.balanceOf(PROVIDER), 25e6);
        distributor.claim(later);
        assertEq(dollars.balanceOf(PROVIDER), 25e6);
    }

    function testAnOlderRootAfterANewerOnePaysNothingAndStopsNoBatch() public {
        deposit(100e6);
        Distributor.Claim[] memory old = _settle(1, PROVIDER, 10e6);
        Distributor.Claim[] memory newer = _settle(2, PROVIDER, 25e6);
        Distributor.Claim[] memory both = new Distributor.Claim[](2);
        (both[0], both[1]) = (newer[0], old[0]);
        distributor.claim(both);
        assertEq(dollars.balanceOf(PROVIDER), 25e6);
    }

    function testTokensAreMintedByClaimsOnly() public {
        Distributor.Claim[] memory claims = _earn(1, PROVIDER, 5e18);
        assertEq(token.totalSupply(), 0);
        distributor.claim(claims);
        assertEq(token.balanceOf(PROVIDER), 5e18);
        assertEq(token.mintedTotal(), 5e18);
    }

    function testAClaimBeforeActivationIsRefused() public {
        (bytes32 root, bytes32[] memory proof) = treeAround(leafOf(PROVIDER, address(token), 1e18), 3);
        Distributor.Epoch memory signed = epochOf(1, root, 0, 1e18);
        distributor.submit(signed, signatures(distributor.digestOf(signed), 3));
        vm.warp(block.timestamp + ACTIVATION_DELAY - 1);
        vm.expectPartialRevert(Distributor.RootNotActive.selector);
        distributor.claim(_claim(1, PROVIDER, address(token), 1e18, proof));
    }

    function testALeafThatIsNotInTheTreeIsRefused(uint256 cumulative) public {
        Distributor.Claim[] memory claims = _earn(1, PROVIDER, 1e18);
        vm.assume(cumulative != 1e18);
        claims[0].cumulative = cumulative;
        vm.expectPartialRevert(Distributor.ProofInvalid.selector);
        distributor.claim(claims);
    }

    function testALeafOfAnotherAssetIsRefused() public {
        (bytes32 root, bytes32[] memory proof) = treeAround(leafOf(PROVIDER, address(0x1), 5), 3);
        activate(1, root, 0, 0);
        vm.expectPartialRevert(Distributor.AssetUnknown.selector);
        distributor.claim(_claim(1, PROVIDER, address(0x1), 5, proof));
    }

    function testLeavesThatExceedTheSignedTotalAreNotPaid() public {
        deposit(100e6);
        bytes32 mine = leafOf(PROVIDER, address(dollars), 30e6);
        bytes32 other = leafOf(address(0xB0B), address(dollars), 30e6);
        activate(1, pair(mine, other), 40e6, 0);
        distributor.claim(_claim(1, PROVIDER, address(dollars), 30e6, _one(other)));
        vm.expectPartialRevert(Distributor.TotalExceeded.selector);
        distributor.claim(_claim(1, address(0xB0B), address(dollars), 30e6, _one(mine)));
    }

    function testOnesOwnClaimCanGoElsewhere() public {
        deposit(100e6);
        Distributor.Claim[] memory claims = _settle(1, PROVIDER, 10e6);
        vm.prank(PROVIDER);
        distributor.claimTo(claims, address(0xCAFE));
        assertEq(dollars.balanceOf(address(0xCAFE)), 10e6);
    }

    function testNobodyRedirectsAnothersClaim() public {
        deposit(100e6);
        Distributor.Claim[] memory claims = _settle(1, PROVIDER, 10e6);
        vm.expectPartialRevert(Distributor.NotTheAccount.selector);
        distributor.claimTo(claims, address(this));
    }

    function testARelayedClaimGoesWhereItsAccountSigned() public {
        deposit(100e6);
        address account = vm.addr(PROVIDER_KEY);
        Distributor.Claim[] memory claims = _settle(1, account, 10e6);
        bytes memory signed = _redirection(account, address(0xCAFE), claims, 0, block.timestamp);
        vm.expectPartialRevert(Distributor.RedirectionInvalid.selector);
        distributor.claimTo(claims, account, address(0xBAD), block.timestamp, signed);
        distributor.claimTo(claims, account, address(0xCAFE), block.timestamp, signed);
        assertEq(dollars.balanceOf(address(0xCAFE)), 10e6);
        vm.expectPartialRevert(Distributor.RedirectionInvalid.selector);
        distributor.claimTo(claims, account, address(0xCAFE), block.timestamp, signed);
    }

    function testARelayedClaimExpires() public {
        address account = vm.addr(PROVIDER_KEY);
        Distributor.Claim[] memory claims = _settle(1, account, 0);
        uint256 deadline = 2_000_000_000;
        bytes memory signed = _redirection(account, address(0xCAFE), claims, 0, deadline);
        vm.warp(2_000_000_001);
        vm.expectPartialRevert(Distributor.RedirectionExpired.selector);
        distributor.claimTo(claims, account, address(0xCAFE), deadline, signed);
    }

    // --- Roots

    function testTooFewSignatures() public {
        Distributor.Epoch memory signed = epochOf(1, bytes32(uint256(1)), 0, 0);
        bytes[] memory two = signatures(distributor.digestOf(signed), 2);
        vm.expectPartialRevert(Validators.TooFewSignatures.selector);
        distributor.submit(signed, two);
    }

    function testOneValidatorCountsOnce() public {
        Distributor.Epoch memory signed = epochOf(1, bytes32(uint256(1)), 0, 0);
        bytes[] memory three = signatures(distributor.digestOf(signed), 3);
        three[2] = three[1];
        vm.expectPartialRevert(Validators.SignersNotAscending.selector);
        distributor.submit(signed, three);
    }

    function testAForeignSignature() public {
        Distributor.Epoch memory signed = epochOf(1, bytes32(uint256(1)), 0, 0);
        bytes[] memory three = signatures(distributor.digestOf(signed), 3);
        three[0] = signature(_keyBelow(vm.addr(keys[1])), distributor.digestOf(signed));
        vm.expectPartialRevert(Validators.NotAValidator.selector);
        distributor.submit(signed, three);
    }

    function testWhatWasSignedCannotBeChanged(uint64 epoch, bytes32 root, uint96 total, uint96 tokens, bytes32 archive)
        public
    {
        Distributor.Epoch memory signed = epochOf(1, bytes32(uint256(1)), 0, 0);
        bytes[] memory three = signatures(distributor.digestOf(signed), 3);
        Distributor.Epoch memory other = Distributor.Epoch(epoch, 0, root, total, tokens, archive);
        vm.assume(epoch > 0 && keccak256(abi.encode(other)) != keccak256(abi.encode(signed)));
        vm.expectRevert();
        distributor.submit(other, three);
    }

    function testEpochsGoForward() public {
        activate(3, bytes32(uint256(1)), 0, 0);
        Distributor.Epoch memory signed = epochOf(3, bytes32(uint256(2)), 0, 0);
        bytes[] memory three = signatures(distributor.digestOf(signed), 3);
        vm.expectPartialRevert(Distributor.EpochNotNew.selector);
        distributor.submit(signed, three);
    }

    function testATotalNeverFalls() public {
        deposit(10e6);
        activate(1, bytes32(uint256(1)), 10e6, 10);
        Distributor.Epoch memory signed = epochOf(2, bytes32(uint256(2)), 10e6 - 1, 10);
        bytes[] memory three = signatures(distributor.digestOf(signed), 3);
        vm.expectPartialRevert(Distributor.TotalFell.selector);
        distributor.submit(signed, three);
        signed = epochOf(2, bytes32(uint256(2)), 10e6, 9);
        three = signatures(distributor.digestOf(signed), 3);
        vm.expectPartialRevert(Distributor.TotalFell.selector);
        distributor.submit(signed, three);
    }

    function testTooLittleIsNoDeposit(uint256 amount) public {
        uint256 least = distributor.DEPOSIT_MIN();
        amount = bound(amount, 0, least - 1);
        dollars.give(address(this), least);
        dollars.approve(address(distributor), least);
        vm.expectRevert(abi.encodeWithSelector(Distributor.DepositTooSmall.selector, amount));
        distributor.deposit(address(this), amount);
        distributor.deposit(address(this), least);
        assertEq(distributor.deposited(), least);
    }

    function testARootThatIsNotFundedIsRefused() public {
        deposit(10e6);
        Distributor.Epoch memory signed = epochOf(1, bytes32(uint256(1)), 10e6 + 1, 0);
        bytes[] memory three = signatures(distributor.digestOf(signed), 3);
        vm.expectPartialRevert(Distributor.NotFunded.selector);
        distributor.submit(signed, three);
    }

    function testAnEpochMintsNoMoreThanItsCap() public {
        activate(1, bytes32(uint256(1)), 0, EPOCH_MINT_MAX);
        Distributor.Epoch memory signed = epochOf(2, bytes32(uint256(2)), 0, 2 * EPOCH_MINT_MAX + 1);
        bytes[] memory three = signatures(distributor.digestOf(signed), 3);
        vm.expectPartialRevert(Distributor.EpochMintMaxExceeded.selector);
        distributor.submit(signed, three);
        activate(2, bytes32(uint256(2)), 0, 2 * EPOCH_MINT_MAX);
    }

    // --- Withdrawn roots

    function testTheGuardianWithdrawsARootAndAllAfterItBeforeItIsActive() public {
        activate(1, bytes32(uint256(1)), 0, 1);
        for (uint64 epoch = 2; epoch <= 4; epoch++) {
            Distributor.Epoch memory signed = epochOf(epoch, bytes32(uint256(epoch)), 0, epoch);
            distributor.submit(signed, signatures(distributor.digestOf(signed), 3));
        }
        vm.prank(GUARDIAN);
        distributor.withdraw(3);
        assertEq(distributor.lastEpoch(), 2);
        (bytes32 gone,,,,) = distributor.roots(4);
        assertTrue(gone == bytes32(0));
        activate(3, bytes32(uint256(33)), 0, 3);
        assertEq(distributor.lastEpoch(), 3);
    }

    function testAWithdrawnRootCannotComeBack() public {
        Distributor.Epoch memory signed = epochOf(1, bytes32(uint256(1)), 0, 0);
        bytes[] memory three = signatures(distributor.digestOf(signed), 3);
        distributor.submit(signed, three);
        vm.prank(GUARDIAN);
        distributor.withdraw(1);
        vm.expectPartialRevert(Distributor.WrongRevision.selector);
        distributor.submit(signed, three);
    }

    function testAnActiveRootStays() public {
        activate(1, bytes32(uint256(1)), 0, 0);
        vm.prank(GUARDIAN);
        vm.expectPartialRevert(Distributor.RootActive.selector);
        distributor.withdraw(1);
    }

    function testAQuorumWithdraws() public {
        Distributor.Epoch memory signed = epochOf(1, bytes32(uint256(1)), 0, 0);
        distributor.submit(signed, signatures(distributor.digestOf(signed), 3));
        bytes32 digest = _withdrawal(1, 0);
        bytes[] memory two = signatures(digest, 2);
        vm.expectPartialRevert(Validators.TooFewSignatures.selector);
        distributor.withdraw(1, two);
        distributor.withdraw(1, signatures(digest, 3));
        assertEq(distributor.lastEpoch(), 0);
    }

    function testNobodyElseWithdraws() public {
        vm.expectRevert(abi.encodeWithSelector(Distributor.NotGuardian.selector, address(this)));
        distributor.withdraw(1);
    }

    // --- Parameters

    function testOnlyTheTimelockChangesParameters() public {
        bytes memory refused = abi.encodeWithSelector(Ownable.OwnableUnauthorizedAccount.selector, address(this));
        vm.expectRevert(refused);
        distributor.setGuardian(address(this));
        vm.expectRevert(refused);
        distributor.setActivationDelay(0);
        vm.expectRevert(refused);
        distributor.setEpochMintMax(type(uint96).max);
        vm.expectRevert(refused);
        validators.set(new address[](1));
        vm.expectRevert(refused);
        token.setMinter(address(this));
        govern(address(distributor), abi.encodeCall(Distributor.setActivationDelay, (2 days)));
        assertEq(distributor.activationDelay(), 2 days);
    }

    function testTwoQuorumsHaveAnHonestValidatorInCommon() public {
        uint256[9] memory counts = [uint256(1), 2, 3, 4, 5, 6, 7, 13, 31];
        uint256[9] memory quorums = [uint256(1), 2, 2, 3, 4, 4, 5, 9, 21];
        for (uint256 i = 0; i < counts.length; i++) {
            address[] memory list = new address[](counts[i]);
            for (uint256 j = 0; j < counts[i]; j++) {
                list[j] = address(uint160(1000 + j));
            }
            assertEq(deployedValidators(list, address(this)).quorum(), quorums[i]);
            uint256 faulty = (counts[i] - 1) / 3;
            assertTrue(2 * quorums[i] - counts[i] > faulty && quorums[i] <= counts[i] - faulty);
        }
    }

    function _one(bytes32 sibling) private pure returns (bytes32[] memory proof) {
        proof = new bytes32[](1);
        proof[0] = sibling;
    }

    function _keyBelow(address limit) private pure returns (uint256 key) {
        key = 1;
        while (vm.addr(key) >= limit) key++;
    }

    function _typed(bytes32 structHash) private view returns (bytes32) {
        bytes32 domain = keccak256(
            abi.encode(
                keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"),
                keccak256("Fallow Distributor"),
                keccak256("1"),
                block.chainid,
                address(distributor)
            )
        );
        return keccak256(abi.encodePacked(hex"1901", domain, structHash));
    }

    function _withdrawal(uint64 epoch, uint64 revision) private view returns (bytes32) {
        return _typed(keccak256(abi.encode(distributor.WITHDRAWAL_TYPEHASH(), epoch, revision)));
    }

    function _redirection(
        address account,
        address recipient,
        Distributor.Claim[] memory claims,
        uint256 nonce,
        uint256 deadline
    ) private view returns (bytes memory) {
        bytes32 structHash = keccak256(
            abi.encode(
                distributor.REDIRECTION_TYPEHASH(), account, recipient, keccak256(abi.encode(claims)), nonce, deadline
            )
        );
        return signature(PROVIDER_KEY, _typed(structHash));
    }
}
