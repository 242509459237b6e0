// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";

/// @dev A settlement asset with 6 decimals.
contract Dollars is ERC20("Dollars", "USD") {
    function decimals() public pure override returns (uint8) {
        return 6;
    }

    function give(address to, uint256 amount) external {
        _mint(to, amount);
    }
}
