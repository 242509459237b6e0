// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";

/// @title The validators of a network, and how many of them must sign
/// @notice Of n > 3f validators more than (n + f) / 2 must sign, where f is the largest number that n allows; with n = 3f+1
/// that is 2f+1. Any two such quorums have an honest validator in common as long as at most f are not.
contract Validators is Ownable {
    uint256 public constant VALIDATORS_MAX = 31;

    mapping(address validator => bool) public isValidator;
    address[] private _validators;

    event ValidatorsChanged(address[] validators, uint256 quorum);

    error NoValidators();
    error TooManyValidators(uint256 count);
    error ValidatorTwice(address validator);
    error TooFewSignatures(uint256 count, uint256 quorum);
    error NotAValidator(address signer);
    error SignersNotAscending(address signer);

    constructor(address[] memory validators, address timelock) Ownable(timelock) {
        _set(validators);
    }

    /// @notice The validators, in the order in which they were set.
    function list() external view returns (address[] memory) {
        return _validators;
    }

    /// @notice How many of them must sign.
    function quorum() public view returns (uint256) {
        uint256 n = _validators.length;
        return (n + (n - 1) / 3) / 2 + 1;
    }

    /// @notice Replaces all validators.
    function set(address[] calldata validators) external onlyOwner {
        for (uint256 i = 0; i < _validators.length; i++) {
            isValidator[_validators[i]] = false;
        }
        _set(validators);
    }

    /// @notice Reverts unless a quorum signed `digest`. Signatures stand in ascending order of their signers' addresses, so
    /// that none counts twice.
    function check(bytes32 digest, bytes[] calldata signatures) external view {
        uint256 needed = quorum();
        if (signatures.length < needed) revert TooFewSignatures(signatures.length, needed);
        address last = address(0);
        for (uint256 i = 0; i < signatures.length; i++) {
            address signer = ECDSA.recoverCalldata(digest, signatures[i]);
            if (signer <= last) revert SignersNotAscending(signer);
            if (!isValidator[signer]) revert NotAValidator(signer);
            last = signer;
        }
    }

    function _set(address[] memory validators) private {
        if (validators.length == 0) revert NoValidators();
        if (validators.length > VALIDATORS_MAX) revert TooManyValidators(validators.length);
        for (uint256 i = 0; i < validators.length; i++) {
            if (isValidator[validators[i]]) revert ValidatorTwice(validators[i]);
            isValidator[validators[i]] = true;
        }
        _validators = validators;
        emit ValidatorsChanged(validators, quorum());
    }
}
