// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ERC3009} from "@openzeppelin/contracts/token/ERC20/extensions/draft-ERC3009.sol";
import {FallowToken} from "../src/FallowToken.sol";
import {Harness} from "./Harness.sol";

contract FallowTokenTest is Harness {
    uint256 private constant HOLDER_KEY = 0xA11CE;
    bytes32 private constant TRANSFER = keccak256(
        "TransferWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce)"
    );
    bytes32 private constant PERMIT =
        keccak256("Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)");
    address private holder;

    function setUp() public override {
        super.setUp();
        holder = vm.addr(HOLDER_KEY);
        vm.prank(address(distributor));
        token.mint(holder, 100e18);
    }

    function testOnlyTheMinterMints() public {
        vm.expectPartialRevert(FallowToken.NotMinter.selector);
        token.mint(address(this), 1);
    }

    function testBurningMakesNoRoomForMoreMinting() public {
        vm.prank(holder);
        token.burn(100e18);
        assertEq(token.totalSupply(), 0);
        vm.prank(address(distributor));
        vm.expectPartialRevert(FallowToken.MintedMaxExceeded.selector);
        token.mint(holder, 1e27 - 100e18 + 1);
        vm.prank(address(distributor));
        token.mint(holder, 1e27 - 100e18);
        assertEq(token.mintedTotal(), 1e27);
    }

    function testBurningForCredits(uint256 amount) public {
        amount = bound(amount, token.BURN_MIN(), 100e18);
        vm.prank(holder);
        token.burnForCredits(amount, holder);
        assertEq(token.balanceOf(holder), 100e18 - amount);
        assertEq(token.totalSupply(), 100e18 - amount);
    }

    function testBurningTooLittleForCredits(uint256 amount) public {
        amount = bound(amount, 0, token.BURN_MIN() - 1);
        vm.prank(holder);
        vm.expectRevert(abi.encodeWithSelector(FallowToken.BurnTooSmall.selector, amount));
        token.burnForCredits(amount, holder);
    }

    function testATransferThatItsSenderSigned() public {
        (uint8 v, bytes32 r, bytes32 s) = _transfer(5e18, block.timestamp + 1);
        token.transferWithAuthorization(holder, address(0xB0B), 5e18, 0, block.timestamp + 1, "once", v, r, s);
        assertEq(token.balanceOf(address(0xB0B)), 5e18);
        vm.expectPartialRevert(ERC3009.ERC3009UsedAuthorization.selector);
        token.transferWithAuthorization(holder, address(0xB0B), 5e18, 0, block.timestamp + 1, "once", v, r, s);
    }

    function testASignedTransferOfAnotherValue(uint256 value) public {
        vm.assume(value != 5e18);
        (uint8 v, bytes32 r, bytes32 s) = _transfer(5e18, block.timestamp + 1);
        vm.expectPartialRevert(ERC3009.ERC3009InvalidSignature.selector);
        token.transferWithAuthorization(holder, address(0xB0B), value, 0, block.timestamp + 1, "once", v, r, s);
    }

    function testASignedTransferExpires() public {
        uint256 validBefore = block.timestamp + 1;
        (uint8 v, bytes32 r, bytes32 s) = _transfer(5e18, validBefore);
        vm.warp(validBefore);
        vm.expectPartialRevert(ERC3009.ERC3009InvalidAuthorizationTime.selector);
        token.transferWithAuthorization(holder, address(0xB0B), 5e18, 0, validBefore, "once", v, r, s);
    }

    function testAPermitThatTheHolderSigned() public {
        bytes32 permit = keccak256(abi.encode(PERMIT, holder, address(this), 7e18, 0, block.timestamp));
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(HOLDER_KEY, _typed(permit));
        token.permit(holder, address(this), 7e18, block.timestamp, v, r, s);
        token.transferFrom(holder, address(this), 7e18);
        assertEq(token.balanceOf(address(this)), 7e18);
    }

    function _transfer(uint256 value, uint256 validBefore) private view returns (uint8 v, bytes32 r, bytes32 s) {
        bytes32 structHash = keccak256(
            abi.encode(TRANSFER, holder, address(0xB0B), value, uint256(0), validBefore, bytes32("once"))
        );
        return vm.sign(HOLDER_KEY, _typed(structHash));
    }

    function _typed(bytes32 structHash) private view returns (bytes32) {
        return keccak256(abi.encodePacked(hex"1901", token.DOMAIN_SEPARATOR(), structHash));
    }
}
