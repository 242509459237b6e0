// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {ERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Permit.sol";

/// @title The settlement asset of a network on its own chain: play money of six decimals, worth nothing
/// @notice The network's operator gives it to whom it likes. On a public chain a stablecoin takes its place.
contract TestDollars is ERC20, ERC20Permit, Ownable {
    constructor(address operator) ERC20("Test Dollars", "TEST") ERC20Permit("Test Dollars") Ownable(operator) {}

    function decimals() public pure override returns (uint8) {
        return 6;
    }

    function give(address to, uint256 amount) external onlyOwner {
        _mint(to, amount);
    }
}
