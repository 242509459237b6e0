// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";

/// @title Stake of providers and validators, their own and what others delegate to them
/// @notice Every operator has one pool. Who stakes gets shares of it; a slash takes from all shares alike, of what is
/// unbonding, too. A slash is announced with its reason and evidence, can be stopped by the guardian for a while, and only
/// then takes effect; until it is settled nothing enters or leaves the pool.
/// @dev Slashed tokens go to `slashed`, which the network's policy names (an address nobody holds, or a fund).
contract StakeVault is Ownable, ReentrancyGuardTransient {
    using SafeERC20 for IERC20;

    uint256 public constant UNBONDINGS_MAX = 32;
    /// @notice The least that is staked at once: every stake is a record that the network keeps for ever.
    uint256 public constant STAKE_MIN = 1e16;
    /// @dev Shares that nobody holds, so that the first who stakes cannot make a share so dear that others' round to none.
    uint256 private constant SHARES_OFFSET = 1e6;

    /// @param staked tokens that count as stake
    /// @param shares of `staked`
    /// @param leaving tokens that are unbonding
    /// @param leavingShares of `leaving`
    /// @param slashes announced and not settled
    struct Pool {
        uint256 staked;
        uint256 shares;
        uint256 leaving;
        uint256 leavingShares;
        uint256 slashes;
    }

    struct Unbonding {
        uint256 shares;
        uint64 releasedAt;
    }

    /// @param share of the pool in millionths
    struct Slash {
        address operator;
        uint32 share;
        uint64 takesEffectAt;
        bytes32 reason;
        bytes32 evidence;
    }

    IERC20 public immutable token;
    address public immutable slashed;

    /// @notice Who may announce a slash.
    address public slasher;
    /// @notice Who may stop one before it takes effect.
    address public guardian;
    /// @notice Seconds from `unbond` until the tokens can be taken. Never shorter than `appealDelay`.
    uint64 public unbondingDelay;
    /// @notice Seconds from the announcement of a slash until it takes effect.
    uint64 public appealDelay;

    mapping(address operator => Pool) public pools;
    mapping(address operator => mapping(address holder => uint256)) public sharesOf;
    mapping(address operator => mapping(address holder => Unbonding[])) private _unbondings;
    Slash[] private _slashes;

    event Staked(address indexed operator, address indexed holder, uint256 amount, uint256 shares);
    event Unbonded(
        address indexed operator, address indexed holder, uint256 amount, uint256 shares, uint64 releasedAt
    );
    event Released(address indexed operator, address indexed holder, uint256 amount);
    event SlashAnnounced(
        uint256 indexed id, address indexed operator, uint32 share, bytes32 reason, bytes32 evidence, uint64 takesEffectAt
    );
    event SlashStopped(uint256 indexed id);
    event SlashTaken(uint256 indexed id, address indexed operator, uint256 fromStaked, uint256 fromLeaving);
    event SlasherChanged(address indexed slasher);
    event GuardianChanged(address indexed guardian);
    event DelaysChanged(uint64 unbondingDelay, uint64 appealDelay);

    error StakeTooSmall(uint256 amount);
    error TooFewShares(uint256 shares, uint256 held);
    error TooManyUnbondings();
    error NothingReleased();
    error SlashPending(address operator);
    error NotSlasher(address caller);
    error NotGuardian(address caller);
    error ShareOutOfRange(uint32 share);
    error SlashUnknown(uint256 id);
    error SlashNotYet(uint256 id, uint64 takesEffectAt);
    error UnbondingShorterThanAppeal(uint64 unbondingDelay, uint64 appealDelay);

    constructor(
        IERC20 token_,
        address slashed_,
        address slasher_,
        address guardian_,
        uint64 unbondingDelay_,
        uint64 appealDelay_,
        address timelock
    ) Ownable(timelock) {
        token = token_;
        slashed = slashed_;
        _setSlasher(slasher_);
        _setGuardian(guardian_);
        _setDelays(unbondingDelay_, appealDelay_);
    }

    /// @notice Stakes `amount` with `operator`: one's own stake where that is the caller, a delegation otherwise.
    function stake(address operator, uint256 amount) external nonReentrant returns (uint256 shares) {
        Pool storage pool = pools[operator];
        if (pool.slashes > 0) revert SlashPending(operator);
        if (amount < STAKE_MIN) revert StakeTooSmall(amount);
        shares = _sharesFor(amount, pool.staked, pool.shares);
        pool.staked += amount;
        pool.shares += shares;
        sharesOf[operator][msg.sender] += shares;
        emit Staked(operator, msg.sender, amount, shares);
        token.safeTransferFrom(msg.sender, address(this), amount);
    }

    /// @notice Begins to take `shares` out. They stop to count as stake at once, and can be slashed until they are released.
    function unbond(address operator, uint256 shares) external returns (uint256 amount) {
        uint256 held = sharesOf[operator][msg.sender];
        if (shares == 0 || shares > held) revert TooFewShares(shares, held);
        Unbonding[] storage mine = _unbondings[operator][msg.sender];
        if (mine.length == UNBONDINGS_MAX) revert TooManyUnbondings();
        Pool storage pool = pools[operator];
        amount = _tokensFor(shares, pool.staked, pool.shares);
        uint256 leavingShares = _sharesFor(amount, pool.leaving, pool.leavingShares);
        pool.staked -= amount;
        pool.shares -= shares;
        pool.leaving += amount;
        pool.leavingShares += leavingShares;
        sharesOf[operator][msg.sender] = held - shares;
        uint64 releasedAt = uint64(block.timestamp) + unbondingDelay;
        mine.push(Unbonding(leavingShares, releasedAt));
        emit Unbonded(operator, msg.sender, amount, shares, releasedAt);
    }

    /// @notice Pays out what has been unbonding for long enough.
    function release(address operator) external nonReentrant returns (uint256 amount) {
        Pool storage pool = pools[operator];
        if (pool.slashes > 0) revert SlashPending(operator);
        uint256 shares = _takeReleased(_unbondings[operator][msg.sender]);
        if (shares == 0) revert NothingReleased();
        amount = _tokensFor(shares, pool.leaving, pool.leavingShares);
        pool.leaving -= amount;
        pool.leavingShares -= shares;
        emit Released(operator, msg.sender, amount);
        token.safeTransfer(msg.sender, amount);
    }

    /// @notice Announces that `share` millionths of an operator's pool will be taken.
    /// @param reason the reason code, as in the network's records
    /// @param evidence the hash of what shows it
    function announceSlash(address operator, uint32 share, bytes32 reason, bytes32 evidence)
        external
        returns (uint256 id)
    {
        if (msg.sender != slasher) revert NotSlasher(msg.sender);
        if (share == 0 || share > 1e6) revert ShareOutOfRange(share);
        id = _slashes.length;
        uint64 takesEffectAt = uint64(block.timestamp) + appealDelay;
        _slashes.push(Slash(operator, share, takesEffectAt, reason, evidence));
        pools[operator].slashes++;
        emit SlashAnnounced(id, operator, share, reason, evidence, takesEffectAt);
    }

    /// @notice Stops a slash that was announced and did not take effect yet.
    function stopSlash(uint256 id) external {
        if (msg.sender != guardian) revert NotGuardian(msg.sender);
        _settle(id);
        emit SlashStopped(id);
    }

    /// @notice Takes what was announced, after the delay. Anybody may send it.
    function takeSlash(uint256 id) external nonReentrant {
        if (id >= _slashes.length) revert SlashUnknown(id);
        uint64 takesEffectAt = _slashes[id].takesEffectAt;
        if (takesEffectAt > block.timestamp) revert SlashNotYet(id, takesEffectAt);
        Slash memory slash = _settle(id);
        Pool storage pool = pools[slash.operator];
        uint256 fromStaked = Math.mulDiv(pool.staked, slash.share, 1e6);
        uint256 fromLeaving = Math.mulDiv(pool.leaving, slash.share, 1e6);
        pool.staked -= fromStaked;
        pool.leaving -= fromLeaving;
        emit SlashTaken(id, slash.operator, fromStaked, fromLeaving);
        token.safeTransfer(slashed, fromStaked + fromLeaving);
    }

    /// @notice Tokens that `holder` has at stake with `operator`.
    function stakeOf(address operator, address holder) external view returns (uint256) {
        Pool storage pool = pools[operator];
        return _tokensFor(sharesOf[operator][holder], pool.staked, pool.shares);
    }

    /// @notice What `holder` is taking out of the pool of `operator`.
    function unbondings(address operator, address holder) external view returns (Unbonding[] memory) {
        return _unbondings[operator][holder];
    }

    /// @notice An announced slash; all zero once it was taken or stopped.
    function slashOf(uint256 id) external view returns (Slash memory) {
        if (id >= _slashes.length) revert SlashUnknown(id);
        return _slashes[id];
    }

    function setSlasher(address slasher_) external onlyOwner {
        _setSlasher(slasher_);
    }

    function setGuardian(address guardian_) external onlyOwner {
        _setGuardian(guardian_);
    }

    function setDelays(uint64 unbondingDelay_, uint64 appealDelay_) external onlyOwner {
        _setDelays(unbondingDelay_, appealDelay_);
    }

    function _settle(uint256 id) private returns (Slash memory slash) {
        if (id >= _slashes.length) revert SlashUnknown(id);
        slash = _slashes[id];
        if (slash.operator == address(0)) revert SlashUnknown(id);
        delete _slashes[id];
        pools[slash.operator].slashes--;
    }

    function _takeReleased(Unbonding[] storage mine) private returns (uint256 shares) {
        for (uint256 i = mine.length; i > 0; i--) {
            Unbonding memory one = mine[i - 1];
            if (one.releasedAt > block.timestamp) continue;
            shares += one.shares;
            mine[i - 1] = mine[mine.length - 1];
            mine.pop();
        }
    }

    function _sharesFor(uint256 amount, uint256 tokens, uint256 shares) private pure returns (uint256) {
        return Math.mulDiv(amount, shares + SHARES_OFFSET, tokens + 1);
    }

    function _tokensFor(uint256 shares, uint256 tokens, uint256 allShares) private pure returns (uint256) {
        return Math.mulDiv(shares, tokens + 1, allShares + SHARES_OFFSET);
    }

    function _setSlasher(address slasher_) private {
        slasher = slasher_;
        emit SlasherChanged(slasher_);
    }

    function _setGuardian(address guardian_) private {
        guardian = guardian_;
        emit GuardianChanged(guardian_);
    }

    function _setDelays(uint64 unbondingDelay_, uint64 appealDelay_) private {
        if (unbondingDelay_ < appealDelay_) revert UnbondingShorterThanAppeal(unbondingDelay_, appealDelay_);
        unbondingDelay = unbondingDelay_;
        appealDelay = appealDelay_;
        emit DelaysChanged(unbondingDelay_, appealDelay_);
    }
}
