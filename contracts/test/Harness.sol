// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {TimelockController} from "@openzeppelin/contracts/governance/TimelockController.sol";
import {Distributor} from "../src/Distributor.sol";
import {FallowToken} from "../src/FallowToken.sol";
import {StakeVault} from "../src/StakeVault.sol";
import {Validators} from "../src/Validators.sol";
import {Dollars} from "./Dollars.sol";

/// @dev The part of forge's cheat codes that these tests use.
interface Vm {
    function addr(uint256 key) external pure returns (address);
    function assume(bool condition) external pure;
    function deployCode(string calldata artifact, bytes calldata arguments) external returns (address);
    function expectRevert() external;
    function expectPartialRevert(bytes4 selector) external;
    function expectRevert(bytes calldata data) external;
    function prank(address sender) external;
    function sign(uint256 key, bytes32 digest) external pure returns (uint8 v, bytes32 r, bytes32 s);
    function warp(uint256 timestamp) external;
}

/// @dev A network's contracts as they are deployed: everything that can change belongs to a timelock.
abstract contract Harness {
    Vm internal constant vm = Vm(0x7109709ECfa91a80626fF3989D68f67F5b1DD12D);
    address internal constant GUARDIAN = address(0x6A);
    address internal constant SLASHER = address(0x51A5);
    address internal constant SLASHED = address(0xdEaD);
    uint40 internal constant ACTIVATION_DELAY = 1 days;
    uint96 internal constant EPOCH_MINT_MAX = 7200e18;
    uint256 internal constant TIMELOCK_DELAY = 2 days;

    Dollars internal dollars;
    FallowToken internal token;
    Validators internal validators;
    Distributor internal distributor;
    StakeVault internal vault;
    TimelockController internal timelock;
    /// @dev Keys of the validators, in ascending order of their addresses.
    uint256[] internal keys;

    function setUp() public virtual {
        vm.warp(1_800_000_000);
        address[] memory me = new address[](1);
        me[0] = address(this);
        timelock = TimelockController(
            payable(deployed("TimelockController", abi.encode(TIMELOCK_DELAY, me, me, address(0))))
        );
        dollars = Dollars(deployed("Dollars", ""));
        token = FallowToken(deployed("FallowToken", abi.encode("Fallow", "FLW", 1e27, timelock)));
        _makeKeys(4);
        validators = deployedValidators(_addresses(), address(timelock));
        distributor = Distributor(
            deployed(
                "Distributor",
                abi.encode(dollars, token, validators, GUARDIAN, ACTIVATION_DELAY, EPOCH_MINT_MAX, timelock)
            )
        );
        vault = StakeVault(
            deployed("StakeVault", abi.encode(token, SLASHED, SLASHER, GUARDIAN, 14 days, 7 days, timelock))
        );
        govern(address(token), abi.encodeCall(FallowToken.setMinter, (address(distributor))));
    }

    /// @dev Deploys a contract as the package has it: compiled with the settings of the default profile.
    function deployed(string memory name, bytes memory arguments) internal returns (address) {
        return vm.deployCode(string.concat("out/", name, ".sol/", name, ".json"), arguments);
    }

    function deployedValidators(address[] memory list, address owner) internal returns (Validators) {
        return Validators(deployed("Validators", abi.encode(list, owner)));
    }

    /// @dev Does through the timelock what an owner may do.
    function govern(address target, bytes memory data) internal {
        timelock.schedule(target, 0, data, 0, 0, TIMELOCK_DELAY);
        vm.warp(block.timestamp + TIMELOCK_DELAY);
        timelock.execute(target, 0, data, 0, 0);
    }

    function deposit(uint256 amount) internal {
        dollars.give(address(this), amount);
        dollars.approve(address(distributor), amount);
        distributor.deposit(address(this), amount);
    }

    function epochOf(uint64 epoch, bytes32 root, uint96 settlementTotal, uint96 tokenTotal)
        internal
        view
        returns (Distributor.Epoch memory)
    {
        return Distributor.Epoch(epoch, distributor.revision(), root, settlementTotal, tokenTotal, keccak256("archive"));
    }

    /// @dev Submits a root that the first three validators sign, and waits until it is active.
    function activate(uint64 epoch, bytes32 root, uint96 settlementTotal, uint96 tokenTotal) internal {
        Distributor.Epoch memory signed = epochOf(epoch, root, settlementTotal, tokenTotal);
        distributor.submit(signed, signatures(distributor.digestOf(signed), 3));
        vm.warp(block.timestamp + ACTIVATION_DELAY);
    }

    function signatures(bytes32 digest, uint256 count) internal view returns (bytes[] memory list) {
        list = new bytes[](count);
        for (uint256 i = 0; i < count; i++) {
            list[i] = signature(keys[i], digest);
        }
    }

    function signature(uint256 key, bytes32 digest) internal pure returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(key, digest);
        return abi.encodePacked(r, s, v);
    }

    function leafOf(address account, address asset, uint256 cumulative) internal pure returns (bytes32) {
        return keccak256(bytes.concat(keccak256(abi.encode(account, asset, cumulative))));
    }

    /// @dev The root of a tree in which `leaf` lies `depth` levels deep, and the way to it.
    function treeAround(bytes32 leaf, uint256 depth) internal pure returns (bytes32 root, bytes32[] memory proof) {
        proof = new bytes32[](depth);
        root = leaf;
        for (uint256 i = 0; i < depth; i++) {
            proof[i] = keccak256(abi.encode("sibling", i));
            root = pair(root, proof[i]);
        }
    }

    function pair(bytes32 a, bytes32 b) internal pure returns (bytes32) {
        return a < b ? keccak256(bytes.concat(a, b)) : keccak256(bytes.concat(b, a));
    }

    function claimsOf(Distributor.Claim memory one) internal pure returns (Distributor.Claim[] memory list) {
        list = new Distributor.Claim[](1);
        list[0] = one;
    }

    function bound(uint256 value, uint256 min, uint256 max) internal pure returns (uint256) {
        return min + value % (max - min + 1);
    }

    function assertEq(uint256 a, uint256 b) internal pure {
        if (a != b) revert NotEqual(a, b);
    }

    function assertTrue(bool condition) internal pure {
        if (!condition) revert NotTrue();
    }

    error NotEqual(uint256 a, uint256 b);
    error NotTrue();

    function _makeKeys(uint256 count) private {
        for (uint256 i = 1; i <= count; i++) {
            keys.push(uint256(keccak256(abi.encode("validator", i))));
        }
        for (uint256 i = 1; i < count; i++) {
            for (uint256 j = i; j > 0 && vm.addr(keys[j]) < vm.addr(keys[j - 1]); j--) {
                (keys[j], keys[j - 1]) = (keys[j - 1], keys[j]);
            }
        }
    }

    function _addresses() private view returns (address[] memory list) {
        list = new address[](keys.length);
        for (uint256 i = 0; i < keys.length; i++) {
            list[i] = vm.addr(keys[i]);
        }
    }
}
