// Builds OpenZeppelin's standard tree of as many leaves as the argument says, and prints the root and the seconds it took.
const { StandardMerkleTree } = require("@openzeppelin/merkle-tree");

const count = Number(process.argv[2]);
const asset = "0x" + "aa".repeat(20);
const entries = [];
for (let number = 1; number <= count; number++) {
  entries.push(["0x" + number.toString(16).padStart(40, "0"), asset, String(number * 1000)]);
}
const began = process.hrtime.bigint();
const tree = StandardMerkleTree.of(entries, ["address", "address", "uint256"]);
const seconds = Number(process.hrtime.bigint() - began) / 1e9;
console.log(JSON.stringify({ root: tree.root.slice(2), seconds }));
