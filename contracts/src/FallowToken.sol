// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {ERC3009} from "@openzeppelin/contracts/token/ERC20/extensions/draft-ERC3009.sol";
import {ERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Permit.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

/// @title The token that incentive policies mint for providers
/// @notice There is no sale: tokens come from `mint` alone, which only the distributor may call, for claims against roots
/// that a quorum of validators signed. Whoever burns tokens for credits names the account that gets them.
/// @dev 18 decimals. Burning makes no room for minting: `mintedTotal` never falls.
contract FallowToken is ERC20, ERC20Permit, ERC3009, Ownable {
    /// @notice The least that is burned for credits: every such burn is a record that the network keeps for ever.
    uint256 public constant BURN_MIN = 1e16;
    /// @notice Tokens that can ever be minted, burned ones included.
    uint96 public immutable mintedMax;
    /// @notice Who may mint; the zero address before the owner has named it.
    address public minter;
    /// @notice Tokens burned so far. It shares a slot with `minter`: each mint reads both.
    uint96 public burnedTotal;

    event MinterChanged(address indexed minter);
    event BurnedForCredits(address indexed from, address indexed account, uint256 amount);

    error NotMinter(address caller);
    error MintedMaxExceeded(uint256 mintedTotal, uint256 mintedMax);
    error BurnTooSmall(uint256 amount);

    /// @param timelock who owns the contract: a TimelockController
    constructor(string memory name, string memory symbol, uint96 mintedMax_, address timelock)
        ERC20(name, symbol)
        ERC20Permit(name)
        Ownable(timelock)
    {
        mintedMax = mintedMax_;
    }

    /// @notice Names the contract that may mint.
    function setMinter(address minter_) external onlyOwner {
        minter = minter_;
        emit MinterChanged(minter_);
    }

    /// @notice Tokens minted so far, burned ones included.
    function mintedTotal() public view returns (uint256) {
        return totalSupply() + burnedTotal;
    }

    /// @notice Mints `amount` for `to`, within `mintedMax`.
    /// @return minted what was minted so far, this included
    function mint(address to, uint256 amount) external returns (uint256 minted) {
        if (msg.sender != minter) revert NotMinter(msg.sender);
        _mint(to, amount);
        minted = mintedTotal();
        if (minted > mintedMax) revert MintedMaxExceeded(minted, mintedMax);
    }

    /// @notice Burns the caller's own tokens, without getting anything for them.
    function burn(uint256 amount) public {
        burnedTotal += SafeCast.toUint96(amount);
        _burn(msg.sender, amount);
    }

    /// @notice Burns the caller's own tokens for credits of `account`. The network counts the event and gives the credits
    /// at its guarded price; burned credits cannot be withdrawn.
    function burnForCredits(uint256 amount, address account) external {
        if (amount < BURN_MIN) revert BurnTooSmall(amount);
        burn(amount);
        emit BurnedForCredits(msg.sender, account, amount);
    }
}
