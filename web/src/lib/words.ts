import { en, type Words } from "../words/en";
import { ja } from "../words/ja";
import { look } from "./look.svelte";

/** The sentences in the reader's tongue. */
export const words = (): Words => (look.tongue === "ja" ? ja : en);
