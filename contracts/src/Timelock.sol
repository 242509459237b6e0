// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

// OpenZeppelin's, unchanged: it is named here so that it is compiled with the others.
import {TimelockController} from "@openzeppelin/contracts/governance/TimelockController.sol";
