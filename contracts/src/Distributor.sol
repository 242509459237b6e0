// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {MerkleProof} from "@openzeppelin/contracts/utils/cryptography/MerkleProof.sol";
import {SignatureChecker} from "@openzeppelin/contracts/utils/cryptography/SignatureChecker.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {Nonces} from "@openzeppelin/contracts/utils/Nonces.sol";
import {FallowToken} from "./FallowToken.sol";
import {Validators} from "./Validators.sol";

/// @title Holds what backs paid credits, and pays what the roots of closed epochs say
/// @notice A root commits to one leaf (account, asset, cumulative amount) for every account and asset, in OpenZeppelin's
/// standard tree. A claim pays what its leaf holds more than was paid before. The settlement asset leaves this contract by
/// claims alone, a buyer's withdrawal included; tokens are minted by claims.
/// @dev The owner is a TimelockController. It changes parameters, never a root, a claim or a balance.
contract Distributor is Ownable, EIP712, Nonces {
    using SafeERC20 for IERC20;

    bytes32 public constant ROOT_TYPEHASH = keccak256(
        "Root(uint64 epoch,uint64 revision,bytes32 root,uint96 settlementTotal,uint96 tokenTotal,bytes32 archive)"
    );
    bytes32 public constant WITHDRAWAL_TYPEHASH = keccak256("Withdrawal(uint64 epoch,uint64 revision)");
    bytes32 public constant REDIRECTION_TYPEHASH =
        keccak256("Redirection(address account,address recipient,bytes32 claims,uint256 nonce,uint256 deadline)");

    /// @notice What validators sign about an epoch. Totals are the sums of the leaves of one asset, since the first epoch.
    /// @param revision see `revision()`: a root that was withdrawn cannot be sent again
    /// @param archive the hash of the epoch's statement
    struct Epoch {
        uint64 epoch;
        uint64 revision;
        bytes32 root;
        uint96 settlementTotal;
        uint96 tokenTotal;
        bytes32 archive;
    }

    /// @dev Two slots: whoever claims pays for each that is read. 96 bits hold 79 billion units of 18 decimals.
    /// @param gap epochs since the root before
    struct Root {
        bytes32 root;
        uint40 activatesAt;
        uint24 gap;
        uint96 settlementTotal;
        uint96 tokenTotal;
    }

    struct Claim {
        uint64 epoch;
        address account;
        address asset;
        uint256 cumulative;
        bytes32[] proof;
    }

    /// @notice The least deposit: every deposit is a record that the network keeps for ever. No withdrawal is smaller either.
    uint256 public constant DEPOSIT_MIN = 10_000;

    IERC20 public immutable settlement;
    FallowToken public immutable token;
    Validators public immutable validators;

    /// @notice Who can withdraw a root before it is active.
    address public guardian;
    /// @notice Seconds from a root's submission until claims count on it.
    uint40 public activationDelay;
    /// @notice Tokens that one root can add to the total of the one before.
    uint96 public epochMintMax;

    /// @notice The newest epoch that has a root.
    uint64 public lastEpoch;
    /// @notice Counts withdrawals. A signature holds for one revision only.
    uint64 public revision;
    mapping(uint64 epoch => Root) public roots;
    /// @notice What was deposited of the settlement asset so far.
    uint256 public deposited;
    mapping(address account => mapping(address asset => uint256 amount)) public claimed;

    event Deposited(address indexed from, address indexed account, uint256 amount);
    event RootSubmitted(
        uint64 indexed epoch,
        bytes32 root,
        bytes32 archive,
        uint96 settlementTotal,
        uint96 tokenTotal,
        uint40 activatesAt
    );
    event RootsWithdrawn(uint64 indexed fromEpoch, uint64 toEpoch, uint64 revision);
    /// @dev What was paid, and to whom, is in the transfer that follows.
    event Claimed(address indexed account, address indexed asset, uint256 cumulative);
    event GuardianChanged(address indexed guardian);
    event ActivationDelayChanged(uint40 activationDelay);
    event EpochMintMaxChanged(uint96 epochMintMax);

    error DepositTooSmall(uint256 amount);
    error EpochNotNew(uint64 epoch, uint64 lastEpoch);
    error WrongRevision(uint64 revision, uint64 current);
    error TotalFell(uint96 total, uint96 previous);
    error NotFunded(uint96 total, uint256 deposited);
    error EpochMintMaxExceeded(uint96 minted, uint96 epochMintMax);
    error NotGuardian(address caller);
    error RootUnknown(uint64 epoch);
    error RootActive(uint64 epoch);
    error RootNotActive(uint64 epoch, uint40 activatesAt);
    error ProofInvalid(address account, address asset);
    error AssetUnknown(address asset);
    error TotalExceeded(address asset);
    error NotTheAccount(address account);
    error RecipientMissing();
    error RedirectionExpired(uint256 deadline);
    error RedirectionInvalid(address account);

    constructor(
        IERC20 settlement_,
        FallowToken token_,
        Validators validators_,
        address guardian_,
        uint40 activationDelay_,
        uint96 epochMintMax_,
        address timelock
    ) Ownable(timelock) EIP712("Fallow Distributor", "1") {
        settlement = settlement_;
        token = token_;
        validators = validators_;
        _setGuardian(guardian_);
        _setActivationDelay(activationDelay_);
        _setEpochMintMax(epochMintMax_);
    }

    /// @notice Takes the settlement asset for paid credits of `account`.
    function deposit(address account, uint256 amount) external {
        if (amount < DEPOSIT_MIN) revert DepositTooSmall(amount);
        deposited += amount;
        settlement.safeTransferFrom(msg.sender, address(this), amount);
        emit Deposited(msg.sender, account, amount);
    }

    /// @notice What claims paid of the settlement asset so far, less what was sent here without a deposit. What they paid in
    /// tokens is what was minted.
    function settlementPaid() public view returns (uint256) {
        uint256 held = settlement.balanceOf(address(this));
        return held < deposited ? deposited - held : 0;
    }

    /// @notice Takes the root of a new epoch that a quorum of validators signed. Anybody may send it.
    function submit(Epoch calldata signed, bytes[] calldata signatures) external {
        if (signed.epoch <= lastEpoch) revert EpochNotNew(signed.epoch, lastEpoch);
        if (signed.revision != revision) revert WrongRevision(signed.revision, revision);
        validators.check(digestOf(signed), signatures);
        _checkTotals(signed, roots[lastEpoch]);
        uint40 activatesAt = uint40(block.timestamp) + activationDelay;
        uint24 gap = SafeCast.toUint24(signed.epoch - lastEpoch);
        roots[signed.epoch] = Root(signed.root, activatesAt, gap, signed.settlementTotal, signed.tokenTotal);
        lastEpoch = signed.epoch;
        emit RootSubmitted(
            signed.epoch, signed.root, signed.archive, signed.settlementTotal, signed.tokenTotal, activatesAt
        );
    }

    /// @notice What validators sign for an epoch.
    function digestOf(Epoch calldata signed) public view returns (bytes32) {
        return _hashTypedDataV4(
            keccak256(
                abi.encode(
                    ROOT_TYPEHASH,
                    signed.epoch,
                    signed.revision,
                    signed.root,
                    signed.settlementTotal,
                    signed.tokenTotal,
                    signed.archive
                )
            )
        );
    }

    /// @notice Takes back the root of `epoch`, which is not active yet, and all that came after it. By the guardian.
    function withdraw(uint64 epoch) external {
        if (msg.sender != guardian) revert NotGuardian(msg.sender);
        _withdraw(epoch);
    }

    /// @notice As the other of this name, by a quorum of validators.
    function withdraw(uint64 epoch, bytes[] calldata signatures) external {
        validators.check(
            _hashTypedDataV4(keccak256(abi.encode(WITHDRAWAL_TYPEHASH, epoch, revision))), signatures
        );
        _withdraw(epoch);
    }

    /// @notice Pays each account what its leaf holds more than it got. Anybody may send it: the money goes to the accounts.
    /// A leaf of an older epoch than was claimed pays nothing and reverts nothing.
    function claim(Claim[] calldata claims) external {
        for (uint256 i = 0; i < claims.length; i++) {
            _claim(claims[i], claims[i].account);
        }
    }

    /// @notice Pays the caller's own claims to `recipient`.
    function claimTo(Claim[] calldata claims, address recipient) external {
        _claimAll(claims, msg.sender, recipient);
    }

    /// @notice Pays the claims of `account` to the recipient that it signed. Anybody may send it.
    /// @param signature over these very claims, with the account's nonce and a deadline
    function claimTo(
        Claim[] calldata claims,
        address account,
        address recipient,
        uint256 deadline,
        bytes calldata signature
    ) external {
        if (block.timestamp > deadline) revert RedirectionExpired(deadline);
        bytes32 digest = _hashTypedDataV4(
            keccak256(
                abi.encode(
                    REDIRECTION_TYPEHASH,
                    account,
                    recipient,
                    keccak256(abi.encode(claims)),
                    _useNonce(account),
                    deadline
                )
            )
        );
        if (!SignatureChecker.isValidSignatureNowCalldata(account, digest, signature)) {
            revert RedirectionInvalid(account);
        }
        _claimAll(claims, account, recipient);
    }

    function setGuardian(address guardian_) external onlyOwner {
        _setGuardian(guardian_);
    }

    /// @notice Changes the delay of roots that are submitted from now on.
    function setActivationDelay(uint40 activationDelay_) external onlyOwner {
        _setActivationDelay(activationDelay_);
    }

    function setEpochMintMax(uint96 epochMintMax_) external onlyOwner {
        _setEpochMintMax(epochMintMax_);
    }

    function _checkTotals(Epoch calldata signed, Root storage previous) private view {
        if (signed.settlementTotal < previous.settlementTotal) {
            revert TotalFell(signed.settlementTotal, previous.settlementTotal);
        }
        if (signed.tokenTotal < previous.tokenTotal) revert TotalFell(signed.tokenTotal, previous.tokenTotal);
        uint96 minted = signed.tokenTotal - previous.tokenTotal;
        if (minted > epochMintMax) revert EpochMintMaxExceeded(minted, epochMintMax);
        if (signed.settlementTotal > deposited) revert NotFunded(signed.settlementTotal, deposited);
    }

    function _withdraw(uint64 epoch) private {
        Root storage first = roots[epoch];
        if (first.activatesAt == 0) revert RootUnknown(epoch);
        if (first.activatesAt <= block.timestamp) revert RootActive(epoch);
        uint64 to = lastEpoch;
        uint64 previous = epoch - first.gap;
        uint64 current = to;
        while (current != previous) {
            uint64 gap = roots[current].gap;
            delete roots[current];
            current -= gap;
        }
        lastEpoch = previous;
        revision++;
        emit RootsWithdrawn(epoch, to, revision);
    }

    function _claimAll(Claim[] calldata claims, address account, address recipient) private {
        if (recipient == address(0)) revert RecipientMissing();
        for (uint256 i = 0; i < claims.length; i++) {
            if (claims[i].account != account) revert NotTheAccount(claims[i].account);
            _claim(claims[i], recipient);
        }
    }

    function _claim(Claim calldata one, address recipient) private {
        Root storage root = roots[one.epoch];
        uint40 activatesAt = root.activatesAt;
        if (activatesAt == 0) revert RootUnknown(one.epoch);
        if (activatesAt > block.timestamp) revert RootNotActive(one.epoch, activatesAt);
        bytes32 leaf = keccak256(bytes.concat(keccak256(abi.encode(one.account, one.asset, one.cumulative))));
        if (!MerkleProof.verifyCalldata(one.proof, root.root, leaf)) revert ProofInvalid(one.account, one.asset);

        uint256 before = claimed[one.account][one.asset];
        if (one.cumulative <= before) return;
        uint256 amount = one.cumulative - before;
        claimed[one.account][one.asset] = one.cumulative;
        emit Claimed(one.account, one.asset, one.cumulative);
        if (one.asset == address(token)) _payTokens(recipient, amount, root);
        else if (one.asset == address(settlement)) _paySettlement(recipient, amount, root);
        else revert AssetUnknown(one.asset);
    }

    /// @dev All claims together pay no more than the signed total, whatever leaves a root holds. Where an older root is
    /// claimed against, what newer ones allowed may have been paid already: then the newest active one counts.
    function _payTokens(address recipient, uint256 amount, Root storage root) private {
        uint256 paid = token.mint(recipient, amount);
        if (paid > root.tokenTotal && paid > _newestActive().tokenTotal) revert TotalExceeded(address(token));
    }

    function _paySettlement(address recipient, uint256 amount, Root storage root) private {
        uint256 paid = settlementPaid() + amount;
        if (paid > root.settlementTotal && paid > _newestActive().settlementTotal) {
            revert TotalExceeded(address(settlement));
        }
        settlement.safeTransfer(recipient, amount);
    }

    function _newestActive() private view returns (Root storage root) {
        uint64 epoch = lastEpoch;
        root = roots[epoch];
        while (root.activatesAt > block.timestamp) {
            epoch -= root.gap;
            root = roots[epoch];
        }
    }

    function _setGuardian(address guardian_) private {
        guardian = guardian_;
        emit GuardianChanged(guardian_);
    }

    function _setActivationDelay(uint40 activationDelay_) private {
        activationDelay = activationDelay_;
        emit ActivationDelayChanged(activationDelay_);
    }

    function _setEpochMintMax(uint96 epochMintMax_) private {
        epochMintMax = epochMintMax_;
        emit EpochMintMaxChanged(epochMintMax_);
    }
}
